import CLinux

/// A region as it was saved.
struct SnapshotRegion: BitwiseCopyable, Sendable {
    var name: RegionName
    var type: UInt32 // GUESTRAM_ANON…
    var isPrivate: Bool
    var length: UInt64
    var pageSize: UInt64
    var fileOffset: UInt64
    var dataBytes: UInt64
}

/// Where a part of a region appears in guest-physical space.
struct SnapshotSlot: BitwiseCopyable, Sendable {
    var regionIndex: Int
    var guestPhysical: UInt64
    var offset: UInt64
    var length: UInt64
}

/// What a snapshot's manifest says. Regions and slots come in only through add(), so what is in
/// here is free of overlaps, overflows and bad alignment, whoever filled it.
struct Manifest: ~Copyable {
    static let version: UInt64 = 1
    static let maximumBytes = 1 << 20 // holds the largest number of regions and slots
    static let maximumRegions = 1024
    static let maximumSlots = 4096
    static let maximumStateBytes: UInt64 = 1 << 30
    static let slotAlignment: UInt64 = 4096
    static let largestPage: UInt64 = 1 << 30

    var memoryBytes: UInt64 = 0
    var stateBytes: UInt64 = 0
    var stateChecksum: UInt64 = 0
    /// CRC-64 of the file `checksums`; nil: the snapshot has none.
    var checksumsChecksum: UInt64?
    var regions: BoundedList<SnapshotRegion>
    private(set) var slots: BoundedList<SnapshotSlot>

    init() throws(Errno) {
        let regions = try BoundedList<SnapshotRegion>(capacity: Self.maximumRegions)
        slots = try BoundedList(capacity: Self.maximumSlots)
        self.regions = regions
    }

    /// Region starts are aligned so that huge pages can be read, mapped and cloned as they lie.
    static func fileAlignment(pageSize: UInt64) -> UInt64 { max(pageSize, 2 << 20) }

    /// What the file `checksums` has, if there is one.
    var checksumsBytes: UInt64 { PageChecksums.bytes(for: memoryBytes) }

    /// Regions come in the order in which they lie in the memory file.
    mutating func add(_ region: SnapshotRegion) throws(Errno) {
        let line = nextLine
        let name = region.name
        guard !regions.isFull else {
            throw fail(EINVAL, "manifest line \(line): more than \(Self.maximumRegions) regions")
        }
        guard regionIndex(of: name) == nil else {
            throw fail(EINVAL, "manifest line \(line): a second region of the name \(name)")
        }
        guard snapshotTypeName(region.type) != nil else {
            throw fail(EINVAL, "manifest line \(line): region \(name): no memory type \(region.type)")
        }
        let pageSize = region.pageSize
        guard pageSize >= 4096, pageSize <= Self.largestPage, pageSize & (pageSize - 1) == 0 else {
            throw fail(
                EINVAL,
                "manifest line \(line): region \(name): page-size \(pageSize) is not a power of two from 4096 to \(Self.largestPage)")
        }
        guard region.length > 0, region.length % pageSize == 0 else {
            throw fail(
                EINVAL,
                "manifest line \(line): region \(name): length \(region.length) is not a multiple, at least one, of its page-size \(pageSize)")
        }
        let alignment = Self.fileAlignment(pageSize: pageSize)
        guard region.fileOffset % alignment == 0 else {
            throw fail(
                EINVAL,
                "manifest line \(line): region \(name): file-offset \(region.fileOffset) is not a multiple of \(alignment)")
        }
        guard region.fileOffset >= endOfRegions else {
            throw fail(
                EINVAL,
                "manifest line \(line): region \(name): file-offset \(region.fileOffset) overlaps the region before, which ends at \(endOfRegions)")
        }
        let (end, overflow) = region.fileOffset.addingReportingOverflow(region.length)
        guard !overflow, end <= memoryBytes else {
            throw fail(
                EINVAL,
                "manifest line \(line): region \(name): file-offset \(region.fileOffset) and length \(region.length) reach beyond the memory file's \(memoryBytes) bytes")
        }
        guard region.dataBytes <= region.length else {
            throw fail(
                EINVAL,
                "manifest line \(line): region \(name): data \(region.dataBytes) is more than its length \(region.length)")
        }
        regions.append(region)
    }

    /// Slots come in the order of their guest-physical addresses.
    mutating func add(_ slot: SnapshotSlot) throws(Errno) {
        let line = nextLine
        guard !slots.isFull else {
            throw fail(EINVAL, "manifest line \(line): more than \(Self.maximumSlots) slots")
        }
        guard slot.regionIndex >= 0, slot.regionIndex < regions.count else {
            throw fail(EINVAL, "manifest line \(line): slot of a region that is not there")
        }
        let alignment = Self.slotAlignment
        guard slot.length > 0,
            slot.length % alignment == 0, slot.offset % alignment == 0,
            slot.guestPhysical % alignment == 0
        else {
            throw fail(
                EINVAL,
                "manifest line \(line): slot at \(hex: slot.guestPhysical): address, offset \(slot.offset) and length \(slot.length) must be multiples of \(alignment), the length at least one")
        }
        let regionLength = regions[slot.regionIndex].length
        guard slot.offset <= regionLength, slot.length <= regionLength - slot.offset else {
            throw fail(
                EINVAL,
                "manifest line \(line): slot at \(hex: slot.guestPhysical): offset \(slot.offset) and length \(slot.length) reach beyond the region's \(regionLength) bytes")
        }
        // The last page of the address space is given up, so that ends can be computed everywhere.
        guard !slot.guestPhysical.addingReportingOverflow(slot.length).overflow else {
            throw fail(
                EINVAL,
                "manifest line \(line): slot at \(hex: slot.guestPhysical): length \(slot.length) reaches beyond the address space")
        }
        if slots.count > 0 {
            let before = slots[slots.count - 1]
            guard slot.guestPhysical >= before.guestPhysical + before.length else {
                throw fail(
                    EINVAL,
                    "manifest line \(line): slot at \(hex: slot.guestPhysical) overlaps the slot before, which ends at \(hex: before.guestPhysical + before.length)")
            }
        }
        slots.append(slot)
    }

    /// Names are compared as they lie in memory, all at once: a hostile manifest makes that five
    /// million times. Their unused bytes are zero.
    func regionIndex(of name: RegionName) -> Int? {
        withUnsafeBytes(of: name) { wanted in
            regions.elements.firstIndex { region in
                withUnsafeBytes(of: region.name) {
                    memcmp($0.baseAddress!, wanted.baseAddress!, wanted.count) == 0
                }
            }
        }
    }

    /// Where the last region ends in the memory file.
    var endOfRegions: UInt64 {
        guard regions.count > 0 else { return 0 }
        let last = regions[regions.count - 1]
        return last.fileOffset + last.length
    }

    /// The line that the next region or slot stands on; see ManifestWriter.swift for the order.
    private var nextLine: Int {
        3 + (stateBytes > 0 ? 1 : 0) + (checksumsChecksum != nil ? 1 : 0) + regions.count + slots.count
    }
}

/// The word that stands for a memory type.
func snapshotTypeName(_ type: UInt32) -> StaticString? { MemoryType.numbered(type)?.name }
