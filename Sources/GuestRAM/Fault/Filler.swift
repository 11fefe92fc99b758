import CLinux
import Synchronization

/// The loop of a background thread: prefetch requests first, then what is absent, in file order.
/// It makes way for demand faults before every piece, and holds the event lock for one piece only.
enum Filler {
    /// Granules per piece: what one hold of the event lock can fill.
    private static let piece = Limits.pagesPerHold
    /// The same while demand faults come: each of them waits for the holds under way.
    private static let smallPiece = 4
    private static let whileFaultsCome: UInt64 = 5_000_000
    /// How long a piece waits for demand faults to be served, at most.
    private static let patience: UInt64 = 1_000_000

    static func run(_ thread: UnsafeMutablePointer<PoolThread>) {
        let pool = thread.pointee.pool
        while true {
            // Before `stopping` is looked at, or the bump that comes with it could be missed.
            let seen = pool.pointee.fillWord.now
            guard !pool.pointee.stopping.load(ordering: .sequentiallyConsistent) else { return }
            var next: UInt64 = .max
            for index in 0..<pool.pointee.tableEnd.load(ordering: .acquiring) {
                guard let memory = pool.pointee.hold(index) else { continue }
                if memory.pointee.isServing { next = min(next, step(thread, memory)) }
                pool.pointee.drop(memory)
            }
            guard next > 0 else { continue }
            pool.pointee.fillWord.wait(while: seen, next == .max ? -1 : Int64(next))
        }
    }

    /// Does one piece of work for the memory. Nanoseconds until there may be more; .max: nothing to
    /// do until told.
    private static func step(
        _ thread: UnsafeMutablePointer<PoolThread>, _ memory: MemoryPointer
    ) -> UInt64 {
        if let request = takeRequest(memory) {
            bringAll(thread, memory, request.region, request.range)
            unpin(request.region)
            return 0
        }
        let rate = memory.pointee.fillRate.load(ordering: .relaxed)
        guard rate > 0 else { return .max }
        let now = cl_now_ns()
        let due = memory.pointee.fillDue.load(ordering: .relaxed)
        if due > now { return due &- now }
        // One is enough then, and one that is not running cannot hold anything.
        if faultsCome(memory), thread != thread.pointee.pool.pointee.firstFiller { return whileFaultsCome }
        guard let region = pinAbsent(memory) else { return .max }
        defer { unpin(region) }
        guard let range = nextPiece(region) else { return 100_000 }
        let bytes = bringAll(thread, memory, region, range)
        if rate != .max { charge(memory, UInt64(bytes) &* 1_000_000 / max(1, rate / 1000), now) }
        return 0
    }

    /// Puts off the next piece by what this one costs; other fillers' costs are kept.
    private static func charge(_ memory: MemoryPointer, _ cost: UInt64, _ now: UInt64) {
        while true {
            let due = memory.pointee.fillDue.load(ordering: .relaxed)
            if memory.pointee.fillDue.compareExchange(
                expected: due, desired: max(due, now) &+ cost, ordering: .relaxed
            ).exchanged { return }
        }
    }

    private struct Request { let region: RegionPointer; let range: Range<Int> }

    private static func takeRequest(_ memory: MemoryPointer) -> Request? {
        guard memory.pointee.events.shared({ memory.pointee.requests.count > 0 }) else { return nil }
        memory.pointee.events.lock()
        defer { memory.pointee.events.unlock() }
        while let piece = memory.pointee.requests.take(piece) {
            guard let region = memory.pointee.regions.withID(piece.region),
                region.pointee.isRegistered
            else { continue }
            region.pointee.pins.wrappingAdd(1, ordering: .acquiringAndReleasing)
            return Request(region: region, range: piece.first..<piece.end)
        }
        return nil
    }

    /// A region that still has something absent, pinned.
    private static func pinAbsent(_ memory: MemoryPointer) -> RegionPointer? {
        memory.pointee.events.lockShared()
        defer { memory.pointee.events.unlockShared() }
        for index in 0..<memory.pointee.regions.count {
            let region = memory.pointee.regions[index]
            guard region.pointee.isRegistered,
                region.pointee.absent.load(ordering: .acquiring) > 0
            else { continue }
            region.pointee.pins.wrappingAdd(1, ordering: .acquiringAndReleasing)
            return region
        }
        return nil
    }

    private static func unpin(_ region: RegionPointer) {
        region.pointee.pins.wrappingSubtract(1, ordering: .releasing)
    }

