import CLinux

/// Where a file has data, extent by extent. FIEMAP gives hundreds of extents per call; SEEK_DATA
/// needs two calls for each, which for a finely mixed snapshot was most of the time of a restore.
struct DataExtents: ~Copyable {
    private static let capacity = 512

    private let file: Int32
    private let end: UInt64
    private var position: UInt64
    private let extents: UnsafeMutablePointer<cl_extent>
    private var count = 0
    private var next = 0
    private var mapped = true

    /// Of the bytes `range` of the file.
    init(_ file: Int32, _ range: Range<UInt64>) {
        self.file = file
        position = range.lowerBound
        end = range.upperBound
        extents = .allocate(capacity: Self.capacity)
    }

    deinit { extents.deallocate() }

    /// The next run of bytes that may hold data. A file system that cannot tell has data everywhere.
    mutating func nextExtent() -> Range<UInt64>? {
        while position < end {
            if mapped && next == count { mapMore() }
            guard mapped else { return seek() }
            guard next < count else {
                position = end
                return nil
            }
            let extent = extents[next]
            next += 1
            let from = max(position, extent.start)
            let to = min(end, extent.start &+ extent.length)
            guard from < to else { continue }
            position = to
            return from..<to
        }
        return nil
    }

    private mutating func mapMore() {
        let result = cl_fiemap(file, position, end - position, extents, Int32(Self.capacity))
        mapped = result >= 0
        count = max(0, Int(result))
        next = 0
    }

    private mutating func seek() -> Range<UInt64>? {
        let data = cl_lseek(file, off_t(position), SEEK_DATA)
        if data == -off_t(ENXIO) {
            position = end
            return nil
        }
        let from = data < 0 ? position : UInt64(data)
        let hole = data < 0 ? -1 : cl_lseek(file, data, SEEK_HOLE)
        let to = hole < 0 ? end : min(UInt64(hole), end)
        position = to
        return from < to ? from..<to : nil
    }
}
