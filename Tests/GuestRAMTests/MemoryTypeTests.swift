import CLinux
import Testing

@testable import GuestRAM

private let every = [MemoryType.anon, .shmem, .hugetlb, .guestMemfd]

private let operations: [(Operation, Int)] = [
    (.copy(from: 0), GUESTRAM_OP_COPY), (.zeropage, GUESTRAM_OP_ZEROPAGE),
    (.continue, GUESTRAM_OP_CONTINUE), (.poison, GUESTRAM_OP_POISON),
    (.move(from: 0), GUESTRAM_OP_MOVE), (.writeprotect(true), GUESTRAM_OP_WRITEPROTECT),
]

@Suite struct MemoryTypeTests {
    @Test func aTypesOperationsAreTheEntriesOfItsRow() {
        for type in every {
            for (operation, number) in operations {
                let bit: UInt32 = 1 << UInt32(number)
                #expect(operation.bit == bit)
                #expect((type.operations & bit != 0) == (type.entry(for: operation) != nil))
            }
        }
    }

    @Test func theRowsSayWhatTheKernelHas() {
        func has(_ type: MemoryType) -> [Int] {
            operations.map(\.1).filter { type.operations & 1 << UInt32($0) != 0 }
        }
        #expect(has(.anon) == [GUESTRAM_OP_COPY, GUESTRAM_OP_ZEROPAGE, GUESTRAM_OP_POISON, GUESTRAM_OP_MOVE, GUESTRAM_OP_WRITEPROTECT])
        #expect(has(.shmem) == [GUESTRAM_OP_COPY, GUESTRAM_OP_ZEROPAGE, GUESTRAM_OP_CONTINUE, GUESTRAM_OP_POISON, GUESTRAM_OP_WRITEPROTECT])
        #expect(has(.hugetlb) == [GUESTRAM_OP_COPY, GUESTRAM_OP_CONTINUE, GUESTRAM_OP_POISON, GUESTRAM_OP_WRITEPROTECT])
        #expect(has(.guestMemfd) == [GUESTRAM_OP_CONTINUE])
    }

    /// With MINOR alone the kernel would fill holes with zeros and tell nobody.
    @Test func whoHasMinorFaultsHasContinueAndMissingFaultsToo() {
        for type in every {
            let minor = type.modes & CL_UFFDIO_REGISTER_MODE_MINOR != 0
            #expect(minor == (type.continue != nil))
            #expect(type.modes & CL_UFFDIO_REGISTER_MODE_MISSING != 0)
        }
    }

    @Test func numbersAreThoseOfTheHeader() {
        for number in 1...4 as ClosedRange<UInt32> {
            #expect(MemoryType.numbered(number)?.number == number)
        }
        #expect(MemoryType.numbered(0) == nil)
        #expect(MemoryType.numbered(5) == nil)
        #expect(MemoryType.numbered(.max) == nil)
    }

    /// On a descriptor that is none: an ioctl would answer EBADF.
    @Test func anOperationThatTheRowLacksIsRefusedBeforeAnyIoctl() throws {
        for type in every {
            let region = try TestRegion(type, granules: 4)
            region.pointer.pointee.operations = .max
            for (operation, _) in operations {
                let outcome = mfill(region.pointer, operation, at: 0, length: type.pageSize)
                #expect(outcome.done == 0)
                #expect(outcome.error == (type.entry(for: operation) == nil ? EOPNOTSUPP : EBADF))
            }
        }
    }

    @Test func anOperationThatTheKernelDidNotOfferIsRefusedToo() throws {
        let region = try TestRegion(.shmem, granules: 4)
        for (operation, _) in operations {
            region.pointer.pointee.operations = ~operation.bit
            #expect(mfill(region.pointer, operation, at: 0, length: 4096).error == EOPNOTSUPP)
        }
    }
}
