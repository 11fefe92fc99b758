import CLinux
import Synchronization

/// One thread per pool outside the sandbox: the watchdog over sources, the reader of denied calls,
/// and whoever takes care of a forked child.
enum Steward {
    private static let period: Int32 = 250  // milliseconds

    static func run(_ pool: PoolPointer) {
        let count = pool.pointee.options.threads
        let watched = UnsafeMutablePointer<pollfd>.allocate(capacity: count + 2)
        let reported = UnsafeMutablePointer<UInt64>.allocate(capacity: count)
        reported.initialize(repeating: 0, count: count)
        defer {
            watched.deallocate()
            reported.deallocate()
        }
        // From here on it allocates nothing: a fork() elsewhere holds the allocator's locks while it
        // waits for this thread.
        pool.pointee.ready.bump()
        while true {
            watched[0] = pollfd(fd: pool.pointee.stopDescriptor, events: Int16(POLLIN), revents: 0)
            watched[1] = pollfd(fd: pool.pointee.forkDescriptor, events: Int16(POLLIN), revents: 0)
            for index in 0..<count {
                watched[index + 2] = pollfd(
                    fd: pool.pointee.threads[index].layers.listener, events: Int16(POLLIN),
                    revents: 0)
            }
            _ = cl_poll(watched, nfds_t(count + 2), period)
            if watched[0].revents != 0 { return }
            if watched[1].revents != 0 { raise(pool) }
            for index in 0..<count {
                if watched[index + 2].revents & Int16(POLLIN) != 0 { denied(pool, index) }
                watch(pool, index, &reported[index])
            }
        }
    }

    // MARK: Watchdog

    private static func watch(_ pool: PoolPointer, _ index: Int, _ reported: inout UInt64) {
        let thread = pool.pointee.threads + index
        let since = thread.pointee.waitingSince.load(ordering: .acquiring)
        guard since != 0, since != reported,
            let memory = pool.pointee.hold(
                thread.pointee.waitingMemory.load(ordering: .relaxed))
        else { return }
        defer { pool.pointee.drop(memory) }
        guard cl_now_ns() &- since >= memory.pointee.options.stallNanoseconds else { return }
        reported = since
        memory.pointee.queue.push(
            EventQueue.Entry(
                type: UInt32(GUESTRAM_EVENT_STALLED),
                region: thread.pointee.waitingRegion.load(ordering: .relaxed),
                offset: thread.pointee.waitingOffset.load(ordering: .relaxed),
                length: thread.pointee.waitingLength.load(ordering: .relaxed)),
            signal: memory.pointee.queue.descriptor.raw)
    }

    // MARK: Denied calls, in log mode

    private static func denied(_ pool: PoolPointer, _ index: Int) {
        guard let number = nextDenied(listener: pool.pointee.threads[index].layers.listener) else {
            return
        }
        for place in 0..<pool.pointee.tableEnd.load(ordering: .acquiring) {
            guard let memory = pool.pointee.hold(place) else { continue }
            memory.pointee.queue.push(
                EventQueue.Entry(type: UInt32(GUESTRAM_EVENT_DENIED), error: number),
                signal: memory.pointee.queue.descriptor.raw)
            pool.pointee.drop(memory)
        }
    }

    // MARK: A forked child

    /// From a worker, under the event lock of the memory that was forked. The child has a
    /// userfaultfd of its own, which the worker may not touch: its number lies outside the block.
    /// The lock is held until the steward is done, because what is absent must be what was absent
    /// when the process forked; the work is a few ioctls, and only DOFORK regions cause it.
    static func adopt(_ pool: PoolPointer, _ memory: MemoryPointer, child: Int32) {
        let seen = pool.pointee.forkDone.now
        pool.pointee.forkChild.store(Int(child), ordering: .releasing)
        pool.pointee.forkMemory.store(Int(bitPattern: memory), ordering: .releasing)
        var one: UInt64 = 1
        _ = cl_write(pool.pointee.forkWorkerDescriptor, &one, 8)
        while pool.pointee.forkDone.now == seen { pool.pointee.forkDone.wait(while: seen, -1) }
    }

    /// Absent pages of the child answer SIGBUS, the rest is its own; then nobody is needed there.
    private static func raise(_ pool: PoolPointer) {
        var drained: UInt64 = 0
        _ = cl_read(pool.pointee.forkDescriptor, &drained, 8)
        let child = Int32(pool.pointee.forkChild.load(ordering: .acquiring))
        guard
            let memory = MemoryPointer(
                bitPattern: pool.pointee.forkMemory.load(ordering: .acquiring))
        else { return }
        for index in 0..<memory.pointee.regions.count {
            let region = memory.pointee.regions[index]
            guard region.pointee.isRegistered,
                region.pointee.flags & UInt32(GUESTRAM_REGION_DOFORK) != 0
            else { continue }
            poisonAbsent(region, child)
            var range = uffdio_range(
                start: region.pointee.address, len: region.pointee.length)
            _ = cl_ioctl(child, CL_UFFDIO_UNREGISTER, &range)
            wake(child, region.pointee.address, region.pointee.length)
        }
        _ = cl_close(child)
        pool.pointee.forkDone.bump()
    }

    private static func poisonAbsent(_ region: RegionPointer, _ child: Int32) {
        var granule = 0
        while granule < region.pointee.count {
            var end = granule
            while end < region.pointee.count,
                region.pointee.pages.state(end) <= PageState.filling
            { end += 1 }
            if end > granule {
                var done: UInt64 = 0
                _ = standardPoison(
                    child, region.pointee.address + region.pointee.offset(of: granule), 0,
                    UInt64(end - granule) << region.pointee.granuleShift, false, &done)
            }
            granule = end + 1
        }
    }
}

let stewardMain: @convention(c) (UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? = {
    argument in
    _ = cl_thread_set_name("guestram/watch")
    Steward.run(argument!.assumingMemoryBound(to: Pool.self))
    return nil
}
