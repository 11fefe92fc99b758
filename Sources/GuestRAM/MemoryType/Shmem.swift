import CLinux

extension MemoryType {
    /// A memfd or a file on tmpfs. MISSING and MINOR together: with MINOR alone the kernel fills a
    /// hole with zeros and tells nobody.
    static let shmem = MemoryType(
        number: UInt32(GUESTRAM_SHMEM), name: "shmem",
        modes: CL_UFFDIO_REGISTER_MODE_MISSING | CL_UFFDIO_REGISTER_MODE_MINOR,
        pageSize: 4096, largestPageSize: 4096,
        hasFile: true, fileSystem: CL_TMPFS_MAGIC, needsVM: false, existsMayMeanExhausted: false,
        copy: standardCopy, zeropage: standardZeropage, continue: standardContinue,
        poison: standardPoison, move: nil, writeprotect: standardWriteprotect,
        makeFile: makeMemfd, mapFlags: { _ in 0 })
}

private func makeMemfd(_ plan: borrowing RegionPlan) throws(Errno) -> Int32 {
    try checked(cl_memfd_create("guestram", CL_MFD_CLOEXEC | CL_MFD_ALLOW_SEALING))
}
