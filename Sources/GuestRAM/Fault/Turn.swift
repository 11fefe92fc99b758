import CLinux
import Synchronization

/// One worker's turn at the faults of one read.
struct Turn: ~Copyable {
    let thread: UnsafeMutablePointer<PoolThread>
    let pool: PoolPointer
    let memory: MemoryPointer
    /// When the messages were read.
    let read: UInt64
    /// When the fault now being served got its turn.
    private var start: UInt64
    /// The last turn, in nanoseconds.
    private(set) var took: UInt64 = 0
    private(set) var hasPassedLead = false
    /// So many turns after faults that overlapped are taken for overlapping too.
    private static let overlappingFor = 8
    /// The thread's messages, and the one that is served next.
    private let count: Int
    private var next = 0

    init(
        _ thread: UnsafeMutablePointer<PoolThread>, _ pool: PoolPointer, _ memory: MemoryPointer,
        count: Int
    ) {
        self.count = count
        self.thread = thread
        self.pool = pool
        self.memory = memory
        read = cl_now_ns()
        start = read
        memory.pointee.lastDemand.store(read, ordering: .relaxed)
        memory.pointee.leaderServes.store(true, ordering: .relaxed)
        if count > 1 || memory.pointee.demand.load(ordering: .relaxed) > 0 {
            memory.pointee.overlapping = Self.overlappingFor
        } else if memory.pointee.overlapping > 0 {
            memory.pointee.overlapping &-= 1
        }
    }

    /// At a fault whose bytes were asked for before.
    init(
        _ thread: UnsafeMutablePointer<PoolThread>, _ pool: PoolPointer, _ asked: AskedFault,
        hasPassedLead: Bool
    ) {
        count = 0
        self.thread = thread
        self.pool = pool
        memory = asked.bring.memory
        read = asked.read
        start = asked.start
        self.hasPassedLead = hasPassedLead
    }

    /// What a fault turned out to need.
    private enum Need {
        /// It is settled, with contents that were at hand or with zeros (GUESTRAM_LATENCY_*), and so
        /// are the granules up to `end`.
        case nothing(Int, end: Int)
        /// These granules are claimed, and their bytes must be fetched.
        case bytes(Range<Int>)
    }

    /// Under the event lock, in the hold in which the messages were read; gives it up.
    mutating func serveAll() {
        var holds = true
        while next < count {
            let message = thread.pointee.messages[next]
            next &+= 1
            guard message.event == CL_UFFD_EVENT_PAGEFAULT else { continue }
            if !holds { memory.pointee.events.lock() }
            holds = false
            serve(address: message.arg.pagefault.address, flags: message.arg.pagefault.flags)
        }
        if holds { memory.pointee.events.unlock() }
        if !hasPassedLead { memory.pointee.leaderServes.store(false, ordering: .relaxed) }
    }

    /// Under the event lock, which it gives up.
    private mutating func serve(address: UInt64, flags: UInt64) {
        count(flags)
        guard let region = memory.pointee.regions.find(address: address),
            region.pointee.isRegistered
        else {
            Orphans.answer(memory, address)
            memory.pointee.events.unlock()
            return
        }
        let granule = Int((address &- region.pointee.address) >> region.pointee.granuleShift)
        let window = Window.around(granule, region, memory.pointee.options.window)
        switch look(region, granule, window, flags) {
        case .nothing(let cause, let end):
            let rest = end < window.upperBound
            if rest { region.pointee.pins.wrappingAdd(1, ordering: .acquiringAndReleasing) }
            record(flags, cause, fetched: 0)
            // Before the lock is given up: a region that is not pinned may then be removed.
            Direct.note(region, granule, took: took)
            memory.pointee.events.unlock()
            guard rest else { return }
            fillRest(region, end..<window.upperBound)
            region.pointee.pins.wrappingSubtract(1, ordering: .releasing)
        case .bytes(let run):
            region.pointee.pins.wrappingAdd(1, ordering: .acquiringAndReleasing)
            memory.pointee.demand.wrappingAdd(1, ordering: .relaxed)
            memory.pointee.events.unlock()
            bring(region, run, window, flags)
        }
    }

