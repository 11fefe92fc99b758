import CLinux
import Synchronization

/// Counters of one memory. Relaxed: read at any time, exact once nothing moves.
struct Statistics: ~Copyable {
    // Counted under the event lock alone, as are the latencies.
    let missing = Atomic<UInt64>(0)
    let minor = Atomic<UInt64>(0)
    let wp = Atomic<UInt64>(0)

    let faultsPresent = Atomic<UInt64>(0)
    let faultsWaited = Atomic<UInt64>(0)
    let faultsDeferred = Atomic<UInt64>(0)
    let loaded = Atomic<UInt64>(0)
    let copied = Atomic<UInt64>(0)
    let zeroed = Atomic<UInt64>(0)
    let continued = Atomic<UInt64>(0)
    let poisoned = Atomic<UInt64>(0)
    let discarded = Atomic<UInt64>(0)
    let bytesRead = Atomic<UInt64>(0)
    let reads = Atomic<UInt64>(0)
    let readsBlocked = Atomic<UInt64>(0)
    let sourceErrors = Atomic<UInt64>(0)
    let removes = Atomic<UInt64>(0)
    let unmaps = Atomic<UInt64>(0)
    let remaps = Atomic<UInt64>(0)
    let forks = Atomic<UInt64>(0)

    let latencies = Latencies()
}

extension Atomic where Value == UInt64 {
    @inline(__always)
    func count(_ more: Int = 1) { wrappingAdd(UInt64(more), ordering: .relaxed) }

    /// Where all who count hold one lock: costs no locked instruction.
    @inline(__always)
    func countAlone(_ more: UInt64 = 1) { store(now &+ more, ordering: .relaxed) }

    var now: UInt64 { load(ordering: .relaxed) }
}
