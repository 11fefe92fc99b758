import CLinux

/// One line of the allowlist: a system call, and what its arguments must be. The filter and the
/// text that shows it are both made from the table below.
struct SandboxRule {
    /// An argument that must be `value` in the bits of `mask`: those that the kernel looks at.
    struct Constant {
        let argument: UInt32
        let value: UInt64
        let mask: UInt64
        let name: StaticString
    }

    let call: StaticString
    /// Argument 0 must be a number of the workers' DescriptorBlock.
    let descriptor: Bool
    let constant: Constant?
    /// Of a call that Debian 12's libseccomp does not know yet.
    var known: Int32? = nil

    /// The call's number; nil on an architecture that does not have it.
    var number: Int32? {
        if let known { return known }
        let name = UnsafeRawPointer(call.utf8Start).assumingMemoryBound(to: CChar.self)
        let number = seccomp_syscall_resolve_name(name)
        return number >= 0 ? number : nil
    }

    /// What workers and fillers do, no more; the calls on ranges (MOVE, ...) run in the VMM's threads.
    static var all: InlineArray<29, SandboxRule> {
        [
            // Faults: messages in, pages out.
            request(UInt64(CL_UFFDIO_CONTINUE), "UFFDIO_CONTINUE"),
            request(UInt64(CL_UFFDIO_COPY), "UFFDIO_COPY"),
            request(UInt64(CL_UFFDIO_ZEROPAGE), "UFFDIO_ZEROPAGE"),
            request(UInt64(CL_UFFDIO_WAKE), "UFFDIO_WAKE"),
            request(UInt64(CL_UFFDIO_WRITEPROTECT), "UFFDIO_WRITEPROTECT"),
            request(UInt64(CL_UFFDIO_POISON), "UFFDIO_POISON"),
            request(UInt64(CL_UFFDIO_UNREGISTER), "UFFDIO_UNREGISTER"),
            onDescriptor("read"),
            // Sources, and memory that is filled through its file.
            onDescriptor("preadv2"),
            onDescriptor("pread64"),
            // Is a part of the snapshot in memory?
            SandboxRule(
                call: "cachestat", descriptor: true, constant: nil, known: CL_SYS_CACHESTAT),
            SandboxRule(
                call: "fadvise64", descriptor: true,
                constant: int(3, UInt64(POSIX_FADV_WILLNEED), "POSIX_FADV_WILLNEED")),
            onDescriptor("pwrite64"),
            advice(CL_MADV_POPULATE_READ, "MADV_POPULATE_READ"),
            advice(CL_MADV_POPULATE_WRITE, "MADV_POPULATE_WRITE"),
            plain("mincore"),  // is a huge page there, or is the pool empty
            advice(MADV_DONTNEED, "MADV_DONTNEED"),  // and glibc, for the stack of a thread that ends
            SandboxRule(
                call: "fallocate", descriptor: true,
                constant: int(
                    1, UInt64(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE),
                    "FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE")),
            // Waiting, and telling others.
            futex(FUTEX_WAIT | FUTEX_PRIVATE_FLAG, "FUTEX_WAIT_PRIVATE"),
            futex(FUTEX_WAKE | FUTEX_PRIVATE_FLAG, "FUTEX_WAKE_PRIVATE"),
            // With a signal mask it could let the VMM's handlers run here.
            SandboxRule(
                call: "epoll_pwait2", descriptor: true,
                constant: Constant(argument: 4, value: 0, mask: .max, name: "NULL")),
            // Of any descriptor it tells that it can be read, and no more.
            SandboxRule(
                call: "ppoll", descriptor: false,
                constant: Constant(argument: 3, value: 0, mask: .max, name: "NULL")),
            onDescriptor("write"),  // eventfds
            plain("sched_yield"),
            plain("clock_nanosleep"),
            plain("clock_gettime"),  // where the vDSO cannot answer
            plain("restart_syscall"),  // what the kernel makes of an interrupted sleep (SIGSTOP, ptrace)
            // The end of a thread in glibc blocks signals first. To unblock is not allowed.
            SandboxRule(
                call: "rt_sigprocmask", descriptor: false,
                constant: int(0, UInt64(SIG_BLOCK), "SIG_BLOCK")),
            plain("exit"),
        ]
    }

    private static func plain(_ call: StaticString) -> SandboxRule {
        SandboxRule(call: call, descriptor: false, constant: nil)
    }
    private static func onDescriptor(_ call: StaticString) -> SandboxRule {
        SandboxRule(call: call, descriptor: true, constant: nil)
    }
    /// The kernel reads an int or unsigned int: the upper half of the register does not count.
    private static func int(_ argument: UInt32, _ value: UInt64, _ name: StaticString) -> Constant {
        Constant(argument: argument, value: value, mask: 0xffff_ffff, name: name)
    }
    private static func request(_ number: UInt64, _ name: StaticString) -> SandboxRule {
        SandboxRule(call: "ioctl", descriptor: true, constant: int(1, number, name))
    }
    private static func advice(_ advice: Int32, _ name: StaticString) -> SandboxRule {
        SandboxRule(call: "madvise", descriptor: false, constant: int(2, UInt64(advice), name))
    }
    private static func futex(_ operation: Int32, _ name: StaticString) -> SandboxRule {
        SandboxRule(call: "futex", descriptor: false, constant: int(1, UInt64(operation), name))
    }

    /// `ioctl(fd, UFFDIO_COPY, *)`, as guestram_sandbox_text() shows it.
    func append(to text: inout TextBuffer) {
        text.append(call)
        text.append("(")
        if descriptor { text.append("fd") }
        if let constant {
            for argument in 0..<constant.argument where argument > 0 || !descriptor {
                text.append(argument == 0 ? "*" : ", *")
            }
            if constant.argument > 0 { text.append(", ") }
            text.append(constant.name)
        }
        text.append(")\n")
    }
}

/// The allowlist, a line each; `fd` is a number of the pool's DescriptorBlock, `*` anything.
func sandboxText(into text: inout TextBuffer) {
    let rules = SandboxRule.all
    for index in rules.indices where rules[index].number != nil { rules[index].append(to: &text) }
}
