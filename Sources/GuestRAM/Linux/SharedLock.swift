import CLinux
import Synchronization

/// A lock that many may share or one may own. Who wants to own it keeps new sharers out from then
/// on, so that a stream of sharers keeps no owner out.
///
/// Owning and sharing both cost one atomic to begin and one to end.
struct SharedLock: ~Copyable, @unchecked Sendable {
    /// Somebody owns it, or waits for the last sharer to go.
    private static let owned: UInt32 = 1 << 31
    /// Somebody sleeps until `owned` goes; never set without it.
    private static let awaited: UInt32 = 1 << 30
    private static let sharers = awaited - 1

    /// The two bits, and how many share it.
    private let state = FutexWord()

    @inline(__always)
    func lock() {
        let free = state.word.pointee.compareExchange(
            expected: 0, desired: Self.owned, ordering: .acquiring
        ).exchanged
        if !free { lockSlowly() }
    }

    @inline(__always)
    func unlock() {
        let before = state.word.pointee.exchange(0, ordering: .releasing)
        // All of them: who comes too late sleeps again, and says so again.
        if before & Self.awaited != 0 { state.wake() }
    }

    @inline(__always)
    func lockShared() {
        let before = state.word.pointee.load(ordering: .relaxed)
        let shared =
            before & Self.owned == 0
            && state.word.pointee.compareExchange(
                expected: before, desired: before &+ 1, ordering: .acquiring
            ).exchanged
        if !shared { takeWhenNotOwned { $0 &+ 1 } }
    }

    @inline(__always)
    func unlockShared() {
        let before = state.word.pointee.wrappingSubtract(1, ordering: .releasing).oldValue
        if before & Self.owned != 0 && before & Self.sharers == 1 { state.wake() }
    }

    @inline(never)
    private func lockSlowly() {
        takeWhenNotOwned { $0 | Self.owned }
        var now = state.word.pointee.load(ordering: .acquiring)
        while now & Self.sharers != 0 {
            state.wait(while: now, -1)
            now = state.word.pointee.load(ordering: .acquiring)
        }
    }

    @inline(__always)
    private func takeWhenNotOwned(_ taken: (UInt32) -> UInt32) {
        var before = state.word.pointee.load(ordering: .relaxed)
        while true {
            if before & Self.owned == 0 {
                let (exchanged, now) = state.word.pointee.compareExchange(
                    expected: before, desired: taken(before), ordering: .acquiring)
                if exchanged { return }
                before = now
            } else if before & Self.awaited == 0 {
                let (exchanged, now) = state.word.pointee.compareExchange(
                    expected: before, desired: before | Self.awaited, ordering: .relaxed)
                before = exchanged ? before | Self.awaited : now
            } else {
                state.wait(while: before, -1)
                before = state.word.pointee.load(ordering: .relaxed)
            }
        }
    }

    @inline(__always)
    func shared<R, E: Error>(_ body: () throws(E) -> R) throws(E) -> R {
        lockShared()
        defer { unlockShared() }
        return try body()
    }

    @inline(__always)
    func locked<R, E: Error>(_ body: () throws(E) -> R) throws(E) -> R {
        lock()
        defer { unlock() }
        return try body()
    }
}
