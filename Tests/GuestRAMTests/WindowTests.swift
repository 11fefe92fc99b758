import CLinux
import Testing

@testable import GuestRAM

private let most: UInt64 = 2 << 20  // 512 pages

@Suite struct WindowTests {
    @Test func aSequentialReaderIsGivenGrowingWindowsUpToTheLimit() throws {
        let region = try TestRegion(granules: 4096)
        var next = 0
        var sizes: [Int] = []
        while next < 4096 {
            let window = Window.around(next, region.pointer, most)
            #expect(window.lowerBound == next)
            region.set(window, to: PageState.present)
            sizes.append(window.count)
            next = window.upperBound
        }
        #expect(sizes.first == 1)
        #expect(sizes.dropLast() == sizes.dropLast().sorted()[...])
        #expect(sizes.max() == 512)
        #expect(sizes.prefix { $0 < 512 }.count <= 8, "the limit is reached within a few faults")
    }

    @Test func aRandomFaultBringsItselfOnlyAlsoRightAfterAStream() throws {
        let region = try TestRegion(granules: 4096)
        region.set(0..<1024, to: PageState.present)
        #expect(Window.around(1024, region.pointer, most).count == 512)
        #expect(Window.around(3000, region.pointer, most) == 3000..<3001)
        #expect(Window.around(1025, region.pointer, most) == 1025..<1026)
        #expect(Window.around(1024, region.pointer, most).count == 512, "the stream goes on")
    }

    @Test func onlyWhatIsPresentSpeaksForAStream() throws {
        let region = try TestRegion(granules: 64)
        for state in [PageState.absent, PageState.filling, PageState.zero, PageState.poisoned] {
            region.set(0..<32, to: state)
            #expect(Window.around(32, region.pointer, most) == 32..<33)
        }
    }

    @Test func aWindowEndsWithItsRegion() throws {
        let region = try TestRegion(granules: 100)
        region.set(0..<90, to: PageState.present)
        #expect(Window.around(90, region.pointer, most) == 90..<100)
        #expect(Window.around(99, region.pointer, most) == 99..<100)
        #expect(Window.around(0, region.pointer, most) == 0..<1)
    }

    @Test(arguments: [MemoryType.anon, .hugetlb]) func aWindowOfOneGranuleTurnsItOff(_ type: MemoryType) throws {
        let region = try TestRegion(type, granules: 64)
        region.set(0..<32, to: PageState.present)
        #expect(Window.around(32, region.pointer, 4096) == 32..<33)
    }

    @Test func aClaimEndsAtWhatAnotherHasAndAtTheStagingBuffer() throws {
        let region = try TestRegion(granules: 64)
        #expect(region.pointer.pointee.pages.claim(0) == true)
        region.set(10..<11, to: PageState.filling)
        #expect(Window.claim(region.pointer, after: 0, before: 64) == 0..<10)
        #expect(region.pointer.pointee.pages.claim(20) == true)
        #expect(Window.claim(region.pointer, after: 20, before: 64) == 20..<36)
        #expect(region.pointer.pointee.pages.state(36) == PageState.absent)
    }
}
