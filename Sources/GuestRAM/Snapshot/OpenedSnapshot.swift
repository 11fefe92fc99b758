import CLinux

/// A snapshot whose manifest, sizes and state were checked. The contents of the memory file are not:
/// they are read when they are needed, and damage there is a source error of that granule. Those of
/// the checksums file are when they are to be used.
struct OpenedSnapshot: ~Copyable {
    let memory: Descriptor // O_RDONLY
    let checksums: Descriptor? // O_RDONLY
    private let manifest: Manifest
    private let stateBytes: Mapping?

    /// These are valid while the snapshot lives.
    var regions: UnsafeBufferPointer<SnapshotRegion> { manifest.regions.elements }
    var slots: UnsafeBufferPointer<SnapshotSlot> { manifest.slots.elements }
    var state: UnsafeRawBufferPointer {
        switch stateBytes {
        case .some(let bytes): UnsafeRawBufferPointer(start: bytes.base, count: bytes.length)
        case .none: UnsafeRawBufferPointer(start: nil, count: 0)
        }
    }

    static func open(_ path: UnsafePointer<CChar>) throws(Errno) -> OpenedSnapshot {
        let opened = cl_open(path, O_RDONLY | O_DIRECTORY, 0)
        guard opened >= 0 else {
            throw fail(-opened, "snapshot directory \(path): \(Errno(-opened))")
        }
        let directory = Descriptor(owning: opened)
        let manifest = try readManifest(directory)
        let memory = try openMemory(directory, manifest)
        let checksums = try openChecksums(directory, manifest)
        let state = try readState(directory, manifest)
        return OpenedSnapshot(
            memory: memory, checksums: checksums, manifest: manifest, stateBytes: state)
    }

    private static func readManifest(_ directory: borrowing Descriptor) throws(Errno) -> Manifest {
        let file = try Descriptor.openRegular("manifest", in: directory)
        let size = try file.fileSize("manifest")
        guard size > 0, size <= UInt64(Manifest.maximumBytes) else {
            throw fail(
                EINVAL, "manifest of \(size) bytes: 1 to \(Manifest.maximumBytes) are allowed")
        }
        let text = try buffer(Int(size))
        try file.readAll(text.base, count: text.length, of: "manifest")
        return try Manifest.parse(UnsafeRawBufferPointer(start: text.base, count: text.length))
    }

    private static func openMemory(
        _ directory: borrowing Descriptor, _ manifest: borrowing Manifest
    ) throws(Errno) -> Descriptor {
        let file = try part("memory", of: directory)
        try checkSize(file, expected: manifest.memoryBytes, of: "memory")
        return file
    }

    private static func openChecksums(
        _ directory: borrowing Descriptor, _ manifest: borrowing Manifest
    ) throws(Errno) -> Descriptor? {
        guard manifest.checksumsChecksum != nil else { return nil }
        let file = try part("checksums", of: directory)
        try checkSize(file, expected: manifest.checksumsBytes, of: "checksums")
        return file
    }

    /// That the checksums are those of this snapshot. Their holes are not read.
    func checkChecksums(_ file: borrowing Descriptor) throws(Errno) {
        let bytes = manifest.checksumsBytes
        let chunk: UInt64 = 64 << 10
        let buffer = try Self.buffer(Int(chunk))
        var crc = CRC64()
        var position: UInt64 = 0
        var extents = DataExtents(file.raw, 0..<bytes)
        while let extent = extents.nextExtent() {
            crc.add(zeros: extent.lowerBound - position)
            position = extent.lowerBound
            while position < extent.upperBound {
                let count = Int(min(chunk, extent.upperBound - position))
                try file.readAll(buffer.base, count: count, at: position, of: "checksums")
                crc.add(UnsafeRawBufferPointer(start: buffer.base, count: count))
                position += UInt64(count)
            }
        }
        crc.add(zeros: bytes - position)
        guard crc.value == manifest.checksumsChecksum else {
            throw fail(
                EINVAL,
                "checksums: their checksum should be \(hex: manifest.checksumsChecksum ?? 0), the file gives \(hex: crc.value): it is damaged or another snapshot's")
        }
    }

    /// Read, not mapped: it cannot change or shrink afterwards.
    private static func readState(
        _ directory: borrowing Descriptor, _ manifest: borrowing Manifest
    ) throws(Errno) -> Mapping? {
        guard manifest.stateBytes > 0 else { return nil }
        let file = try part("state", of: directory)
        try checkSize(file, expected: manifest.stateBytes, of: "state")
        let state = try buffer(Int(manifest.stateBytes))
        try file.readAll(state.base, count: state.length, of: "state")
        let actual = crc64(UnsafeRawBufferPointer(start: state.base, count: state.length))
        guard actual == manifest.stateChecksum else {
            throw fail(
                EINVAL,
                "state: its checksum should be \(hex: manifest.stateChecksum), its contents give \(hex: actual): the file is damaged")
        }
        return state
    }

    /// A file that the manifest promises: without it the snapshot is damaged, not absent.
    private static func part(
        _ name: StaticString, of directory: borrowing Descriptor
    ) throws(Errno) -> Descriptor {
        do throws(Errno) {
            return try Descriptor.openRegular(name, in: directory)
        } catch {
            throw error.code == ENOENT ? Errno(EINVAL) : error
        }
    }

    private static func checkSize(
        _ file: borrowing Descriptor, expected: UInt64, of what: StaticString
    ) throws(Errno) {
        let size = try file.fileSize(what)
        guard size == expected else {
            let how: StaticString = size < expected ? "truncated" : "too long"
            throw fail(
                EINVAL,
                "snapshot file \(what): \(how): it has \(size) bytes, the manifest says \(expected)")
        }
    }

    private static func buffer(_ count: Int) throws(Errno) -> Mapping {
        do throws(Errno) {
            return try Mapping(anonymous: count)
        } catch {
            throw fail(error.code, "\(count) bytes to read a snapshot into: \(error)")
        }
    }
}
