import CLinux
import Synchronization
import Testing

@testable import GuestRAM

/// To be shared by tasks.
private final class SharedPageMap: Sendable {
    let pages: PageMap
    init(_ count: Int) throws { pages = try PageMap(count: count) }
}

@Suite struct PageMapTests {
    @Test func aNewMapIsAbsent() throws {
        let pages = try PageMap(count: 1000)
        #expect(pages.census()[Int(PageState.absent)] == 1000)
    }

    @Test func onlyWhatIsAbsentAndNotAskedForIsClaimed() throws {
        let pages = try PageMap(count: 1)
        let others = [
            PageState.filling, PageState.present, PageState.zero, PageState.poisoned, PageState.gone,
            PageState.absent | PageState.asked,
        ]
        for byte in others {
            pages.fill(0..<1, with: byte)
            #expect(pages.claim(0) == false)
            #expect(pages[0] == byte)
        }
        pages.fill(0..<1, with: PageState.absent)
        #expect(pages.claim(0) == true)
        #expect(pages[0] == PageState.filling)
    }

    @Test func protectionOutlivesClaimAndSettle() throws {
        let pages = try PageMap(count: 1)
        pages.setFlags(0, PageState.protected)
        #expect(pages.claim(0) == true)
        #expect(pages[0] == PageState.filling | PageState.protected)
        _ = pages.settle(0, to: PageState.present)
        #expect(pages[0] == PageState.present | PageState.protected)
        _ = pages.settle(0, to: PageState.zero)
        #expect(pages[0] == PageState.zero | PageState.protected)
    }

    @Test func settleAnswersWhoWaitedAndForgetsIt() throws {
        let pages = try PageMap(count: 1)
        #expect(pages.claim(0) == true)
        pages.setFlags(0, PageState.waited | PageState.discarded)
        let before = pages.settle(0, to: PageState.present)
        #expect(before == PageState.filling | PageState.waited | PageState.discarded)
        #expect(pages[0] == PageState.present)
    }

    /// In runs of every length and at every place, beside every other state and with every flag.
    @Test func zerosBecomePresentAndNothingElseChanges() throws {
        for count in [1, 7, 8, 9, 1003] {
            let pages = try PageMap(count: count)
            var random = UInt64(count)
            for granule in 0..<count {
                random = random &* 6_364_136_223_846_793_005 &+ 1
                let other = UInt8(random >> 60) % 8
                let flags: [UInt8] = [0, PageState.protected, PageState.asked, PageState.waited]
                let byte = granule % 64 < 40 || other == PageState.zero ? PageState.zero : other | flags[granule % 4]
                pages.fill(granule..<granule + 1, with: granule % 50 == 49 ? byte | PageState.protected : byte)
            }
            let before = (0..<count).map { pages[$0] }
            pages.presentZeros()
            for granule in 0..<count {
                let byte = before[granule]
                let zero = byte & PageState.mask == PageState.zero
                #expect(
                    pages[granule] == (zero ? PageState.present | byte & PageState.protected : byte))
            }
        }
    }

    @Test func flagsLeaveTheStateAlone() throws {
        let pages = try PageMap(count: 1)
        for state in PageState.absent...PageState.gone {
            pages.fill(0..<1, with: state)
            #expect(pages.setFlags(0, PageState.waited) == state)
            #expect(pages.state(0) == state)
            #expect(pages.clearFlags(0, PageState.waited) == state | PageState.waited)
            #expect(pages[0] == state)
        }
    }

    @Test func replaceRefusesWhatHasChanged() throws {
        let pages = try PageMap(count: 1)
        pages.setFlags(0, PageState.protected)
        #expect(pages.replace(0, PageState.absent, by: PageState.filling) == false)
        #expect(pages[0] == PageState.protected)
    }

    @Test func oneOfManyThreadsHasAGranule() async throws {
        let count = 10_000
        let shared = try SharedPageMap(count)
        let claimed = await withTaskGroup(of: Int.self) { group in
            for _ in 0..<4 {
                group.addTask {
                    var mine = 0
                    for granule in 0..<count where shared.pages.claim(granule) { mine += 1 }
                    return mine
                }
            }
            return await group.reduce(0, +)
        }
        #expect(claimed == count)
    }

    /// Whoever leaves `filling` sees the flag, or the one who waits sees that it was left.
    @Test func aWaiterIsNeverForgotten() async throws {
        let count = 10_000
        let shared = try SharedPageMap(count)
        for granule in 0..<count { #expect(shared.pages.claim(granule) == true) }
        async let owed = Task.detached {
            (0..<count).count { shared.pages.settle($0, to: PageState.present) & PageState.waited != 0 }
        }.value
        async let waiting = Task.detached {
            (0..<count).count { granule in
                let byte = shared.pages[granule]
                return byte == PageState.filling
                    && shared.pages.replace(granule, byte, by: byte | PageState.waited)
            }
        }.value
        #expect(await owed == waiting)
    }
}
