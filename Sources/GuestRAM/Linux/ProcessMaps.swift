import CLinux

/// One line of /proc/self/maps.
struct MapsEntry {
    var start: UInt64 = 0
    var end: UInt64 = 0
    var isWritable = false
    var isShared = false
    var offset: UInt64 = 0
    var inode: UInt64 = 0
    /// The name begins with '[' : heap, stack and their kind.
    var isSpecial = false
    /// Anonymous hugetlb memory has this name.
    var isAnonymousHuge = false
}

/// Reads /proc/self/maps line by line through a buffer of its own. PROCMAP_QUERY would be shorter,
/// but only from Linux 6.11 on.
struct ProcessMaps: ~Copyable {
    private let descriptor: Descriptor
    private var buffer = InlineArray<4096, UInt8>(repeating: 0)
    private var position = 0
    private var filled = 0

    init() throws(Errno) {
        let raw = cl_open("/proc/self/maps", O_RDONLY, 0)
        guard raw >= 0 else {
            throw fail(-raw, "/proc/self/maps: \(Errno(-raw)); a mapping cannot be checked without it")
        }
        descriptor = Descriptor(owning: raw)
    }

    private mutating func byte() -> UInt8? {
        if position == filled {
            let result = withUnsafeMutableBytes(of: &buffer) { bytes in
                cl_read(descriptor.raw, bytes.baseAddress, bytes.count)
            }
            guard result > 0 else { return nil }
            position = 0
            filled = result
        }
        defer { position += 1 }
        return buffer[position]
    }

    /// A number in hex, and the byte that ended it.
    private mutating func hex(radix: UInt64 = 16) -> (UInt64, UInt8)? {
        var value: UInt64 = 0
        while let next = byte() {
            switch next {
            case UInt8(ascii: "0")...UInt8(ascii: "9"):
                value = value &* radix &+ UInt64(next - UInt8(ascii: "0"))
            case UInt8(ascii: "a")...UInt8(ascii: "f") where radix == 16:
                value = value &* 16 &+ UInt64(next - UInt8(ascii: "a") + 10)
            default: return (value, next)
            }
        }
        return nil
    }

    mutating func next() -> MapsEntry? {
        var entry = MapsEntry()
        guard let (start, _) = hex(), let (end, _) = hex() else { return nil }
        entry.start = start
        entry.end = end
        for column in 0..<5 {
            guard let letter = byte() else { return nil }
            if column == 1 { entry.isWritable = letter == UInt8(ascii: "w") }
            if column == 3 { entry.isShared = letter == UInt8(ascii: "s") }
        }
        guard let (offset, _) = hex(), hex() != nil, hex() != nil, let (inode, stop) = hex(radix: 10)
        else { return nil }
        entry.offset = offset
        entry.inode = inode
        readName(after: stop, into: &entry)
        return entry
    }

    private mutating func readName(after first: UInt8, into entry: inout MapsEntry) {
        let huge: StaticString = "/anon_hugepage"
        var matched = 0
        var begun = false
        var letter: UInt8? = first
        while let current = letter, current != UInt8(ascii: "\n") {
            if !begun && current != UInt8(ascii: " ") {
                begun = true
                entry.isSpecial = current == UInt8(ascii: "[")
            }
            if begun && matched < huge.utf8CodeUnitCount && current == huge.utf8Start[matched] {
                matched += 1
            }
            letter = byte()
        }
        entry.isAnonymousHuge = matched == huge.utf8CodeUnitCount
    }
}

/// /proc/self/pagemap: which pages of this process are there, in memory or in swap.
struct PageMapFile: ~Copyable {
    private let descriptor: Descriptor

    init() throws(Errno) {
        let raw = cl_open("/proc/self/pagemap", O_RDONLY, 0)
        guard raw >= 0 else {
            throw fail(-raw, "/proc/self/pagemap: \(Errno(-raw)); populated pages cannot be told without it")
        }
        descriptor = Descriptor(owning: raw)
    }

    /// One entry per 4 KiB page from the address on; an entry is nonzero in its top bits where the
    /// page is populated.
    func read(
        _ address: UInt64, _ entries: UnsafeMutablePointer<UInt64>, count: Int
    ) throws(Errno) {
        let wanted = count * 8
        let result = cl_pread(descriptor.raw, entries, wanted, off_t(address / 4096 * 8))
        guard result == wanted else {
            throw fail(result < 0 ? Int32(-result) : EIO, "/proc/self/pagemap could not be read")
        }
    }

    static func isPopulated(_ entry: UInt64) -> Bool { entry >> 62 != 0 }

    /// The first populated address of the range.
    func firstPopulated(_ address: UInt64, _ length: UInt64) throws(Errno) -> UInt64? {
        let capacity = 4096
        let entries = UnsafeMutablePointer<UInt64>.allocate(capacity: capacity)
        defer { entries.deallocate() }
        var page: UInt64 = 0
        while page < length / 4096 {
            let count = Int(min(UInt64(capacity), length / 4096 - page))
            try read(address + page * 4096, entries, count: count)
            for index in 0..<count where Self.isPopulated(entries[index]) {
                return address + (page + UInt64(index)) * 4096
            }
            page += UInt64(count)
        }
        return nil
    }
}
