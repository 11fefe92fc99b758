import CLinux

/// Writes the file `checksums` beside a memory file that is written from front to back: a block at a
/// time, and none where the memory has no data.
struct ChecksumWriter: ~Copyable {
    private static let page = UInt64(CL_CRC32C_PAGE)
    private static let blockBytes: UInt64 = 4096
    private static let entries: UInt64 = 1024 // of a block, for 4 MiB of memory

    private let file: Descriptor
    private let block: Mapping
    /// Which block of the file that is, and whether there is anything in it.
    private var current: UInt64 = 0
    private var isUsed = false
    /// Of the file up to `written`.
    private var crc = CRC64()
    private var written: UInt64 = 0

    init(_ file: consuming Descriptor) throws(Errno) {
        do throws(Errno) {
            block = try Mapping(anonymous: Int(Self.blockBytes))
        } catch {
            throw fail(error.code, "memory for checksums: \(error)")
        }
        self.file = file
    }

    private var sums: UnsafeMutablePointer<UInt32> {
        block.base.assumingMemoryBound(to: UInt32.self)
    }

    /// Whole pages at that position of the memory file, behind all that came before.
    mutating func add(_ pages: UnsafeRawPointer, count: Int, at position: UInt64) throws(Errno) {
        var next = position / Self.page
        let end = next + UInt64(count) / Self.page
        while next < end {
            if next / Self.entries != current {
                try flush()
                current = next / Self.entries
            }
            let fit = min(end, (current + 1) * Self.entries) - next
            cl_crc32c_pages(
                pages + Int(next * Self.page - position), Int(fit),
                sums + Int(next % Self.entries))
            isUsed = true
            next += fit
        }
    }

    /// Syncs the file as it belongs to a memory file of so many bytes. Returns its checksum.
    mutating func finish(memoryBytes: UInt64) throws(Errno) -> UInt64 {
        let bytes = PageChecksums.bytes(for: memoryBytes)
        try flush(upTo: bytes)
        let result = cl_ftruncate(file.raw, off_t(bytes))
        guard result == 0 else {
            throw fail(-result, "checksums file of \(bytes) bytes: \(Errno(-result))")
        }
        try file.sync("checksums")
        crc.add(zeros: bytes - written)
        return crc.value
    }

    private mutating func flush(upTo end: UInt64 = .max) throws(Errno) {
        guard isUsed else { return }
        let position = current * Self.blockBytes
        let count = Int(min(Self.blockBytes, end - position))
        try file.writeAll(block.base, count: count, at: position, of: "checksums")
        crc.add(zeros: position - written)
        crc.add(UnsafeRawBufferPointer(start: block.base, count: count))
        written = position + UInt64(count)
        memset(block.base, 0, block.length)
        isUsed = false
    }
}
