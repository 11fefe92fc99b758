import CLinux

extension Manifest {
    private static var checksumLineBytes: Int { 32 } // "checksum crc64=", 16 digits, "\n"

    /// Takes exactly the texts that write(to:) makes. EPROTONOSUPPORT for what a newer version
    /// wrote, EINVAL for everything else.
    static func parse(_ text: UnsafeRawBufferPointer) throws(Errno) -> Manifest {
        guard text.count <= maximumBytes else {
            throw fail(
                EINVAL, "manifest of \(text.count) bytes: at most \(maximumBytes) are allowed")
        }
        try checkVersion(text)
        try checkChecksum(text)
        var manifest = try Manifest()
        try manifest.parseLines(UnsafeRawBufferPointer(rebasing: text.dropLast(checksumLineBytes)))
        return manifest
    }

    /// First of all: a newer version may do everything else in another way.
    private static func checkVersion(_ text: UnsafeRawBufferPointer) throws(Errno) {
        var cursor = ManifestCursor(text)
        try cursor.expect("guestram-snapshot ")
        let version = try cursor.decimal()
        try cursor.endOfLine()
        guard version <= Self.version else {
            throw fail(
                EPROTONOSUPPORT,
                "snapshot format \(version) is newer than \(Self.version), the newest that this library knows: use a newer guestram")
        }
        guard version == Self.version else {
            throw fail(EINVAL, "manifest line 1: there is no snapshot format \(version)")
        }
    }

    private static func checkChecksum(_ text: UnsafeRawBufferPointer) throws(Errno) {
        let start = text.count - checksumLineBytes
        guard start > 0, text[start - 1] == UInt8(ascii: "\n") else {
            throw fail(EINVAL, "manifest: the last line is no checksum; the file was cut or changed")
        }
        var cursor = ManifestCursor(UnsafeRawBufferPointer(rebasing: text[start...]))
        guard cursor.starts(with: "checksum crc64=") else {
            throw fail(EINVAL, "manifest: the last line is no checksum; the file was cut or changed")
        }
        try cursor.expect("checksum crc64=")
        let written = try cursor.checksum()
        try cursor.endOfLine()
        let actual = crc64(UnsafeRawBufferPointer(rebasing: text[..<start]))
        guard written == actual else {
            throw fail(
                EINVAL,
                "manifest: its checksum is \(hex: written), its contents give \(hex: actual): the file is damaged")
        }
    }

    private mutating func parseLines(_ text: UnsafeRawBufferPointer) throws(Errno) {
        var cursor = ManifestCursor(text)
        try cursor.expect("guestram-snapshot 1")
        try cursor.endOfLine()

        try cursor.expect("memory bytes=")
        memoryBytes = try cursor.decimal()
        guard memoryBytes <= UInt64(Int64.max) else {
            throw fail(EINVAL, "manifest line 2: no file has \(memoryBytes) bytes")
        }
        try cursor.endOfLine()

        if cursor.starts(with: "state ") {
            try cursor.expect("state bytes=")
            stateBytes = try cursor.decimal()
            guard stateBytes > 0, stateBytes <= Self.maximumStateBytes else {
                throw fail(
                    EINVAL,
                    "manifest line 3: state of \(stateBytes) bytes: 1 to \(Self.maximumStateBytes) are allowed")
            }
            try cursor.expect(" crc64=")
            stateChecksum = try cursor.checksum()
            try cursor.endOfLine()
        }
        if cursor.starts(with: "checksums ") { try parseChecksums(&cursor) }
        while cursor.starts(with: "region ") { try parseRegion(&cursor) }
        while cursor.starts(with: "slot ") { try parseSlot(&cursor) }
        guard cursor.isAtEnd else { throw Self.unknownLine(cursor) }
    }

    private mutating func parseChecksums(_ cursor: inout ManifestCursor) throws(Errno) {
        try cursor.expect("checksums bytes=")
        let bytes = try cursor.decimal()
        guard bytes == checksumsBytes else {
            throw fail(
                EINVAL,
                "manifest line \(cursor.line): checksums of \(bytes) bytes: a memory file of \(memoryBytes) has \(checksumsBytes)")
        }
        try cursor.expect(" crc64=")
        checksumsChecksum = try cursor.checksum()
        try cursor.endOfLine()
    }

    private mutating func parseRegion(_ cursor: inout ManifestCursor) throws(Errno) {
        try cursor.expect("region name=")
        let name = try cursor.name()
        try cursor.expect(" type=")
        let type = try Self.parseType(&cursor)
        try cursor.expect(" sharing=")
        let isPrivate = cursor.starts(with: "private")
        try cursor.expect(isPrivate ? "private" : "shared")
        try cursor.expect(" length=")
        let length = try cursor.decimal()
        try cursor.expect(" page-size=")
        let pageSize = try cursor.decimal()
        try cursor.expect(" file-offset=")
        let fileOffset = try cursor.decimal()
        try cursor.expect(" data=")
        let dataBytes = try cursor.decimal()
        try add(
            SnapshotRegion(
                name: name, type: type, isPrivate: isPrivate, length: length, pageSize: pageSize,
                fileOffset: fileOffset, dataBytes: dataBytes))
        try cursor.endOfLine()
    }

    private static func parseType(_ cursor: inout ManifestCursor) throws(Errno) -> UInt32 {
        for type in UInt32(GUESTRAM_ANON)...UInt32(GUESTRAM_GUEST_MEMFD) {
            guard let word = snapshotTypeName(type), cursor.starts(with: word) else { continue }
            try cursor.expect(word)
            return type
        }
        throw fail(
            EINVAL,
            "manifest line \(cursor.line): the type is none of anon, shmem, hugetlb, guest_memfd")
    }

    private mutating func parseSlot(_ cursor: inout ManifestCursor) throws(Errno) {
        try cursor.expect("slot region=")
        let name = try cursor.name()
        guard let region = regionIndex(of: name) else {
            throw fail(EINVAL, "manifest line \(cursor.line): slot of \(name), which is no region")
        }
        try cursor.expect(" guest-physical=")
        let guestPhysical = try cursor.hexadecimal()
        try cursor.expect(" offset=")
        let offset = try cursor.decimal()
        try cursor.expect(" length=")
        let length = try cursor.decimal()
        try add(
            SnapshotSlot(
                regionIndex: region, guestPhysical: guestPhysical, offset: offset, length: length))
        try cursor.endOfLine()
    }

    private static func unknownLine(_ cursor: ManifestCursor) -> Errno {
        // Words kept for a later version: layered snapshots and recorded working sets.
        if cursor.starts(with: "parent ") || cursor.starts(with: "working-set ") {
            return fail(
                EPROTONOSUPPORT,
                "manifest line \(cursor.line): a parent or a working set: use a newer guestram")
        }
        if cursor.starts(with: "region ") {
            return fail(EINVAL, "manifest line \(cursor.line): regions must stand before slots")
        }
        return fail(
            EINVAL, "manifest line \(cursor.line): neither a region nor a slot, or out of order")
    }
}
