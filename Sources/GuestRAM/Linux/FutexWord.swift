import CLinux
import Synchronization

/// A counter that threads can wait on. At an address of its own, which the kernel is given.
struct FutexWord: ~Copyable, @unchecked Sendable {
    let word: UnsafeMutablePointer<Atomic<UInt32>>

    init() {
        word = .allocate(capacity: 1)
        word.initialize(to: Atomic(0))
    }

    deinit { word.deallocate() }

    var now: UInt32 { word.pointee.load(ordering: .sequentiallyConsistent) }

    /// Counts up and wakes all.
    func bump() {
        word.pointee.wrappingAdd(1, ordering: .sequentiallyConsistent)
        wake()
    }

    func wake() { _ = cl_futex_wake(word, Int32.max) }

    /// Waits while the counter is `seen`, at most `nanoseconds` (negative: no limit).
    func wait(while seen: UInt32, _ nanoseconds: Int64) {
        _ = cl_futex_wait(word, seen, nanoseconds)
    }
}
