import CLinux

/// Writes a snapshot: add regions and slots, write contents, commit. Without commit() nothing stays.
struct SnapshotWriter: ~Copyable {
    private var directory: TemporaryDirectory
    private let memory: Descriptor
    private var manifest: Manifest

    init(directory path: UnsafePointer<CChar>) throws(Errno) {
        let manifest = try Manifest()
        let directory = try TemporaryDirectory(for: path)
        memory = try directory.create("memory")
        self.manifest = manifest
        self.directory = directory
    }

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

    /// Contents of a region, each byte at most once. What is never written is a hole and reads zero.
    mutating func write(
        _ bytes: UnsafeRawPointer, count: Int, region index: Int, at offset: UInt64
    ) throws(Errno) {
        let region = manifest.regions[index]
        guard count >= 0, offset <= region.length, UInt64(count) <= region.length - offset else {
            throw fail(
                ERANGE,
                "region \(region.name): \(count) bytes at \(offset) reach beyond its \(region.length)")
        }
        guard UInt64(count) <= region.length - region.dataBytes else {
            throw fail(EINVAL, "region \(region.name): more was written than it is long")
        }
        try memory.writeAll(bytes, count: count, at: region.fileOffset + offset, of: "memory")
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
