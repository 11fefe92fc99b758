import CLinux

extension MemoryType {
    /// Private anonymous memory. No page cache, hence no CONTINUE and no MINOR; the only type with
    /// MOVE.
    static let anon = MemoryType(
        number: UInt32(GUESTRAM_ANON), name: "anon",
        modes: CL_UFFDIO_REGISTER_MODE_MISSING,
        pageSize: 4096, largestPageSize: 4096,
        hasFile: false, fileSystem: 0, needsVM: false, existsMayMeanExhausted: false,
        copy: standardCopy, zeropage: standardZeropage, continue: nil,
        poison: standardPoison, move: standardMove, writeprotect: standardWriteprotect,
        makeFile: noFile, mapFlags: { _ in MAP_ANONYMOUS })
}