    /// Before work that may block or takes long. Faults of the batch that were not served yet are
    /// handed back: their threads fault again and are read by whoever leads next.
    private mutating func passLead() {
        guard !hasPassedLead else { return }
        hasPassedLead = true
        memory.pointee.leaderServes.store(false, ordering: .relaxed)
        while next < count {
            let message = thread.pointee.messages[next]
            next &+= 1
            guard message.event == CL_UFFD_EVENT_PAGEFAULT else { continue }
            wake(
                memory.pointee.workerUserfault, message.arg.pagefault.address & ~4095, 4096)
        }
        pool.pointee.baton.unlock()
    }

    /// Bytes that are not in memory are asked for, and others are served meanwhile.
    private mutating func bring(
        _ region: RegionPointer, _ run: Range<Int>, _ window: Range<Int>, _ flags: UInt64
    ) {
        var bring = Bring(thread, memory, region, run)
        var fetched = bring.fetchAtOnce()
        if fetched.bytes == 0 {
            if fetched.error == EAGAIN, !hasPassedLead, !thread.pointee.asked.isFull,
                memory.pointee.overlapping > 0, memory.pointee.asks.isDue(), bring.ask()
            {
                thread.pointee.asked.add(
                    AskedFault(bring: bring, window: window, flags: flags, read: read, start: start))
                return
            }
            passLead()
            fetched = bring.wait()
        }
        finish(&bring, fetched, window, flags)
    }

    /// Serves a fault whose bytes were asked for, with what was fetched; waits if that is nothing.
    mutating func serve(_ asked: AskedFault, _ fetched: Fetched) {
        var bring = asked.bring
        var fetched = fetched
        if fetched.bytes == 0 {
            passLead()
            fetched = bring.wait()
        }
        finish(&bring, fetched, asked.window, asked.flags)
    }

    private mutating func finish(
        _ bring: inout Bring, _ fetched: Fetched, _ window: Range<Int>, _ flags: UInt64
    ) {
        let region = bring.region
        let run = bring.run
        let delivery = bring.finish(fetched)
        memory.pointee.events.lock()
        if case .again(let stopped) = delivery { put(region, stopped) }
        record(
            flags, bring.waited ? GUESTRAM_LATENCY_DISK : GUESTRAM_LATENCY_HIT,
            fetched: bring.nanoseconds)
        memory.pointee.events.unlock()
        memory.pointee.demand.wrappingSubtract(1, ordering: .relaxed)
        if case .done = delivery {
            if !bring.waited, let map = region.pointee.sourceMap {
                // Where a read needs no waiting, the next faults may need no read.
                map.pointee.look(
                    region.pointee.offset(of: run.lowerBound), region.pointee.source,
                    by: region.pointee.source.workerDescriptor,
                    scratch: thread.pointee.staging.base)
            }
            if run.upperBound < window.upperBound {
                fillRest(region, run.upperBound..<window.upperBound)
            }
        }
        region.pointee.pins.wrappingSubtract(1, ordering: .releasing)
    }

    /// The rest of a window, for which nobody waits: what is absent is brought, what reads zero is
    /// given zeros. Stops where anything stands in the way.
    private mutating func fillRest(_ region: RegionPointer, _ rest: Range<Int>) {
        // What takes long is done without the lead.
        if rest.count > Limits.staging / 4096 { passLead() }
        var next = rest.lowerBound
        while next < rest.upperBound {
            memory.pointee.events.lock()
            let filled = fillFromMemory(region, next, rest)
            if filled > next {
                Residency.check(memory, region, signal: memory.pointee.queue.workerDescriptor)
            }
            memory.pointee.events.unlock()
            if filled > next {
                next = filled
                continue
            }
            guard region.pointee.source.kind == .file, region.pointee.pages.claim(next) else { return }
            let run = Window.claim(region, after: next, before: rest.upperBound)
            var bring = Bring(thread, memory, region, run)
            guard case .done = bring.run(beforeWaiting: { passLead() }) else { return }
            next = run.upperBound
        }
    }

