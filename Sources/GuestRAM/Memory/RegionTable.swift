import CLinux

/// A memory's regions, sorted by owner's address. Changed and searched under the event lock.
struct RegionTable: ~Copyable, @unchecked Sendable {
    static let capacity = 1024
    private let entries: UnsafeMutablePointer<RegionPointer>
    private(set) var count = 0

    init() { entries = .allocate(capacity: Self.capacity) }
    deinit { entries.deallocate() }

    var isFull: Bool { count == Self.capacity }

    subscript(_ index: Int) -> RegionPointer { entries[index] }

    /// The region that holds the address.
    @inline(__always)
    func find(address: UInt64) -> RegionPointer? {
        let index = firstIndex(above: address) - 1
        guard index >= 0, entries[index].pointee.contains(address: address) else { return nil }
        return entries[index]
    }

    /// A region that shares an address with the range.
    func overlapping(_ address: UInt64, _ length: UInt64) -> RegionPointer? {
        for index in 0..<count {
            let region = entries[index]
            if region.pointee.address < address + length
                && address < region.pointee.address + region.pointee.length
            {
                return region
            }
        }
        return nil
    }

    func withID(_ id: UInt32) -> RegionPointer? {
        for index in 0..<count where entries[index].pointee.id == id { return entries[index] }
        return nil
    }

    func named(_ name: borrowing RegionName) -> RegionPointer? {
        for index in 0..<count where entries[index].pointee.name.equals(name) {
            return entries[index]
        }
        return nil
    }

    /// The region with the smallest id above.
    func next(after id: UInt32) -> RegionPointer? {
        var best: RegionPointer?
        for index in 0..<count where entries[index].pointee.id > id {
            if let known = best, known.pointee.id < entries[index].pointee.id { continue }
            best = entries[index]
        }
        return best
    }

    mutating func insert(_ region: RegionPointer) {
        let index = firstIndex(above: region.pointee.address)
        (entries + index + 1).update(from: entries + index, count: count - index)
        entries[index] = region
        count += 1
    }

    mutating func remove(_ region: RegionPointer) {
        for index in 0..<count where entries[index] == region {
            (entries + index).update(from: entries + index + 1, count: count - index - 1)
            count -= 1
            return
        }
    }

    private func firstIndex(above address: UInt64) -> Int {
        var low = 0
        var high = count
        while low < high {
            let middle = (low &+ high) / 2
            if entries[middle].pointee.address <= address { low = middle &+ 1 } else { high = middle }
        }
        return low
    }
}
