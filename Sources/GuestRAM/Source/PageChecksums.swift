import CLinux

/// The checksums of a region's pages as a snapshot has them, in memory of our own: its file may be
/// cut or changed while we are served from. Owned by the region's Source, which frees it.
struct PageChecksums: @unchecked Sendable {
    static let page = UInt64(CL_CRC32C_PAGE)
    private static let entry = UInt64(MemoryLayout<UInt32>.stride)

    private let sums: UnsafeMutablePointer<UInt32>
    private let count: Int

    /// How many bytes of checksums so many bytes of memory have.
    static func bytes(for memory: UInt64) -> UInt64 {
        (memory / page + (memory % page == 0 ? 0 : 1)) * entry
    }

    /// Those of the bytes `range` of the memory file. `found` is told each page, counted from the
    /// range's start, that was saved with anything but zeros.
    init(
        _ file: borrowing Descriptor, _ range: Range<UInt64>, found: (UInt64) -> Void
    ) throws(Errno) {
        let bytes = Self.bytes(for: range.lowerBound)..<Self.bytes(for: range.upperBound)
        count = Int((bytes.upperBound - bytes.lowerBound) / Self.entry)
        var address: UnsafeMutableRawPointer?
        let result = cl_mmap(
            &address, nil, count * MemoryLayout<UInt32>.stride, PROT_READ | PROT_WRITE,
            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        guard result == 0, let address else {
            throw fail(-result, "memory for \(count) checksums: \(Errno(-result))")
        }
        sums = address.bindMemory(to: UInt32.self, capacity: count)
        do throws(Errno) {
            var extents = DataExtents(file.raw, bytes)
            while let extent = extents.nextExtent() {
                let start = extent.lowerBound - bytes.lowerBound
                let length = Int(extent.upperBound - extent.lowerBound)
                try file.readAll(
                    address + Int(start), count: length, at: extent.lowerBound, of: "checksums")
                let end = start + UInt64(length)
                for index in start / Self.entry..<(end + Self.entry - 1) / Self.entry
                where sums[Int(index)] != 0 { found(index) }
            }
        } catch {
            free()
            throw error
        }
    }

    func free() { _ = cl_munmap(sums, ownMemory) }

    /// All of it, as if the snapshot had no holes.
    var ownMemory: Int { count * MemoryLayout<UInt32>.stride }

    /// The first of these pages of the region, `bytes` of them in the buffer, that is not what was
    /// saved, as bytes from the buffer's start; `bytes` if all are. A hole has the checksum of
    /// zeros, so it is compared like all others.
    func firstDifference(_ buffer: UnsafeRawPointer, _ bytes: Int, at offset: UInt64) -> Int {
        let page = Int(Self.page)
        return page * cl_crc32c_first_difference(
            buffer, bytes / page, sums + Int(offset / Self.page))
    }
}
