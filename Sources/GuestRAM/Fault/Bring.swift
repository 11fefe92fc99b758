import CLinux
import Synchronization

/// Bringing claimed granules from their source: fetch, without any lock, into the thread's own
/// buffer, then deliver, sharing the event lock with whoever fills other granules.
struct Bring {
    let thread: UnsafeMutablePointer<PoolThread>
    let memory: MemoryPointer
    let region: RegionPointer
    let run: Range<Int>
    private let begun: UInt64
    /// How long the source took, and whether it had to be waited for.
    private(set) var nanoseconds: UInt64 = 0
    private(set) var waited = false

    /// The granules are claimed and the region is pinned.
    init(
        _ thread: UnsafeMutablePointer<PoolThread>, _ memory: MemoryPointer,
        _ region: RegionPointer, _ run: Range<Int>
    ) {
        self.thread = thread
        self.memory = memory
        self.region = region
        self.run = run
        begun = cl_now_ns()
    }

    /// All of it. `beforeWaiting` is called before the first wait for the source; a thread that nobody
    /// waits for passes `patient` and waits at once.
    mutating func run(patient: Bool = false, beforeWaiting: () -> Void) -> Delivery {
        var fetched = patient ? Fetched(bytes: 0, error: EAGAIN) : fetchAtOnce()
        if fetched.bytes == 0 {
            beforeWaiting()
            fetched = wait()
        }
        return finish(fetched)
    }

    /// What needs no waiting. Nothing, and EAGAIN: it may be asked for.
    func fetchAtOnce() -> Fetched {
        isHuge ? Fetched(bytes: 0, error: EOPNOTSUPP) : fetch(wait: false)
    }

    /// Has the disk begin to read. False: it must be waited for.
    mutating func ask() -> Bool {
        guard
            region.pointee.source.ask(
                region.pointee.offset(of: run.lowerBound), length,
                by: region.pointee.source.workerDescriptor)
        else { return false }
        countWait()
        return true
    }

    mutating func finish(_ fetched: Fetched) -> Delivery {
        nanoseconds = cl_now_ns() &- begun
        let buffer = place
        let delivery = memory.pointee.events.shared { settleAll(run, fetched, buffer) }
        if case .failed(let granule, let error) = delivery { give(up: granule, error) }
        Residency.look(memory, region)
        if isHuge { _ = cl_madvise(buffer, length, MADV_DONTNEED) }
        return delivery
    }

    private var isHuge: Bool { region.pointee.granule > UInt64(Limits.staging) }
    private var length: Int { run.count << Int(region.pointee.granuleShift) }
    private var place: UnsafeMutableRawPointer {
        isHuge ? region.pointee.sourceBytes(at: run.lowerBound) : thread.pointee.staging.base
    }

    private func fetch(wait: Bool) -> Fetched {
        memory.pointee.statistics.reads.count()
        return region.pointee.source.fetch(
            place, at: region.pointee.offset(of: run.lowerBound), length: length,
            granule: region.pointee.granule, wait: wait,
            by: region.pointee.source.workerDescriptor)
    }

    private mutating func countWait() {
        if !waited { memory.pointee.statistics.readsBlocked.count() }
        waited = true
    }

    /// Waits for the source, with the watchdog looking, and again as the policy says.
    mutating func wait() -> Fetched {
        countWait()
        memory.pointee.oneByOne.store(PoolThread.batch, ordering: .relaxed)
        let tries =
            memory.pointee.options.onError == UInt32(GUESTRAM_ON_ERROR_RETRY)
            ? Int(memory.pointee.options.retries) : 0
        var pause: UInt64 = 1_000_000
        var attempt = 0
        while true {
            announce()
            // What is verified is read, to a place of our own.
            let mapped = isHuge && region.pointee.source.checksums == nil
            let fetched = mapped ? populate() : fetch(wait: true)
            thread.pointee.waitingSince.store(0, ordering: .releasing)
            if fetched.bytes > 0 || fetched.error == 0 { return fetched }
            memory.pointee.statistics.sourceErrors.count()
            if attempt == tries { return fetched }
            attempt += 1
            _ = cl_sleep_ns(pause)
            pause = min(pause &* 2, 100_000_000)
        }
    }

    private func announce() {
        thread.pointee.waitingMemory.store(memory.pointee.poolIndex, ordering: .relaxed)
        thread.pointee.waitingRegion.store(region.pointee.id, ordering: .relaxed)
        thread.pointee.waitingOffset.store(
            region.pointee.offset(of: run.lowerBound), ordering: .relaxed)
        thread.pointee.waitingLength.store(UInt64(length), ordering: .relaxed)
        thread.pointee.waitingSince.store(cl_now_ns(), ordering: .releasing)
    }