    /// Fills from `first` on what needs no read. Returns how far it came. Under the event lock.
    private func fillFromMemory(_ region: RegionPointer, _ first: Int, _ rest: Range<Int>) -> Int {
        guard region.pointee.isRegistered else { return first }
        let state = region.pointee.pages.state(first)
        let run = Window.run(region, first, in: rest, of: state, limit: Limits.pagesPerHold)
        switch state {
        case PageState.present: return run.upperBound
        case PageState.zero:
            guard case .done = deliverZeros(memory.pointee.statistics, region, run) else {
                return first
            }
            return run.upperBound
        case PageState.absent where region.pointee.source.kind == .file:
            guard
                let (brought, delivery) = Direct.bring(
                    memory, region, first, before: rest.upperBound, now: start),
                case .done = delivery
            else { return first }
            return brought.upperBound
        default: return first
        }
    }

    /// Decides by the granule's state; what needs no bytes is done here. Under the event lock.
    private func look(
        _ region: RegionPointer, _ granule: Int, _ window: Range<Int>, _ flags: UInt64
    ) -> Need {
        while true {
            let byte = region.pointee.pages[granule]
            switch byte & PageState.mask {
            case PageState.absent:
                // Waits for the VMM's answer.
                if byte & PageState.asked != 0 {
                    return .nothing(GUESTRAM_LATENCY_HIT, end: window.upperBound)
                }
                if region.pointee.source.kind == .ownFile {
                    let run = Window.run(
                        region, granule, in: window, of: PageState.absent,
                        limit: Limits.pagesPerHold)
                    finish(region, mapOwn(memory.pointee.statistics, region, run))
                    return .nothing(GUESTRAM_LATENCY_HIT, end: window.upperBound)
                }
                if let (run, delivery) = Direct.bring(
                    memory, region, granule, before: window.upperBound, now: start)
                {
                    finish(region, delivery)
                    guard case .done = delivery else {
                        return .nothing(GUESTRAM_LATENCY_HIT, end: window.upperBound)
                    }
                    return .nothing(GUESTRAM_LATENCY_HIT, end: run.upperBound)
                }
                guard region.pointee.pages.claim(granule) else { continue }
                return .bytes(Window.claim(region, after: granule, before: window.upperBound))
            case PageState.filling:
                // Whoever leaves `filling` will wake this fault's thread.
                guard region.pointee.pages.replace(granule, byte, by: byte | PageState.waited)
                else { continue }
                memory.pointee.statistics.faultsWaited.count()
                return .nothing(GUESTRAM_LATENCY_HIT, end: window.upperBound)
            case PageState.zero:
                let run = Window.run(
                    region, granule, in: window, of: PageState.zero, limit: Limits.pagesPerHold)
                let delivery = deliverZeros(memory.pointee.statistics, region, run)
                finish(region, delivery)
                guard case .done = delivery else {
                    return .nothing(GUESTRAM_LATENCY_ZERO, end: window.upperBound)
                }
                return .nothing(GUESTRAM_LATENCY_ZERO, end: run.upperBound)
            case PageState.present:
                if flags & CL_UFFD_PAGEFAULT_FLAG_WP != 0 {
                    unprotect(region, granule)
                } else {
                    memory.pointee.statistics.faultsPresent.count()
                    finish(region, mapPresent(granule, region))
                }
                return .nothing(GUESTRAM_LATENCY_HIT, end: window.upperBound)
            case PageState.poisoned:
                poison(region, granule..<granule &+ 1)
                return .nothing(GUESTRAM_LATENCY_HIT, end: window.upperBound)
            default:
                Orphans.answer(
                    memory, region.pointee.address &+ region.pointee.offset(of: granule))
                return .nothing(GUESTRAM_LATENCY_HIT, end: window.upperBound)
            }
        }
    }

