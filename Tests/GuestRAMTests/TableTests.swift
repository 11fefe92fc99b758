import CLinux
import Testing

@testable import GuestRAM

private func slot(_ start: UInt64, _ length: UInt64, region: UInt32 = 1) -> Slot {
    Slot(guestPhysical: start, length: length, offset: 0, region: region)
}

@Suite struct RegionTableTests {
    /// 64 regions of 16 pages, a gap of 16 pages behind each, put in out of order.
    private static func made(_ table: inout RegionTable) throws -> [TestRegion] {
        let regions = try (0..<64).map { index in
            let place = index * 37 % 64
            return try TestRegion(
                granules: 16, address: 1 << 32 + UInt64(place) * 0x20000, id: UInt32(index + 1),
                name: "region-\(index)")
        }
        for region in regions { table.insert(region.pointer) }
        return regions
    }

    @Test func anAddressIsFoundInItsRegionAndNowhereElse() throws {
        var table = RegionTable()
        let regions = try Self.made(&table)
        for region in regions {
            #expect(table.find(address: region.address) == region.pointer)
            #expect(table.find(address: region.address + 0xffff) == region.pointer)
            #expect(table.find(address: region.address + 0x10000) == nil)
            #expect(table.find(address: region.address - 1) == nil)
        }
        #expect(table.find(address: 0) == nil)
        #expect(table.find(address: .max) == nil)
    }

    @Test func itIsSortedByAddress() throws {
        var table = RegionTable()
        let regions = try Self.made(&table)
        #expect(table.count == regions.count)
        for index in 1..<table.count {
            #expect(table[index - 1].pointee.address < table[index].pointee.address)
        }
    }

    @Test func anOverlapIsSeenFromBothSidesAndTouchingIsNone() throws {
        var table = RegionTable()
        let regions = try Self.made(&table)
        let region = regions[5]
        #expect(table.overlapping(region.address - 4096, 4097) == region.pointer)
        #expect(table.overlapping(region.address + 0xffff, 1) == region.pointer)
        #expect(table.overlapping(region.address + 4096, 4096) == region.pointer)
        #expect(table.overlapping(region.address - 4096, 0x20000) == region.pointer)
        #expect(table.overlapping(region.address - 4096, 4096) == nil)
        #expect(table.overlapping(region.address + 0x10000, 0x10000) == nil)
    }

    @Test func regionsAreFoundByIDAndByName() throws {
        var table = RegionTable()
        let regions = try Self.made(&table)
        #expect(table.withID(64) == regions[63].pointer)
        #expect(table.withID(65) == nil)
        #expect(table.named(RegionName("region-7")!) == regions[7].pointer)
        #expect(table.named(RegionName("region-")!) == nil)
        var id: UInt32 = 0
        var seen: [UInt32] = []
        while let next = table.next(after: id) {
            id = next.pointee.id
            seen.append(id)
        }
        #expect(seen == Array(1...64))
    }

    @Test func whatIsRemovedIsGoneAndTheRestStays() throws {
        var table = RegionTable()
        let regions = try Self.made(&table)
        for region in regions where region.pointer.pointee.id % 2 == 0 { table.remove(region.pointer) }
        for region in regions {
            let expected = region.pointer.pointee.id % 2 == 0 ? nil : region.pointer
            #expect(table.find(address: region.address) == expected)
            #expect(table.withID(region.pointer.pointee.id) == expected)
        }
        #expect(table.count == 32)
    }
}

@Suite struct SlotTableTests {
    @Test func overlappingSlotsAreRefusedWithAMessageAndTouchingOnesTaken() throws {
        var table = SlotTable()
        try table.insert(slot(0x10000, 0x10000))
        for bad in [slot(0x1f000, 0x1000), slot(0, 0x11000), slot(0x14000, 0x1000), slot(0, 0x40000)] {
            do throws(Errno) {
                try table.insert(bad)
                Issue.record("taken: \(bad)")
            } catch {
                #expect(error.code == EEXIST)
                #expect(lastError().contains("overlaps the slot at 0x10000"))
            }
        }
        try table.insert(slot(0x20000, 0x1000))
        try table.insert(slot(0xf000, 0x1000))
        #expect(table.count == 3)
    }

    @Test func anAddressIsFoundInItsSlot() throws {
        var table = SlotTable()
        for start in [0x30000, 0x10000, 0x20000] as [UInt64] { try table.insert(slot(start, 0x1000)) }
        #expect(table.holding(0x20fff)?.guestPhysical == 0x20000)
        #expect(table.holding(0x21000) == nil)
        #expect(table.holding(0) == nil)
        #expect(table.next(from: 0)?.guestPhysical == 0x10000)
        #expect(table.next(from: 0x20000)?.guestPhysical == 0x20000)
        #expect(table.next(from: 0x20001)?.guestPhysical == 0x30000)
        #expect(table.next(from: 0x30001) == nil)
    }

    @Test func aRegionsSlotsGoWithIt() throws {
        var table = SlotTable()
        for index in 0..<10 as Range<UInt64> {
            try table.insert(slot(index << 16, 0x1000, region: UInt32(index % 3)))
        }
        table.removeAll(of: 0)
        #expect(table.count == 6)
        #expect(table.next(from: 0)?.region == 1)
        #expect(table.remove(at: 0) == false)
        #expect(table.remove(at: 0x10000) == true)
        #expect(table.remove(at: 0x10000) == false)
        #expect(table.count == 5)
    }

    @Test func aFullTableSaysSo() throws {
        var table = SlotTable()
        for index in 0..<UInt64(SlotTable.capacity) { try table.insert(slot(index << 12, 0x1000)) }
        do throws(Errno) {
            try table.insert(slot(1 << 40, 0x1000))
            Issue.record("one more was taken")
        } catch {
            #expect(error.code == ENOMEM)
            #expect(lastError().contains("4096"))
        }
    }
}
