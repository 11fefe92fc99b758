import CLinux
import Testing

@testable import GuestRAM

private func mapped(
    _ bytes: Int, _ protection: Int32, _ flags: Int32, _ file: Int32 = -1, _ offset: Int = 0
) throws -> Mapping {
    try Mapping(
        length: bytes, protection: protection, flags: flags, descriptor: file,
        offset: UInt64(offset))
}

/// The line of /proc/self/maps that holds the address.
private func entry(at address: UnsafeMutableRawPointer) throws -> MapsEntry? {
    let address = UInt64(UInt(bitPattern: address))
    var maps = try ProcessMaps()
    while let entry = maps.next(), entry.start <= address {
        if address < entry.end { return entry }
    }
    return nil
}

@Suite struct ProcessMapsTests {
    @Test func privateAnonymousMemoryIsToldFromTheRest() throws {
        let mapping = try mapped(8 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS)
        let entry = try #require(try entry(at: mapping.base + 5 * 4096))
        #expect(entry.isWritable && !entry.isShared && entry.inode == 0)
        #expect(!entry.isSpecial && !entry.isAnonymousHuge)
    }

    @Test func aFilesMappingHasItsInodeAndOffset() throws {
        let file = Descriptor(owning: try checked(cl_memfd_create("guestram test (x)", CL_MFD_CLOEXEC)))
        try #require(cl_ftruncate(file.raw, 16 * 4096) == 0)
        var status = cl_stat()
        try #require(cl_fstat(file.raw, &status) == 0)
        let mapping = try mapped(4 * 4096, PROT_READ, MAP_SHARED, file.raw, 3 * 4096)
        let entry = try #require(try entry(at: mapping.base))
        #expect(!entry.isWritable && entry.isShared)
        #expect(entry.inode == status.ino && entry.offset == 3 * 4096)
        #expect(entry.end - entry.start == 4 * 4096)
    }

    @Test func anonymousHugeMemoryIsKnownByItsName() throws {
        // Without a reservation it is mapped though there may be no huge page at all.
        let mapping = try mapped(
            2 << 20, PROT_READ | PROT_WRITE,
            MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE | CL_MAP_HUGE_2MB)
        let entry = try #require(try entry(at: mapping.base))
        #expect(entry.isAnonymousHuge && !entry.isShared && entry.isWritable)
    }

    @Test func theStackIsSpecial() throws {
        var maps = try ProcessMaps()
        var special = 0
        while let entry = maps.next() { special += entry.isSpecial ? 1 : 0 }
        #expect(special >= 2, "[stack] and [vdso] at least")
    }

    /// More lines than a buffer holds, so that every field is cut by its end somewhere.
    @Test func everyLineIsReadWholeAndInOrder() throws {
        let pages = 400
        let area = try mapped(pages * 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS)
        for page in stride(from: 1, to: pages, by: 2) {
            try #require(cl_mprotect(area.base + page * 4096, 4096, PROT_READ | PROT_WRITE) == 0)
        }
        let start = UInt64(UInt(bitPattern: area.base))
        var maps = try ProcessMaps()
        var last: UInt64 = 0
        var found = 0
        while let entry = maps.next() {
            #expect(last <= entry.start && entry.start < entry.end)
            last = entry.end
            guard entry.start > start, entry.end < start + UInt64(area.length) else { continue }
            #expect(entry.end - entry.start == 4096)
            #expect(entry.isWritable == ((entry.start - start) / 4096 % 2 == 1))
            found += 1
        }
        #expect(found == pages - 2)
    }

    @Test func populatedPagesAreFound() throws {
        let mapping = try mapped(64 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS)
        let start = UInt64(UInt(bitPattern: mapping.base))
        let pagemap = try PageMapFile()
        #expect(try pagemap.firstPopulated(start, 64 * 4096) == nil)
        mapping.base.storeBytes(of: 1, toByteOffset: 41 * 4096, as: UInt8.self)
        #expect(try pagemap.firstPopulated(start, 64 * 4096) == start + 41 * 4096)
        #expect(try pagemap.firstPopulated(start, 41 * 4096) == nil)
    }
}
