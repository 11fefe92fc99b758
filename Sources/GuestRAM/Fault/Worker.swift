import CLinux
import Synchronization

/// The loop of a fault handler thread. Nothing in it, or below it, allocates or retains; it waits
/// only for messages, for the lead, and for a source.
enum Worker {
    static func run(_ thread: UnsafeMutablePointer<PoolThread>) {
        let pool = thread.pointee.pool
        while true {
            pool.pointee.baton.lock()
            guard lead(thread, pool) else {
                pool.pointee.baton.unlock()
                return
            }
            AskedFaults.serveAll(thread, pool)
            // A fault that was put off after the lead was passed on: the leader may sleep without
            // a limit, so it is tried again from here.
            if pool.pointee.deferred.load(ordering: .acquiring) > 0 {
                _ = cl_sleep_ns(Deferred.pause)
                Deferred.retryAll(pool)
            }
        }
    }

    /// Serves until the lead was passed on (true; the baton is another's) or the pool stops (false).
    private static func lead(
        _ thread: UnsafeMutablePointer<PoolThread>, _ pool: PoolPointer
    ) -> Bool {
        while true {
            if pool.pointee.stopping.load(ordering: .acquiring) { return false }
            // With a fault put off nobody sleeps without a limit: the wake-up that it waits for may
            // have come before.
            let deferred = pool.pointee.deferred.load(ordering: .acquiring) > 0
            let ready = pool.pointee.wait(deferred ? 0 : thread.pointee.asked.wait)
            if deferred {
                if ready == nil { _ = cl_sleep_ns(Deferred.pause) }
                Deferred.retryAll(pool)
            }
            if let memory = ready {
                let passed = serve(thread, pool, memory)
                pool.pointee.drop(memory)
                if passed { return true }
            }
            if AskedFaults.serveArrived(thread, pool) { return true }
        }
    }

    /// Reads and serves, and reads on without waiting first as long as that pays. True when the lead was
    /// passed on.
    private static func serve(
        _ thread: UnsafeMutablePointer<PoolThread>, _ pool: PoolPointer, _ memory: MemoryPointer
    ) -> Bool {
        var lingers = false
        for turn in 0..<mostInARow {
            switch lingers ? linger(thread, pool, memory) : drain(thread, pool, memory) {
            // What is the leader's is not to be touched without the lead.
            case .passedLead: return true
            case .nothing:
                if lingers {
                    memory.pointee.lingers.found(false)
                } else if turn > 0 {
                    memory.pointee.readsOn.wasInVain()
                }
                return false
            case .served(let took):
                if lingers { memory.pointee.lingers.found(true) }
                guard thread.pointee.asked.isEmpty,
                    pool.pointee.deferred.load(ordering: .acquiring) == 0,
                    !pool.pointee.stopping.load(ordering: .acquiring)
                else { return false }
                lingers = memory.pointee.overlapping > 0
                let pays =
                    lingers
                    ? memory.pointee.lingers.isDue() : memory.pointee.readsOn.pays(after: took)
                guard pays else { return false }
            }
        }
        return false
    }

    /// Then other memories have their turn.
    private static let mostInARow = 64

    /// Reads for a moment, until something is there: where several threads fault, those just woken fault
    /// again soon, and across CPUs it costs several times a fault to sleep and be woken.
    private static func linger(
        _ thread: UnsafeMutablePointer<PoolThread>, _ pool: PoolPointer, _ memory: MemoryPointer
    ) -> Drained {
        let begun = cl_now_ns()
        repeat {
            let drained = drain(thread, pool, memory)
            guard case .nothing = drained else { return drained }
        } while cl_now_ns() &- begun < moment
        return .nothing
    }

    /// In nanoseconds.
    private static let moment: UInt64 = 20_000

    /// Reads of one message before one of several, after there was but one.
    private static let singles = 8

    private enum Drained {
        case nothing
        /// So long the last fault's turn took, in nanoseconds.
        case served(took: UInt64)
        case passedLead
    }

    /// Reads what is there, applies the events, serves the faults.
    private static func drain(
        _ thread: UnsafeMutablePointer<PoolThread>, _ pool: PoolPointer, _ memory: MemoryPointer
    ) -> Drained {
        let messages = thread.pointee.messages
        memory.pointee.events.lock()
        let oneByOne = memory.pointee.oneByOne.load(ordering: .relaxed)
        if oneByOne > 0 { memory.pointee.oneByOne.store(oneByOne &- 1, ordering: .relaxed) }
        // Not when an event is due: the kernel hands out faults before events.
        let limit = oneByOne > 0 && memory.pointee.deferredEnd == 0 ? 1 : PoolThread.batch
        let bytes = cl_read(
            memory.pointee.workerUserfault, messages, limit &* MemoryLayout<cl_uffd_msg>.size)
        let count = bytes > 0 ? bytes / MemoryLayout<cl_uffd_msg>.size : 0
        // Where faults come one by one, to look for a second message is in vain, mostly.
        if count == 1 && limit > 1 { memory.pointee.oneByOne.store(singles, ordering: .relaxed) }
        for index in 0..<count where messages[index].event != CL_UFFD_EVENT_PAGEFAULT {
            KernelEvents.apply(messages[index], memory, pool)
        }
        guard count > 0 else {
            memory.pointee.events.unlock()
            return .nothing
        }
        var turn = Turn(thread, pool, memory, count: count)
        turn.serveAll()
        return turn.hasPassedLead ? .passedLead : .served(took: turn.took)
    }
}

/// Faults that an unread event stands in the way of.
enum Deferred {
    /// Before the next try: the thread that caused the event has to run first.
    static let pause: UInt64 = 100_000

    /// Remembers a fault, under the event lock.
    static func put(_ memory: MemoryPointer, _ pool: PoolPointer, _ address: UInt64, _ length: UInt64) {
        if memory.pointee.deferredEnd == 0 {
            memory.pointee.deferredSince = cl_now_ns()
            pool.pointee.deferred.wrappingAdd(1, ordering: .acquiringAndReleasing)
        }
        memory.pointee.deferredStart = min(memory.pointee.deferredStart, address)
        memory.pointee.deferredEnd = max(memory.pointee.deferredEnd, address &+ length)
        memory.pointee.statistics.faultsDeferred.count()
    }

    /// Wakes them all, so that they fault again: whoever can be served now will be.
    static func retryAll(_ pool: PoolPointer) {
        for index in 0..<pool.pointee.tableEnd.load(ordering: .acquiring) {
            guard pool.pointee.deferred.load(ordering: .acquiring) > 0 else { return }
            guard let memory = pool.pointee.hold(index) else { continue }
            // Too soon, and the faults would come back before the event, which the kernel hands out
            // last.
            memory.pointee.events.locked {
                if cl_now_ns() &- memory.pointee.deferredSince >= pause { retry(memory, pool) }
            }
            pool.pointee.drop(memory)
        }
    }

    /// Under the event lock.
    static func retry(_ memory: MemoryPointer, _ pool: PoolPointer) {
        guard memory.pointee.deferredEnd > 0 else { return }
        wake(
            memory.pointee.workerUserfault, memory.pointee.deferredStart,
            memory.pointee.deferredEnd &- memory.pointee.deferredStart)
        memory.pointee.deferredStart = .max
        memory.pointee.deferredEnd = 0
        pool.pointee.deferred.wrappingSubtract(1, ordering: .acquiringAndReleasing)
    }
}
