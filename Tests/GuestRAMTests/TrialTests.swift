import Testing

@testable import GuestRAM

@Suite struct TrialTests {
    /// How many times it is left out after each outcome.
    private static func pauses(_ outcomes: [Bool], longest: Int) -> [Int] {
        var trial = Trial(longestPause: longest)
        return outcomes.map { outcome in
            trial.found(outcome)
            var left = 0
            while !trial.isDue() { left += 1 }
            return left
        }
    }

    @Test func itIsDueAtFirst() {
        var trial = Trial(longestPause: 15)
        let due = trial.isDue()
        #expect(due)
    }

    @Test func itIsDueAsLongAsItSucceeds() {
        #expect(Self.pauses([true, true, true], longest: 15) == [0, 0, 0])
    }

    @Test func eachFailureDoublesThePauseUpToTheLongest() {
        #expect(
            Self.pauses([false, false, false, false, false, false], longest: 15)
                == [1, 3, 7, 15, 15, 15])
    }

    @Test func aSuccessMakesItDueEveryTimeAgain() {
        #expect(
            Self.pauses([false, false, false, true, true, false], longest: 63) == [1, 3, 7, 0, 0, 1])
    }
}