    /// Present by our map, and yet a fault: its mapping was dropped, or the message is stale.
    private func mapPresent(_ granule: Int, _ region: RegionPointer) -> Delivery {
        let run = granule..<granule &+ 1
        if region.pointee.allows(.continue) {
            let delivery = mapCached(memory.pointee.statistics, region, run)
            // Not even cached any more: its owner punched it out.
            guard case .failed(_, EFAULT) = delivery else { return delivery }
        }
        return deliverZeros(memory.pointee.statistics, region, run)
    }

    /// The first write to a tracked page: it is dirty from now on.
    private func unprotect(_ region: RegionPointer, _ granule: Int) {
        region.pointee.dirty?.set(granule)
        let outcome = mfill(
            region, .writeprotect(false), at: region.pointee.offset(of: granule),
            length: region.pointee.granule)
        switch outcome.error {
        // Not sooner: while the kernel's protection is there, a discard leaves its marker behind.
        case 0: region.pointee.pages.clearFlags(granule, PageState.protected)
        case EAGAIN: put(region, granule)
        default: wakeRun(region, granule..<granule &+ 1)
        }
    }

    /// Under the event lock: what a delivery left undone.
    private func finish(_ region: RegionPointer, _ delivery: Delivery) {
        switch delivery {
        case .done: break
        case .again(let stopped): put(region, stopped)
        case .failed(let stopped, let error):
            PageErrors.take(
                memory, region, stopped, error, signal: memory.pointee.queue.workerDescriptor)
        }
        Residency.check(memory, region, signal: memory.pointee.queue.workerDescriptor)
    }

    private func put(_ region: RegionPointer, _ granule: Int) {
        Deferred.put(
            memory, pool, region.pointee.address &+ region.pointee.offset(of: granule),
            region.pointee.granule)
    }

    /// Under the event lock.
    private func count(_ flags: UInt64) {
        if flags & CL_UFFD_PAGEFAULT_FLAG_WP != 0 {
            memory.pointee.statistics.wp.countAlone()
        } else if flags & CL_UFFD_PAGEFAULT_FLAG_MINOR != 0 {
            memory.pointee.statistics.minor.countAlone()
        } else {
            memory.pointee.statistics.missing.countAlone()
        }
    }

    /// Under the event lock.
    private mutating func record(_ flags: UInt64, _ cause: Int, fetched: UInt64) {
        let end = cl_now_ns()
        let kind =
            flags & CL_UFFD_PAGEFAULT_FLAG_WP != 0
            ? GUESTRAM_LATENCY_WP
            : flags & CL_UFFD_PAGEFAULT_FLAG_MINOR != 0
                ? GUESTRAM_LATENCY_MINOR : GUESTRAM_LATENCY_MISSING
        let whole = end &- read
        if start == read && cause != GUESTRAM_LATENCY_DISK && fetched == 0 {
            memory.pointee.statistics.latencies.recordSimple(
                kind, zero: cause == GUESTRAM_LATENCY_ZERO, whole)
        } else {
            memory.pointee.statistics.latencies.record(kind, whole)
            memory.pointee.statistics.latencies.record(cause, whole)
            // Who is served at once is not counted there: nobody waited.
            if start != read {
                memory.pointee.statistics.latencies.record(GUESTRAM_LATENCY_QUEUE, start &- read)
            }
            if fetched > 0 {
                memory.pointee.statistics.latencies.record(GUESTRAM_LATENCY_FETCH, fetched)
            }
            memory.pointee.statistics.latencies.record(
                GUESTRAM_LATENCY_FILL, end &- start &- fetched)
        }
        took = end &- start
        start = end
    }
}
