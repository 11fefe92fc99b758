import CLinux
import Synchronization

/// A lock that many may share or one may own. Owners go first: who wants to share waits for all
/// that asked before, so that a stream of sharers keeps nobody out.
///
/// An owner pays a mutex and one atomic more; a sharer two atomics.
struct SharedLock: ~Copyable, @unchecked Sendable {
    private static let owned: UInt32 = 1 << 31

    /// Held by the owner, from before it waits for the last sharer.
    private let owner = Lock()
    /// How many share it, and `owned` while an owner holds or awaits it.
    private let sharers = FutexWord()

    @inline(__always)
    func lock() {
        owner.lock()
        var before = sharers.word.pointee.bitwiseOr(Self.owned, ordering: .acquiring).oldValue
        while before & ~Self.owned != 0 {
            sharers.wait(while: before | Self.owned, -1)
            before = sharers.word.pointee.load(ordering: .acquiring)
        }
    }

    @inline(__always)
    func unlock() {
        sharers.word.pointee.store(0, ordering: .releasing)
        owner.unlock()
    }

    @inline(__always)
    func lockShared() {
        let before = sharers.word.pointee.load(ordering: .relaxed)
        if before & Self.owned == 0,
            sharers.word.pointee.compareExchange(
                expected: before, desired: before &+ 1, ordering: .acquiring
            ).exchanged
        { return }
        // Nobody owns it while this is held.
        owner.lock()
        _ = sharers.word.pointee.wrappingAdd(1, ordering: .acquiring)
        owner.unlock()
    }

    @inline(__always)
    func unlockShared() {
        let before = sharers.word.pointee.wrappingSubtract(1, ordering: .releasing).oldValue
        if before == Self.owned | 1 { sharers.wake() }
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
