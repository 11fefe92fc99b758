import CLinux

/// The allowlist as a BPF program, made once by libseccomp and loaded by each worker on itself.
///
/// Any filter costs about 40 ns a call, one that compares arguments 60. Neither priorities nor
/// SCMP_FLTATR_CTL_OPTIMIZE changed that measurably, so neither is used.
struct SandboxFilter: ~Copyable, Sendable {
    private let program: Mapping
    private let flags: UInt32

    /// denied: what happens on a call that is not allowed.
    init(allowing block: DescriptorRange, denied action: UInt32) throws(Errno) {
        guard let context = seccomp_init(action) else {
            throw fail(ENOMEM, "seccomp_init: out of memory, or libseccomp does not know action \(hex: UInt64(action))")
        }
        defer { seccomp_release(context) }
        // A call through another ABI (int 0x80, x32) has other numbers: as bad as any other.
        try Self.check(seccomp_attr_set(context, SCMP_FLTATR_ACT_BADARCH, action))
        let rules = SandboxRule.all
        for index in rules.indices {
            guard let number = rules[index].number else { continue }
            try Self.check(Self.add(rules[index], number, block, to: context))
        }
        program = try Self.export(context)
        var flags = CL_SECCOMP_FILTER_FLAG_SPEC_ALLOW
        if action == SCMP_ACT_NOTIFY { flags |= CL_SECCOMP_FILTER_FLAG_NEW_LISTENER }
        self.flags = flags
    }

    /// For the calling thread alone. The listener's descriptor with SCMP_ACT_NOTIFY, else 0; -errno.
    func load() -> Int32 {
        cl_seccomp_set_filter(flags, program.base, UInt16(program.length / CL_SOCK_FILTER_SIZE))
    }

    private static func add(
        _ rule: SandboxRule, _ number: Int32, _ block: DescriptorRange, to context: scmp_filter_ctx
    ) -> Int32 {
        // The kernel takes an unsigned int, so the upper half of the register does not count.
        let mask = UInt64(0xffff_ffff & ~UInt32(block.count - 1))
        let descriptor = cl_scmp_masked_equal(0, mask, UInt64(block.base))
        guard let constant = rule.constant else {
            return rule.descriptor
                ? cl_scmp_rule_add1(context, CL_SCMP_ACT_ALLOW, number, descriptor)
                : cl_scmp_rule_add0(context, CL_SCMP_ACT_ALLOW, number)
        }
        let equal = cl_scmp_masked_equal(constant.argument, constant.mask, constant.value)
        return rule.descriptor
            ? cl_scmp_rule_add2(context, CL_SCMP_ACT_ALLOW, number, descriptor, equal)
            : cl_scmp_rule_add1(context, CL_SCMP_ACT_ALLOW, number, equal)
    }

    private static func export(_ context: scmp_filter_ctx) throws(Errno) -> Mapping {
        let file = Descriptor(owning: try checked(cl_memfd_create("guestram-seccomp", CL_MFD_CLOEXEC)))
        try check(seccomp_export_bpf(context, file.raw))
        let length = Int(try checked(Int(cl_lseek(file.raw, 0, SEEK_END))))
        return try Mapping(
            length: length, protection: PROT_READ, flags: MAP_PRIVATE, descriptor: file.raw, offset: 0)
    }

    private static func check(_ result: Int32) throws(Errno) {
        if result < 0 { throw fail(-result, "libseccomp could not build the filter: \(Errno(-result))") }
    }
}
