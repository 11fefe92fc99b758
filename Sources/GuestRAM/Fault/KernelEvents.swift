import CLinux
import Synchronization

/// What userfaultfd tells beside faults. All of it is applied under the event lock, in the same
/// hold in which it was read: the thread that caused an event goes on as soon as it is read, and
/// nobody may fill by what was known before.
enum KernelEvents {
    static func apply(_ message: cl_uffd_msg, _ memory: MemoryPointer, _ pool: PoolPointer) {
        switch message.event {
        case CL_UFFD_EVENT_REMOVE:
            memory.pointee.statistics.removes.count()
            each(memory, message.arg.remove.start, message.arg.remove.end) { region, run in
                discard(memory, region, run)
            }
        case CL_UFFD_EVENT_UNMAP:
            memory.pointee.statistics.unmaps.count()
            memory.pointee.orphans.cut(message.arg.remove.start, message.arg.remove.end)
            each(memory, message.arg.remove.start, message.arg.remove.end) { region, run in
                lose(memory, region, run, UInt32(GUESTRAM_EVENT_UNMAPPED))
            }
        case CL_UFFD_EVENT_REMAP:
            memory.pointee.statistics.remaps.count()
            remap(memory, message.arg.remap.from, message.arg.remap.to, message.arg.remap.len)
        case CL_UFFD_EVENT_FORK:
            memory.pointee.statistics.forks.count()
            Steward.adopt(pool, memory, child: Int32(bitPattern: message.arg.fork.ufd))
        default: break
        }
    }

    /// The granules of every region that lie in an address range.
    private static func each(
        _ memory: MemoryPointer, _ start: UInt64, _ end: UInt64,
        _ body: (RegionPointer, Range<Int>) -> Void
    ) {
        for index in 0..<memory.pointee.regions.count {
            let region = memory.pointee.regions[index]
            let base = region.pointee.address
            let from = max(start, base)
            let to = min(end, base &+ region.pointee.length)
            guard region.pointee.isRegistered, from < to else { continue }
            let shift = region.pointee.granuleShift
            body(region, Int((from &- base) >> shift)..<Int((to &- base &+ (1 << shift) &- 1) >> shift))
        }
    }

    /// The range reads zero from now on and is never refilled. Also what guestram_discard() marks.
    static func discard(_ memory: MemoryPointer, _ region: RegionPointer, _ run: Range<Int>) {
        for granule in run {
            switch region.pointee.pages.state(granule) {
            case PageState.gone, PageState.zero: continue
            case PageState.filling:
                region.pointee.pages.setFlags(granule, PageState.discarded)
            // Protection stays: where the kernel's marker is lost with the page, the next fill
            // brings it back.
            default: settle(region, granule..<granule &+ 1, to: PageState.zero)
            }
            region.pointee.dirty?.set(granule)
            memory.pointee.statistics.discarded.count()
        }
        Residency.check(memory, region, signal: memory.pointee.queue.workerDescriptor)
    }

    /// The range is not served any more.
    private static func lose(
        _ memory: MemoryPointer, _ region: RegionPointer, _ run: Range<Int>, _ event: UInt32
    ) {
        settle(region, run, to: PageState.gone)
        memory.pointee.queue.push(
            EventQueue.Entry(
                type: event, region: region.pointee.id,
                offset: region.pointee.offset(of: run.lowerBound),
                length: UInt64(run.count) << region.pointee.granuleShift),
            signal: memory.pointee.queue.workerDescriptor)
        Residency.check(memory, region, signal: memory.pointee.queue.workerDescriptor)
    }

    /// A region that moves whole is followed; a part that moves is not. The UNMAP of the old range
    /// comes next, and then finds no region there; after MREMAP_DONTUNMAP there is none, and the
    /// old range stays registered.
    private static func remap(_ memory: MemoryPointer, _ from: UInt64, _ to: UInt64, _ length: UInt64) {
        var granule = memory.pointee.orphans.cut(from, from &+ length)
        defer { if granule > 0 { memory.pointee.orphans.add(from, length, granule: granule) } }
        if let region = memory.pointee.regions.find(address: from),
            region.pointee.address == from, length >= region.pointee.length
        {
            granule = region.pointee.granule
            memory.pointee.regions.remove(region)
            region.pointee.address = to
            region.pointee.host = UnsafeMutableRawPointer(bitPattern: UInt(to))!
            memory.pointee.regions.insert(region)
            memory.pointee.queue.push(
                EventQueue.Entry(
                    type: UInt32(GUESTRAM_EVENT_REMAPPED), region: region.pointee.id, offset: 0,
                    length: region.pointee.length),
                signal: memory.pointee.queue.workerDescriptor)
            return
        }
        each(memory, from, from &+ length) { region, run in
            granule = region.pointee.granule
            lose(memory, region, run, UInt32(GUESTRAM_EVENT_REMAP_REFUSED))
        }
        if granule > 0 { memory.pointee.orphans.add(to, length, granule: granule) }
    }
}
