import CLinux

/// The path of a snapshot to be written, taken apart: its parent directory, its name there, and the
/// temporary name.
struct SnapshotPath: ~Copyable {
    private static let pathCapacity = Int(PATH_MAX)
    private static let nameCapacity = Int(NAME_MAX) + 1
    private let storage: Mapping

    init(_ path: UnsafePointer<CChar>) throws(Errno) {
        var end = strlen(path)
        guard end < Self.pathCapacity else {
            throw fail(ENAMETOOLONG, "directory: longer than \(Self.pathCapacity - 1) bytes")
        }
        let slash = CChar(UInt8(ascii: "/"))
        while end > 1, path[end - 1] == slash { end -= 1 }
        var start = end
        while start > 0, path[start - 1] != slash { start -= 1 }
        let dot = CChar(UInt8(ascii: "."))
        let isDots = end - start <= 2 && (start..<end).allSatisfy { path[$0] == dot }
        guard end > start, !isDots else {
            throw fail(EINVAL, "directory \(path): the last part must be a name")
        }
        let storage: Mapping
        do throws(Errno) {
            storage = try Mapping(anonymous: Self.pathCapacity + 2 * Self.nameCapacity)
        } catch {
            throw fail(error.code, "memory for a path: \(error)")
        }
        let parent = storage.base.assumingMemoryBound(to: CChar.self)
        let name = parent + Self.pathCapacity
        if start == 0 { parent[0] = dot } else { memcpy(parent, path, start) }
        var temporary = TextBuffer(name + Self.nameCapacity, capacity: Self.nameCapacity)
        for index in start..<end { temporary.append(byte: UInt8(bitPattern: path[index])) }
        temporary.append(".tmp-")
        temporary.append(ProcessMark.own.pid)
        temporary.append("-")
        temporary.append(ProcessMark.own.nonce)
        guard temporary.wanted < Self.nameCapacity else {
            throw fail(
                ENAMETOOLONG,
                "directory \(path): the last part is too long for a temporary name beside it; \(temporary.wanted - Self.nameCapacity + 1) bytes less")
        }
        memcpy(name, path + start, end - start)
        self.storage = storage
    }

    /// These are valid while the path lives.
    var parent: UnsafePointer<CChar> {
        UnsafePointer(storage.base.assumingMemoryBound(to: CChar.self))
    }
    var name: UnsafePointer<CChar> { parent + Self.pathCapacity }
    var temporary: UnsafePointer<CChar> { name + Self.nameCapacity }

    /// Whose temporary name for this snapshot `entry` is; nil if it is none.
    func processOfTemporary(_ entry: UnsafePointer<CChar>) -> ProcessMark? {
        let nameLength = strlen(name)
        guard strncmp(entry, name, nameLength) == 0 else { return nil }
        var cursor = ManifestCursor(
            UnsafeRawBufferPointer(start: entry + nameLength, count: strlen(entry) - nameLength))
        guard cursor.starts(with: ".tmp-") else { return nil }
        do throws(Errno) {
            try cursor.expect(".tmp-")
            let pid = try cursor.decimal()
            try cursor.expect("-")
            let nonce = try cursor.decimal()
            return cursor.isAtEnd ? ProcessMark(pid: pid, nonce: nonce) : nil
        } catch {
            return nil
        }
    }
}
