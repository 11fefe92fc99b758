import CLinux

/// A caller's wish for a region, checked: what guestram_region_add() was given, in our own terms.
struct RegionPlan {
    let name: RegionName
    let type: MemoryType
    let flags: UInt32
    let length: UInt64
    let granule: UInt64
    let hostAddress: UnsafeMutableRawPointer?
    /// The file its memory lives in, ours to close until the region has it; -1 for none.
    var file: Int32 = -1
    let fileOffset: UInt64
    /// A KVM VM, for guest_memfd without a file.
    let vm: Int32
    let hostNodes: UInt64
    let policy: UInt32

    var isPrivate: Bool { has(GUESTRAM_REGION_PRIVATE) }

    func has(_ flag: Int) -> Bool { flags & UInt32(flag) != 0 }

    init(_ options: guestram_region_options_t) throws(Errno) {
        guard let text = options.name else {
            throw fail(EINVAL, "name is NULL; a region needs one of 1 to 63 characters")
        }
        guard let name = RegionName(text) else {
            throw fail(
                EINVAL, "name \"\(text)\" is not 1 to 63 characters of letters, digits, . _ -")
        }
        guard let type = MemoryType.numbered(options.type) else {
            throw fail(EINVAL, "type \(options.type) is none of GUESTRAM_ANON … GUESTRAM_GUEST_MEMFD")
        }
        self.name = name
        self.type = type
        flags = options.flags
        guard flags >> 7 == 0 else {
            throw fail(EINVAL, "flags \(hex: UInt64(flags)) of region \(name) has unknown bits")
        }
        granule = try Self.granule(options.page_size, type)
        length = options.length
        guard length > 0, length % granule == 0, length <= 1 << 46 else {
            throw fail(
                EINVAL,
                "length \(length) of region \(name) is not a positive multiple of its page size \(granule)"
            )
        }
        hostAddress = options.host_address
        let address = UInt64(UInt(bitPattern: options.host_address))
        guard address % granule == 0 else {
            throw fail(
                EINVAL,
                "host_address \(hex: address) of region \(name) is not aligned to \(granule)")
        }
        guard !address.addingReportingOverflow(length).overflow else {
            throw fail(EINVAL, "host_address \(hex: address) plus length \(length) overflows")
        }
        vm = options.vm_fd
        hostNodes = options.host_nodes
        policy = options.policy
        fileOffset = options.fd_offset
        guard options.reserved == 0 else { throw fail(EINVAL, "reserved must be 0") }
        try checkCombinations(options)
        if has(GUESTRAM_REGION_FD) { file = try Self.duplicate(options, name, type, granule) }
    }

    private static func granule(_ wanted: UInt64, _ type: MemoryType) throws(Errno) -> UInt64 {
        guard wanted != 0, wanted != type.pageSize else { return type.pageSize }
        guard wanted == type.largestPageSize else {
            throw fail(
                EINVAL,
                "page_size \(wanted) is not one of \(type.name): 0, \(type.pageSize) or \(type.largestPageSize)"
            )
        }
        return wanted
    }

    private func checkCombinations(_ options: guestram_region_options_t) throws(Errno) {
        if has(GUESTRAM_REGION_FD) && !type.hasFile {
            throw fail(EINVAL, "flags: GUESTRAM_REGION_FD, but \(type.name) memory lives in no file")
        }
        if has(GUESTRAM_REGION_FILLED) && !has(GUESTRAM_REGION_FD) {
            throw fail(EINVAL, "flags: GUESTRAM_REGION_FILLED needs GUESTRAM_REGION_FD and fd")
        }
        if !has(GUESTRAM_REGION_FD) && fileOffset != 0 {
            throw fail(EINVAL, "fd_offset \(fileOffset) without GUESTRAM_REGION_FD")
        }
        if isPrivate && type.needsVM {
            throw fail(EINVAL, "flags: \(type.name) cannot be mapped GUESTRAM_REGION_PRIVATE")
        }
        // Huge pages can be had without a file: MAP_ANONYMOUS | MAP_HUGETLB.
        let needsFile = type.hasFile && !(isPrivate && granule > 4096)
        if hostAddress != nil && needsFile && !has(GUESTRAM_REGION_FD) {
            throw fail(
                EINVAL, "host_address of \(type.name) memory needs its file: set GUESTRAM_REGION_FD and fd")
        }
        guard policy <= UInt32(GUESTRAM_POLICY_INTERLEAVE) else {
            throw fail(EINVAL, "policy \(policy) is not one of GUESTRAM_POLICY_*")
        }
        if (policy == UInt32(GUESTRAM_POLICY_DEFAULT)) != (hostNodes == 0) {
            throw fail(EINVAL, "host_nodes \(hex: hostNodes) does not go with policy \(policy)")
        }
    }

    private static func duplicate(
        _ options: guestram_region_options_t, _ name: RegionName, _ type: MemoryType,
        _ granule: UInt64
    ) throws(Errno) -> Int32 {
        guard options.fd_offset % granule == 0 else {
            throw fail(
                EINVAL, "fd_offset \(options.fd_offset) is not a multiple of the page size \(granule)")
        }
        var status = cl_stat()
        let result = cl_fstat(options.fd, &status)
        guard result == 0 else {
            throw fail(-result, "fd \(options.fd) of region \(name): \(Errno(-result))")
        }
        try checkKind(options.fd, name, type, granule)
        let (end, overflow) = options.fd_offset.addingReportingOverflow(options.length)
        guard !overflow, status.size >= 0, UInt64(status.size) >= end else {
            throw fail(
                EINVAL,
                "fd \(options.fd) of region \(name) is \(status.size) bytes long; fd_offset + length is \(end)"
            )
        }
        let copy = cl_fcntl(options.fd, F_DUPFD_CLOEXEC, 0)
        guard copy >= 0 else { throw fail(-copy, "cannot duplicate fd \(options.fd): \(Errno(-copy))") }
        return copy
    }

    private static func checkKind(
        _ descriptor: Int32, _ name: RegionName, _ type: MemoryType, _ granule: UInt64
    ) throws(Errno) {
        var magic: UInt64 = 0
        var block: UInt64 = 0
        guard cl_fstatfs(descriptor, &magic, &block) == 0 else { return }
        let fits =
            type.fileSystem != 0
            ? magic == type.fileSystem : magic != CL_TMPFS_MAGIC && magic != CL_HUGETLBFS_MAGIC
        guard fits, granule == 4096 || block == granule else {
            throw fail(
                EINVAL,
                "fd \(descriptor) of region \(name) is not \(type.name) memory of page size \(granule)")
        }
    }
}
