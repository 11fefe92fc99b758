import CLinux
import Synchronization

/// What we know of one granule. It is our own knowledge, never what the page cache holds: a page
/// can be cached without having been filled (a huge folio allocated by one small write).
enum PageState {
    /// Its contents are still only in the source.
    static let absent: UInt8 = 0
    /// Somebody has claimed it and is bringing its contents.
    static let filling: UInt8 = 1
    static let present: UInt8 = 2
    /// Not filled, reads zero: a hole of the snapshot, or discarded. Never refilled from a source.
    static let zero: UInt8 = 3
    static let poisoned: UInt8 = 4
    /// Unmapped under us: no longer served.
    static let gone: UInt8 = 5
    static let mask: UInt8 = 0x07

    /// Flags beside the state.
    /// A fault met `filling` and was dropped: whoever leaves `filling` owes a WAKE.
    static let waited: UInt8 = 0x10
    /// Discarded while `filling`: what is being brought must not be installed.
    static let discarded: UInt8 = 0x20
    /// Write-protected: every fill keeps the protection.
    static let protected: UInt8 = 0x40
    /// `absent` whose source failed, or `zero` that found no memory: waits for the VMM's answer.
    static let asked: UInt8 = 0x80
}

/// One byte of state per granule of a region. Claims (absent to filling) are made by compare and
/// swap from any thread; every other change happens under the memory's event lock.
struct PageMap: ~Copyable, @unchecked Sendable {
    let count: Int
    private let mapping: Mapping
    private let states: UnsafeMutablePointer<Atomic<UInt8>>

    /// All `absent`.
    init(count: Int) throws(Errno) {
        self.count = count
        mapping = try Mapping(anonymous: count)
        // Atomic<UInt8> has the layout of UInt8, and a zeroed one is a valid one.
        states = mapping.base.bindMemory(to: Atomic<UInt8>.self, capacity: count)
    }

    @inline(__always)
    subscript(_ granule: Int) -> UInt8 { states[granule].load(ordering: .acquiring) }

    @inline(__always)
    func state(_ granule: Int) -> UInt8 { self[granule] & PageState.mask }

    @inline(__always)
    func exchange(_ granule: Int, _ value: UInt8) -> UInt8 {
        states[granule].exchange(value, ordering: .acquiringAndReleasing)
    }

    @inline(__always)
    func replace(_ granule: Int, _ expected: UInt8, by value: UInt8) -> Bool {
        states[granule].compareExchange(
            expected: expected, desired: value, ordering: .acquiringAndReleasing
        ).exchanged
    }

    /// Sets and clears flag bits, leaving the rest as it is; returns the byte before.
    @inline(__always)
    @discardableResult
    func setFlags(_ granule: Int, _ flags: UInt8) -> UInt8 {
        states[granule].bitwiseOr(flags, ordering: .acquiringAndReleasing).oldValue
    }

    @inline(__always)
    @discardableResult
    func clearFlags(_ granule: Int, _ flags: UInt8) -> UInt8 {
        states[granule].bitwiseAnd(~flags, ordering: .acquiringAndReleasing).oldValue
    }

    /// Takes an absent granule for filling, keeping its protection.
    @inline(__always)
    func claim(_ granule: Int) -> Bool {
        let value = self[granule]
        return value & ~PageState.protected == PageState.absent
            && replace(granule, value, by: value | PageState.filling)
    }

    /// A new state that keeps `protected`; returns the byte before, whose `waited` the caller owes.
    @inline(__always)
    func settle(_ granule: Int, to state: UInt8) -> UInt8 {
        while true {
            let value = self[granule]
            if replace(granule, value, by: state | value & PageState.protected) { return value }
        }
    }

    /// Makes everything `present` that is `zero`. Eight granules at a time where all are alike: there may be
    /// millions, and faults wait meanwhile.
    func presentZeros() {
        let zeros = UInt64(PageState.zero) &* 0x0101_0101_0101_0101
        let presents = UInt64(PageState.present) &* 0x0101_0101_0101_0101
        let words = mapping.base.assumingMemoryBound(to: Atomic<UInt64>.self)
        var granule = 0
        while granule < count {
            if granule & 7 == 0 && count &- granule >= 8
                && words[granule >> 3].load(ordering: .relaxed) == zeros
                && words[granule >> 3].compareExchange(
                    expected: zeros, desired: presents, ordering: .acquiringAndReleasing
                ).exchanged
            {
                granule &+= 8
                continue
            }
            if state(granule) == PageState.zero { _ = settle(granule, to: PageState.present) }
            granule &+= 1
        }
    }

    /// Before anyone else sees the region.
    func fill(_ range: Range<Int>, with state: UInt8) {
        memset(mapping.base + range.lowerBound, Int32(state), range.count)
    }

    /// How many granules are in each state, by number of the state.
    func census() -> InlineArray<8, UInt64> {
        var counts = InlineArray<8, UInt64>(repeating: 0)
        for granule in 0..<count { counts[Int(state(granule))] &+= 1 }
        return counts
    }
}
