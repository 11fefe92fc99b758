import CLinux

extension MemoryType {
    /// Pages of hugetlbfs, of MFD_HUGETLB or of MAP_HUGETLB. The kernel has no ZEROPAGE and no MOVE
    /// for them; zeros are a copy of a zeroed granule, which follows from the nil entry.
    static let hugetlb = MemoryType(
        number: UInt32(GUESTRAM_HUGETLB), name: "hugetlb",
        modes: CL_UFFDIO_REGISTER_MODE_MISSING | CL_UFFDIO_REGISTER_MODE_MINOR,
        pageSize: 2 << 20, largestPageSize: 1 << 30,
        hasFile: true, fileSystem: CL_HUGETLBFS_MAGIC, needsVM: false, existsMayMeanExhausted: true,
        copy: standardCopy, zeropage: nil, continue: standardContinue,
        poison: standardPoison, move: nil, writeprotect: standardWriteprotect,
        makeFile: makeHugeMemfd, mapFlags: hugeMapFlags)
}

private func makeHugeMemfd(_ plan: borrowing RegionPlan) throws(Errno) -> Int32 {
    // Private without a file of the caller's: anonymous MAP_HUGETLB, below.
    guard !plan.isPrivate else { return -1 }
    let size = plan.granule == 1 << 30 ? CL_MFD_HUGE_1GB : CL_MFD_HUGE_2MB
    return try checked(
        cl_memfd_create(
            "guestram", CL_MFD_CLOEXEC | CL_MFD_ALLOW_SEALING | CL_MFD_HUGETLB | size))
}

private func hugeMapFlags(_ plan: borrowing RegionPlan) -> Int32 {
    guard plan.file < 0 else { return 0 }
    return MAP_ANONYMOUS | MAP_HUGETLB
        | (plan.granule == 1 << 30 ? CL_MAP_HUGE_1GB : CL_MAP_HUGE_2MB)
}