    /// The next piece with something absent in it; nil at the end, where the cursor starts over for
    /// what others are still bringing or had to give back.
    private static func nextPiece(_ region: RegionPointer) -> Range<Int>? {
        let count = region.pointee.count
        while true {
            let first = region.pointee.cursor.wrappingAdd(
                piece, ordering: .relaxed
            ).oldValue
            guard first < count else {
                region.pointee.cursor.store(0, ordering: .relaxed)
                return nil
            }
            let range = first..<min(first + piece, count)
            for granule in range
            where region.pointee.pages[granule] & ~PageState.protected == PageState.absent {
                return range
            }
        }
    }

    private static func faultsCome(_ memory: MemoryPointer) -> Bool {
        cl_now_ns() &- memory.pointee.lastDemand.load(ordering: .relaxed) < whileFaultsCome
    }

    /// Demand faults first.
    private static func yield(to memory: MemoryPointer) {
        let start = cl_now_ns()
        while memory.pointee.leaderServes.load(ordering: .relaxed)
            || memory.pointee.demand.load(ordering: .relaxed) > 0,
            cl_now_ns() &- start < patience
        { cl_sched_yield() }
    }

    /// Brings what is absent in the range. Returns the bytes.
    @discardableResult
    private static func bringAll(
        _ thread: UnsafeMutablePointer<PoolThread>, _ memory: MemoryPointer,
        _ region: RegionPointer, _ range: Range<Int>
    ) -> Int {
        var bytes = 0
        var granule = range.lowerBound
        while granule < range.upperBound {
            var upper = range.upperBound
            if faultsCome(memory) {
                upper = min(upper, granule + smallPiece)
                yield(to: memory)
            }
            if region.pointee.source.kind == .ownFile {
                granule = mapOwn(memory, region, granule, upper)
                continue
            }
            if let end = copyDirectly(
                thread, memory, region, granule, upper, atStart: granule == range.lowerBound)
            {
                bytes += (end - granule) << Int(region.pointee.granuleShift)
                granule = end
                continue
            }
            guard region.pointee.pages.claim(granule) else {
                granule += 1
                continue
            }
            let run = Window.claim(region, after: granule, before: range.upperBound)
            var bring = Bring(thread, memory, region, run)
            let delivery = bring.run(patient: true) {}
            bytes += run.count << Int(region.pointee.granuleShift)
            if case .again = delivery { _ = cl_sleep_ns(100_000) }
            // What the source did not give this time is absent again, and asked for again.
            while granule < run.upperBound, region.pointee.pages.state(granule) != PageState.absent {
                granule += 1
            }
        }
        return bytes
    }

    /// Where the source is in memory already. Returns how far it came.
    private static func copyDirectly(
        _ thread: UnsafeMutablePointer<PoolThread>, _ memory: MemoryPointer,
        _ region: RegionPointer, _ first: Int, _ end: Int, atStart: Bool
    ) -> Int? {
        guard let map = region.pointee.sourceMap, region.pointee.granule <= UInt64(Limits.staging)
        else { return nil }
        let offset = region.pointee.offset(of: first)
        let now = cl_now_ns()
        if atStart && map.pointee.cachedEnd(offset, now: now) == nil {
            map.pointee.look(
                offset, region.pointee.source,
                by: region.pointee.source.workerDescriptor, scratch: thread.pointee.staging.base)
        }
        let result = memory.pointee.events.shared {
            region.pointee.isRegistered
                ? Direct.bring(memory, region, first, before: end, now: now) : nil
        }
        guard let (brought, delivery) = result else { return nil }
        Direct.note(region, first, took: cl_now_ns() &- now)
        Residency.look(memory, region)
        guard case .done = delivery else { return nil }
        return brought.upperBound
    }

    /// Contents that the region's own file holds: one hold of the lock per piece.
    private static func mapOwn(
        _ memory: MemoryPointer, _ region: RegionPointer, _ first: Int, _ end: Int
    ) -> Int {
        memory.pointee.events.lock()
        defer { memory.pointee.events.unlock() }
        guard region.pointee.isRegistered, region.pointee.pages.state(first) == PageState.absent
        else { return first + 1 }
        let run = Window.run(
            region, first, in: first..<end, of: PageState.absent, limit: Limits.pagesPerHold)
        let delivery = GuestRAM.mapOwn(memory.pointee.statistics, region, run)
        if case .failed(let stopped, let error) = delivery {
            PageErrors.take(
                memory, region, stopped, error, signal: memory.pointee.queue.workerDescriptor)
        }
        Residency.check(memory, region, signal: memory.pointee.queue.workerDescriptor)
        return run.upperBound
    }
}
