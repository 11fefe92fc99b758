import Testing

@testable import GuestRAM

/// In a class, because #expect does not let a value change.
private final class TestReadsOn {
    private var readsOn = ReadsOn()

    func pays(after took: UInt64) -> Bool { readsOn.pays(after: took) }

    /// How often it is tried in vain before it is given up.
    func triesInVain(after took: UInt64) -> Int {
        var tries = 0
        while readsOn.pays(after: took), tries < 1000 {
            readsOn.wasInVain()
            tries += 1
        }
        return tries
    }
}

@Suite struct ReadsOnTests {
    @Test func afterAFillThatTookAsLongAsOthersItDoesNotPay() {
        let readsOn = TestReadsOn()
        for took in [1500, 1400, 1600, 2700] as [UInt64] { #expect(!readsOn.pays(after: took)) }
    }

    @Test func afterAFillThatWasInterruptedItPays() {
        let readsOn = TestReadsOn()
        #expect(!readsOn.pays(after: 1500))
        for _ in 0..<1000 { #expect(readsOn.pays(after: 5000)) }
    }

    @Test func whereFillsTakeLongerThanTheyDidItIsSoonGivenUp() {
        let readsOn = TestReadsOn()
        #expect(!readsOn.pays(after: 1500))
        #expect((1..<40).contains(readsOn.triesInVain(after: 100_000)))
        #expect(readsOn.pays(after: 300_000))
    }

    @Test func aMessageThatNeededNoFillIsForgotten() {
        let readsOn = TestReadsOn()
        #expect(!readsOn.pays(after: 0))
        #expect((1..<100).contains(readsOn.triesInVain(after: 1500)))
    }
}
