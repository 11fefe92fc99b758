import CLinux
import Synchronization
import Testing

@testable import GuestRAM

/// In a class, because threads share it.
private final class Guarded: Sendable {
    let lock = SharedLock()
    let owners = Atomic<Int>(0)
    let sharers = Atomic<Int>(0)
    let wrong = Atomic<Int>(0)
    let done = Atomic<Int>(0)

    func own() {
        lock.locked {
            if owners.wrappingAdd(1, ordering: .relaxed).newValue != 1
                || sharers.load(ordering: .relaxed) != 0
            {
                wrong.wrappingAdd(1, ordering: .relaxed)
            }
            owners.wrappingSubtract(1, ordering: .relaxed)
        }
        done.wrappingAdd(1, ordering: .relaxed)
    }

    func share() {
        lock.shared {
            sharers.wrappingAdd(1, ordering: .relaxed)
            if owners.load(ordering: .relaxed) != 0 { wrong.wrappingAdd(1, ordering: .relaxed) }
            sharers.wrappingSubtract(1, ordering: .relaxed)
        }
        done.wrappingAdd(1, ordering: .relaxed)
    }
}

/// Runs the body in so many threads; fails, and leaves them, when they have not ended after 30 s.
private func inThreads(_ count: Int, _ body: @escaping @Sendable (Int) -> Void) {
    final class Group: Sendable {
        let body: @Sendable (Int) -> Void
        let begun = Atomic<Int>(0)
        let ended = Atomic<Int>(0)
        init(_ body: @escaping @Sendable (Int) -> Void) { self.body = body }
    }
    let group = Group(body)
    let threads = (0..<count).map { _ in
        var thread = pthread_t()
        let started = cl_thread_start(
            &thread,
            { argument in
                let group = Unmanaged<Group>.fromOpaque(argument!).takeRetainedValue()
                group.body(group.begun.wrappingAdd(1, ordering: .relaxed).oldValue)
                group.ended.wrappingAdd(1, ordering: .releasing)
                return nil
            }, Unmanaged.passRetained(group).toOpaque(), 256 << 10)
        #expect(started == 0)
        return thread
    }
    for _ in 0..<3000 where group.ended.load(ordering: .acquiring) < count {
        _ = cl_sleep_ns(10_000_000)
    }
    let ended = group.ended.load(ordering: .acquiring)
    #expect(ended == count)
    if ended == count { for thread in threads { _ = cl_thread_join(thread) } }
}

@Suite struct SharedLockTests {
    @Test func ownersAreAloneAndNobodyIsForgotten() {
        let guarded = Guarded()
        let rounds = 20_000
        inThreads(6) { index in
            for round in 0..<rounds {
                if index < 3 || round % 16 == 0 { guarded.own() } else { guarded.share() }
            }
        }
        #expect(guarded.done.load(ordering: .relaxed) == 6 * rounds)
        #expect(guarded.wrong.load(ordering: .relaxed) == 0)
    }

    @Test func manyShareItAtATime() {
        let guarded = Guarded()
        guarded.lock.lockShared()
        inThreads(2) { _ in guarded.share() }
        guarded.lock.unlockShared()
        #expect(guarded.done.load(ordering: .relaxed) == 2)
    }

    /// Sharers that overlap for ever would keep it out, if they could.
    @Test func anOwnerComesThroughAStreamOfSharers() {
        let guarded = Guarded()
        inThreads(3) { index in
            guard index > 0 else {
                for _ in 0..<100 { guarded.own() }
                return
            }
            while guarded.done.load(ordering: .acquiring) < 100 {
                guarded.lock.shared { _ = cl_sleep_ns(50_000) }
            }
        }
        #expect(guarded.wrong.load(ordering: .relaxed) == 0)
    }
}
