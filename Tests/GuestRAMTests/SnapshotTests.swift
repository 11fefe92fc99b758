import CLinux
import Testing

@testable import GuestRAM

/// A directory of a test's own, gone with everything in it at the end.
final class ScratchDirectory {
    let path: String

    init() throws {
        var template = Array("/tmp/guestram-test-XXXXXX".utf8CString)
        try #require(mkdtemp(&template) != nil)
        path = template.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
    }

    deinit { Self.remove(path) }

    private static func remove(_ path: String) {
        if cl_unlink(path) == 0 { return }
        for entry in entries(of: path) { remove(path + "/" + entry) }
        _ = cl_rmdir(path)
    }

    static func entries(of path: String) -> [String] {
        let opened = cl_open(path, O_RDONLY | O_DIRECTORY, 0)
        guard opened >= 0, let directory = cl_fdopendir(opened) else { return [] }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = cl_readdir(directory) {
            let name = String(cString: entry)
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    var entries: [String] { Self.entries(of: path) }
}

private func status(_ path: String) throws -> cl_stat {
    var status = cl_stat()
    try #require(cl_fstatat(AT_FDCWD, path, &status, AT_SYMLINK_NOFOLLOW) == 0)
    return status
}

private func makeFile(_ path: String, _ bytes: [UInt8] = []) throws {
    let file = cl_open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
    try #require(file >= 0)
    try #require(cl_write(file, bytes, bytes.count) == bytes.count)
    _ = cl_close(file)
}

private func resize(_ path: String, _ length: Int) throws {
    let file = cl_open(path, O_WRONLY, 0)
    try #require(file >= 0)
    try #require(cl_ftruncate(file, off_t(length)) == 0)
    _ = cl_close(file)
}

/// ram: 5 MiB with one page of data; rom.0: two pages, the second with data; one slot; a state.
private func addContents(_ writer: inout SnapshotWriter) throws(Errno) {
    let ram = try writer.add(
        region: RegionName("ram")!, type: UInt32(GUESTRAM_SHMEM), isPrivate: false,
        length: 5 << 20, pageSize: 4096)
    let rom = try writer.add(
        region: RegionName("rom.0")!, type: UInt32(GUESTRAM_ANON), isPrivate: true,
        length: 8192, pageSize: 4096)
    try writer.add(
        SnapshotSlot(regionIndex: ram, guestPhysical: 1 << 32, offset: 1 << 20, length: 4 << 20))
    try write([UInt8](repeating: 0xab, count: 4096), &writer, region: ram, at: 8192)
    try write([UInt8](repeating: 0xcd, count: 4096), &writer, region: rom, at: 4096)
    let state = UnsafeMutableRawBufferPointer.allocate(byteCount: 100, alignment: 1)
    defer { state.deallocate() }
    for index in 0..<100 { state[index] = UInt8(index) }
    try writer.writeState(UnsafeRawBufferPointer(state))
}

private func write(
    _ bytes: [UInt8], _ writer: inout SnapshotWriter, region: Int, at offset: UInt64
) throws(Errno) {
    let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
    defer { copy.deallocate() }
    copy.copyBytes(from: bytes)
    try writer.write(copy.baseAddress!, count: bytes.count, region: region, at: offset)
}

private func save(_ path: String) throws(Errno) {
    var writer = try SnapshotWriter(directory: path)
    try addContents(&writer)
    try writer.commit()
}

/// What opening it answers; nil when it opens.
private func errorOfOpening(_ path: String) -> Errno? {
    do throws(Errno) {
        _ = try OpenedSnapshot.open(path)
        return nil
    } catch {
        return error
    }
}

@Suite struct SnapshotTests {
    let scratch: ScratchDirectory
    var path: String { scratch.path + "/snap" }

    init() throws { scratch = try ScratchDirectory() }

    @Test func whatIsSavedIsOpened() throws {
        try save(path)
        #expect(scratch.entries == ["snap"])
        #expect(ScratchDirectory.entries(of: path) == ["checksums", "manifest", "memory", "state"])
        let snapshot = try OpenedSnapshot.open(path)
        #expect(snapshot.state.elementsEqual((0..<100).map { UInt8($0) }))
        #expect(snapshot.slots.count == 1)
        #expect(snapshot.slots[0].guestPhysical == 1 << 32)
        #expect(snapshot.regions.count == 2)
        let ram = snapshot.regions[0]
        let rom = snapshot.regions[1]
        #expect(ram.fileOffset == 0)
        #expect(ram.dataBytes == 4096)
        #expect(rom.fileOffset == 6 << 20)
        #expect(rom.isPrivate)

        var bytes = [UInt8](repeating: 1, count: 6 << 20 + 8192)
        try snapshot.memory.readAll(&bytes, count: bytes.count, of: "memory")
        for (index, byte) in bytes.enumerated() {
            let wanted: UInt8 =
                switch index {
                case 8192..<12288: 0xab
                case (6 << 20 + 4096)..<(6 << 20 + 8192): 0xcd
                default: 0
                }
            if byte != wanted {
                Issue.record("byte \(index) is \(byte), not \(wanted)")
                break
            }
        }
        #expect(try status(path + "/memory").blocks * 512 < 1 << 20, "the holes take space")
    }

    @Test func onlyTheOwnerReadsIt() throws {
        try save(path)
        #expect(try status(path).mode & 0o777 == 0o700)
        for file in ["checksums", "manifest", "memory", "state"] {
            #expect(try status(path + "/" + file).mode & 0o777 == 0o600)
        }
    }

    @Test func withoutAStateThereIsNoFile() throws {
        var writer = try SnapshotWriter(directory: path + "//") // slashes at the end are allowed
        try writer.commit()
        #expect(ScratchDirectory.entries(of: path) == ["checksums", "manifest", "memory"])
        let snapshot = try OpenedSnapshot.open(path)
        #expect(snapshot.state.isEmpty)
        #expect(snapshot.regions.isEmpty)
    }

    @Test func withoutCommitNothingStays() throws {
        do {
            var writer = try SnapshotWriter(directory: path)
            try addContents(&writer)
            #expect(scratch.entries.count == 1)
            #expect(scratch.entries[0].hasPrefix("snap.tmp-\(getpid())-"))
        }
        #expect(scratch.entries == [])
    }

    @Test func whatExistsIsNotReplaced() throws {
        try save(path)
        #expect(throws: Errno(EEXIST)) { try save(path) }
        let appears = scratch.path + "/appears"
        do {
            var writer = try SnapshotWriter(directory: appears)
            try makeFile(appears)
            #expect(throws: Errno(EEXIST)) { try writer.commit() }
        }
        #expect(scratch.entries == ["appears", "snap"])
        #expect(try status(appears).size == 0)
    }

    @Test func twoSavesToOnePathAtATimeAreRefused() throws {
        var first = try SnapshotWriter(directory: path)
        #expect(throws: Errno(EEXIST)) { try save(path) }
        try first.commit()
        #expect(errorOfOpening(path) == nil)
    }

    @Test func badPathsAreRefused() throws {
        for bad in ["", "/", ".", "..", scratch.path + "/..", scratch.path + "/./"] {
            #expect(throws: Errno(EINVAL), "\(bad)") { try save(bad) }
        }
        #expect(throws: Errno(ENOENT)) { try save(scratch.path + "/none/snap") }
        let long = String(repeating: "n", count: 250)
        #expect(throws: Errno(ENAMETOOLONG)) { try save(scratch.path + "/" + long) }
        #expect(throws: Errno(ENAMETOOLONG)) { try save(String(repeating: "/n", count: 4096)) }
        #expect(scratch.entries == [])
    }

    @Test func whatKilledSavesLeftIsRemoved() throws {
        let dead = path + ".tmp-999999999-7" // above every pid_max
        let formerSelf = path + ".tmp-\(getpid())-1" // this number, an earlier process
        let alive = path + ".tmp-1-7"
        let foreign = path + ".tmp-999999999-8"
        let ofAnother = scratch.path + "/other.tmp-999999999-7"
        for directory in [dead, formerSelf, alive, foreign, ofAnother] {
            try #require(cl_mkdir(directory, 0o700) == 0)
            for file in ["memory", "checksums", "state", "manifest"] { try makeFile(directory + "/" + file) }
        }
        try makeFile(foreign + "/letter")
        try makeFile(path + ".tmp-999999999-9")
        try save(path)
        #expect(
            scratch.entries == [
                "other.tmp-999999999-7", "snap", "snap.tmp-1-7", "snap.tmp-999999999-8",
                "snap.tmp-999999999-9",
            ])
        #expect(ScratchDirectory.entries(of: foreign) == ["letter"])
    }

    @Test func theWriterChecksItsCaller() throws {
        var writer = try SnapshotWriter(directory: path)
        try addContents(&writer)
        let page = [UInt8](repeating: 1, count: 4096)
        #expect(throws: Errno(ERANGE)) { try write(page, &writer, region: 1, at: 8192) }
        #expect(throws: Errno(ERANGE)) { try write(page, &writer, region: 1, at: .max) }
        #expect(throws: Errno(EINVAL)) { try write(page, &writer, region: 1, at: 4096) } // again
        #expect(throws: Errno(EINVAL)) { try write(page, &writer, region: 0, at: 8192) } // before
        #expect(throws: Errno(EINVAL)) { try write([1], &writer, region: 1, at: 0) }
        #expect(throws: Errno(EINVAL)) {
            try writer.add(
                region: RegionName("ram")!, type: UInt32(GUESTRAM_ANON), isPrivate: true,
                length: 4096, pageSize: 4096)
        }
        #expect(throws: Errno(EFBIG)) {
            try writer.add(
                region: RegionName("long")!, type: UInt32(GUESTRAM_ANON), isPrivate: true,
                length: UInt64.max - 4095, pageSize: 4096)
        }
        #expect(throws: Errno(EEXIST)) {
            try withBytes(of: "again") { try writer.writeState($0) }
        }
        try writer.commit()
        #expect(errorOfOpening(path) == nil)
    }

    @Test func damageIsSaid() throws {
        let memory = path + "/memory", state = path + "/state", manifest = path + "/manifest"
        func expect(_ code: Int32, _ message: String, line: Int = #line) {
            let error = errorOfOpening(path)
            let place = SourceLocation(
                fileID: #fileID, filePath: #filePath, line: line, column: 1)
            #expect(error == Errno(code), sourceLocation: place)
            #expect(lastError().contains(message), "\(lastError())", sourceLocation: place)
        }
        let size = 6 << 20 + 8192

        expect(ENOENT, "snapshot directory \(path)")
        try makeFile(path)
        expect(ENOTDIR, "snapshot directory \(path)")
        _ = cl_unlink(path)
        try save(path)
        #expect(errorOfOpening(path) == nil)

        try resize(memory, size - 1)
        expect(EINVAL, "truncated: it has \(size - 1) bytes, the manifest says \(size)")
        try resize(memory, size + 1)
        expect(EINVAL, "too long: it has \(size + 1) bytes, the manifest says \(size)")
        try resize(memory, size)
        #expect(errorOfOpening(path) == nil)

        try resize(state, 99)
        expect(EINVAL, "it has 99 bytes, the manifest says 100")
        try resize(state, 100)
        expect(EINVAL, "state: its checksum should be")

        _ = cl_unlink(state)
        expect(EINVAL, "state")
        try #require(symlink("/etc/passwd", state) == 0)
        expect(EINVAL, "symbolic link")
        _ = cl_unlink(state)
        try #require(mkfifo(state, 0o600) == 0)
        expect(EINVAL, "not a regular file")
        _ = cl_unlink(memory)
        expect(EINVAL, "memory")

        try resize(manifest, 100)
        expect(EINVAL, "the last line is no checksum")
        try resize(manifest, 0)
        expect(EINVAL, "manifest of 0 bytes")
        try resize(manifest, 1 << 20 + 1)
        expect(EINVAL, "manifest of 1048577 bytes")
        _ = cl_unlink(manifest)
        expect(ENOENT, "manifest")
        try #require(cl_mkdir(manifest, 0o700) == 0)
        expect(EINVAL, "not a regular file")
    }

    @Test func openingLeaksNoDescriptor() throws {
        try save(path)
        let before = ScratchDirectory.entries(of: "/proc/self/fd").count
        for _ in 0..<100 { #expect(errorOfOpening(path) == nil) }
        try resize(path + "/memory", 1)
        for _ in 0..<100 { #expect(errorOfOpening(path) == Errno(EINVAL)) }
        for _ in 0..<100 { #expect(throws: Errno(EEXIST)) { try save(path) } }
        let after = ScratchDirectory.entries(of: "/proc/self/fd").count
        #expect(after < before + 50) // other tests run beside this one
    }
}
