import CLinux

/// Writes a snapshot: add regions and slots, write contents, commit. Without commit() nothing stays.
struct SnapshotWriter: ~Copyable {
    private var directory: TemporaryDirectory
    private let memory: Descriptor
    private var checksums: ChecksumWriter
    private var manifest: Manifest
    /// Where in the memory file the contents that were written end.
    private var end: UInt64 = 0

    init(directory path: UnsafePointer<CChar>) throws(Errno) {
        let manifest = try Manifest()
        let directory = try TemporaryDirectory(for: path)
        let memory = try directory.create("memory")
        checksums = try ChecksumWriter(directory.create("checksums"))
        self.memory = memory
        self.manifest = manifest
        self.directory = directory
    }

    /// What killed saves to the same path had left and is gone now, in bytes on disk; nil: nothing.
    var removed: UInt64? { directory.removed }

    /// The region's index; its place in the memory file follows the region before.
    mutating func add(
        region name: RegionName, type: UInt32, isPrivate: Bool, length: UInt64, pageSize: UInt64
    ) throws(Errno) -> Int {
        let alignment = Manifest.fileAlignment(pageSize: pageSize)
        let before = manifest.memoryBytes
        let (padded, overflow) = before.addingReportingOverflow(alignment - 1)
        let offset = padded / alignment * alignment
        guard !overflow, offset <= UInt64(Int64.max), length <= UInt64(Int64.max) - offset else {
            throw fail(EFBIG, "region \(name): the memory file would be too long")
        }
        manifest.memoryBytes = offset + length
        do throws(Errno) {
            try manifest.add(
                SnapshotRegion(
                    name: name, type: type, isPrivate: isPrivate, length: length,
                    pageSize: pageSize, fileOffset: offset, dataBytes: 0))
        } catch {
            manifest.memoryBytes = before
            throw error
        }
        return manifest.regions.count - 1
    }

    /// In the order of their guest-physical addresses.
    mutating func add(_ slot: SnapshotSlot) throws(Errno) {
        try manifest.add(slot)
    }

    /// Contents of a region: whole pages, from front to back, region after region. What is never
    /// written is a hole and reads zero.
    mutating func write(
        _ bytes: UnsafeRawPointer, count: Int, region index: Int, at offset: UInt64
    ) throws(Errno) {
        let region = manifest.regions[index]
        guard count >= 0, offset <= region.length, UInt64(count) <= region.length - offset else {
            throw fail(
                ERANGE,
                "region \(region.name): \(count) bytes at \(offset) reach beyond its \(region.length)")
        }
        let position = region.fileOffset + offset
        let page = Int(CL_CRC32C_PAGE)
        guard position >= end, offset % UInt64(page) == 0, count % page == 0 else {
            throw fail(
                EINVAL,
                "region \(region.name): \(count) bytes at \(offset) are no whole pages behind those that were written")
        }
        try memory.writeAll(bytes, count: count, at: position, of: "memory")
        try checksums.add(bytes, count: count, at: position)
        end = position + UInt64(count)
        manifest.regions[index].dataBytes += UInt64(count)
    }

    /// The VMM's own state, at most once.
    mutating func writeState(_ bytes: UnsafeRawBufferPointer) throws(Errno) {
        guard let start = bytes.baseAddress, bytes.count > 0 else { return }
        guard bytes.count <= Manifest.maximumStateBytes else {
            throw fail(
                EINVAL,
                "state of \(bytes.count) bytes: at most \(Manifest.maximumStateBytes) are allowed")
        }
        let file = try directory.create("state")
        try file.writeAll(start, count: bytes.count, at: 0, of: "state")
        try file.sync("state")
        manifest.stateBytes = UInt64(bytes.count)
        manifest.stateChecksum = crc64(bytes)
    }

    /// Everything reaches the disk, then the snapshot appears under its name, whole.
    mutating func commit() throws(Errno) {
        let result = cl_ftruncate(memory.raw, off_t(manifest.memoryBytes))
        guard result == 0 else {
            throw fail(
                -result, "memory file of \(manifest.memoryBytes) bytes: \(Errno(-result))")
        }
        try memory.sync("memory")
        manifest.checksumsChecksum = try checksums.finish(memoryBytes: manifest.memoryBytes)
        try writeManifest()
        try directory.publish()
    }

    private func writeManifest() throws(Errno) {
        let buffer: Mapping
        do throws(Errno) {
            buffer = try Mapping(anonymous: Manifest.maximumBytes + 1)
        } catch {
            throw fail(error.code, "memory for a manifest: \(error)")
        }
        let text = manifest.write(to: buffer)
        let file = try directory.create("manifest")
        try file.writeAll(text.baseAddress!, count: text.count, at: 0, of: "manifest")
        try file.sync("manifest")
    }
}
