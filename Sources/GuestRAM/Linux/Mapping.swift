import CLinux

/// Owns one mmap()ed range and unmaps it.
struct Mapping: ~Copyable, @unchecked Sendable {
    let base: UnsafeMutableRawPointer
    let length: Int

    init(length: Int, protection: Int32, flags: Int32, descriptor: Int32, offset: UInt64)
        throws(Errno)
    {
        var address: UnsafeMutableRawPointer?
        let result = cl_mmap(&address, nil, length, protection, flags, descriptor, off_t(offset))
        guard result == 0, let address else { throw Errno(-result) }
        base = address
        self.length = length
    }

    /// Zeroed memory of our own, page by page as it is touched.
    init(anonymous length: Int) throws(Errno) {
        try self.init(
            length: length, protection: PROT_READ | PROT_WRITE,
            flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, descriptor: -1, offset: 0)
    }

    deinit { _ = cl_munmap(base, length) }
}