    /// A granule larger than a buffer is copied from the mapped source: its pages are made present
    /// here, where waiting and errors are ours to handle, so that the ioctl finds them.
    private func populate() -> Fetched {
        memory.pointee.statistics.reads.count()
        let start = region.pointee.sourceBytes(at: run.lowerBound)
        let result = cl_madvise(start, length, CL_MADV_POPULATE_READ)
        // EFAULT is what would have been SIGBUS: a bad disk, or a file cut short.
        guard result < 0 else { return Fetched(bytes: length, error: 0) }
        return Fetched(bytes: 0, error: result == -EFAULT ? EIO : -result)
    }

    /// Sharing the event lock: what was fetched is delivered, the rest given back, except a granule
    /// that failed.
    private func settleAll(
        _ run: Range<Int>, _ fetched: Fetched, _ buffer: UnsafeMutableRawPointer
    ) -> Delivery {
        let end = run.lowerBound &+ fetched.bytes >> Int(region.pointee.granuleShift)
        memory.pointee.statistics.bytesRead.count(fetched.bytes)
        guard region.pointee.isRegistered else {
            // Sealed meanwhile: its absent granules are poisoned already.
            settle(region, run, to: PageState.poisoned)
            return .done
        }
        var delivery = Delivery.done
        if end > run.lowerBound {
            delivery = deliver(
                memory.pointee.statistics, region, run.lowerBound..<end, from: buffer)
        }
        var stopped = end
        if case .again(let at) = delivery { stopped = at }
        if case .failed(let at, _) = delivery { stopped = at }
        memory.pointee.statistics.loaded.count(stopped &- run.lowerBound)
        // A granule behind what could be read is given back: its error is its own to meet.
        if fetched.bytes == 0 { delivery = .failed(stopped: end, error: fetched.error) }
        var rest = stopped
        if case .failed(let at, _) = delivery { rest = at &+ 1 }
        giveBack(region, rest..<run.upperBound)
        return delivery
    }

    /// A granule that is claimed still, and cannot be filled.
    private func give(up granule: Int, _ error: Int32) {
        memory.pointee.events.locked {
            guard region.pointee.isRegistered else {
                settle(region, granule..<granule &+ 1, to: PageState.poisoned)
                return
            }
            PageErrors.take(
                memory, region, granule, error, signal: memory.pointee.queue.workerDescriptor)
        }
    }
}

/// Claimed granules that were not filled are absent again, for the next who wants them; discarded
/// meanwhile: zero. Under the event lock, shared or not.
private func giveBack(_ region: RegionPointer, _ run: Range<Int>) {
    for granule in run {
        let discarded = region.pointee.pages[granule] & PageState.discarded != 0
        settle(
            region, granule..<granule &+ 1, to: discarded ? PageState.zero : PageState.absent)
    }
}

/// The way without a read: bytes that are known to be in memory are copied from where they are.
enum Direct {
    /// A COPY that took longer had to wait for the disk, in nanoseconds.
    private static let slow: UInt64 = 1_000_000

    /// What a COPY from the granule on took: whether the source is in memory after all.
    @inline(__always)
    static func note(_ region: RegionPointer, _ granule: Int, took nanoseconds: UInt64) {
        guard nanoseconds > slow, let map = region.pointee.sourceMap else { return }
        map.pointee.forget(region.pointee.offset(of: granule))
    }

    /// Brings absent granules from `first` on, as far as the window, the cached chunk and one hold of
    /// the event lock reach. Under the event lock, shared or not. nil: not in memory, or not absent;
    /// nothing was changed.
    @inline(__always)
    static func bring(
        _ memory: MemoryPointer, _ region: RegionPointer, _ first: Int, before end: Int,
        now: UInt64
    ) -> (Range<Int>, Delivery)? {
        let offset = region.pointee.offset(of: first)
        guard let map = region.pointee.sourceMap, region.pointee.granule <= UInt64(Limits.staging),
            let stop = map.pointee.cachedEnd(offset, now: now), region.pointee.pages.claim(first)
        else { return nil }
        let reach = min(
            end, first &+ Limits.pagesPerHold, Int(stop >> region.pointee.granuleShift))
        var granule = first &+ 1
        while granule < reach, region.pointee.pages.claim(granule) { granule &+= 1 }
        let run = first..<granule
        let delivery = deliver(
            memory.pointee.statistics, region, run, from: map.pointee.base + Int(offset))
        var stopped = run.upperBound
        switch delivery {
        case .done: break
        case .again(let at):
            stopped = at
            giveBack(region, at..<run.upperBound)
        case .failed(let at, _):
            // The source's fault or the memory's: the slow way finds out.
            stopped = at
            map.pointee.forget(offset)
            giveBack(region, at..<run.upperBound)
        }
        let brought = stopped &- run.lowerBound
        memory.pointee.statistics.loaded.count(brought)
        memory.pointee.statistics.bytesRead.count(brought << Int(region.pointee.granuleShift))
        if case .failed = delivery, brought == 0 { return nil }
        return (run.lowerBound..<stopped, delivery)
    }
}
