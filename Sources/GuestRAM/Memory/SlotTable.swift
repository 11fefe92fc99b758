import CLinux

/// A part of a region, where it appears in guest-physical space.
struct Slot: Sendable {
    let guestPhysical: UInt64
    let length: UInt64
    let offset: UInt64
    let region: UInt32

    var end: UInt64 { guestPhysical + length }
}

/// Sorted by guest-physical address; nothing overlaps. Under the configuration lock.
struct SlotTable: ~Copyable, @unchecked Sendable {
    static let capacity = 4096
    private let entries: UnsafeMutablePointer<Slot>
    private(set) var count = 0

    init() { entries = .allocate(capacity: Self.capacity) }
    deinit { entries.deallocate() }

    subscript(_ index: Int) -> Slot { entries[index] }

    mutating func insert(_ slot: Slot) throws(Errno) {
        guard count < Self.capacity else {
            throw fail(ENOMEM, "a memory has at most \(Self.capacity) slots")
        }
        var index = 0
        while index < count, entries[index].guestPhysical < slot.guestPhysical { index += 1 }
        if index > 0, entries[index - 1].end > slot.guestPhysical {
            throw overlap(slot, entries[index - 1])
        }
        if index < count, slot.end > entries[index].guestPhysical {
            throw overlap(slot, entries[index])
        }
        (entries + index + 1).update(from: entries + index, count: count - index)
        entries[index] = slot
        count += 1
    }

    private func overlap(_ slot: Slot, _ other: Slot) -> Errno {
        fail(
            EEXIST,
            "guest_physical \(hex: slot.guestPhysical) + \(slot.length) overlaps the slot at \(hex: other.guestPhysical)"
        )
    }

    mutating func remove(at guestPhysical: UInt64) -> Bool {
        for index in 0..<count where entries[index].guestPhysical == guestPhysical {
            removeEntry(index)
            return true
        }
        return false
    }

    mutating func removeAll(of region: UInt32) {
        var index = 0
        while index < count {
            if entries[index].region == region { removeEntry(index) } else { index += 1 }
        }
    }

    private mutating func removeEntry(_ index: Int) {
        (entries + index).update(from: entries + index + 1, count: count - index - 1)
        count -= 1
    }

    /// The first slot that starts at or above.
    func next(from guestPhysical: UInt64) -> Slot? {
        for index in 0..<count where entries[index].guestPhysical >= guestPhysical {
            return entries[index]
        }
        return nil
    }

    /// The slot that holds the address.
    func holding(_ guestPhysical: UInt64) -> Slot? {
        for index in 0..<count
        where entries[index].guestPhysical <= guestPhysical && guestPhysical < entries[index].end {
            return entries[index]
        }
        return nil
    }
}
