import CLinux
import Synchronization

/// Noticing that nothing is absent any more.
enum Residency {
    /// Under the event lock, after granules left `absent`. A region of which nothing is absent is
    /// unregistered, so that faults cost nothing from then on, except where userfaultfd is still
    /// needed: for calls on ranges, and for a private mapping of a file, whose discarded pages would
    /// show the file's old data.
    static func check(_ memory: MemoryPointer, _ region: RegionPointer, signal: Int32) {
        guard region.pointee.absent.load(ordering: .acquiring) == 0, region.pointee.isRegistered
        else { return }
        let keeps =
            region.pointee.flags & UInt32(GUESTRAM_REGION_USERFAULT) != 0
            || (region.pointee.isPrivate && region.pointee.file >= 0)
        if !keeps { Registration.release(region) }
        announce(memory, signal: signal)
    }

    /// After granules left `absent` while the event lock was shared.
    static func look(_ memory: MemoryPointer, _ region: RegionPointer) {
        guard region.pointee.absent.load(ordering: .acquiring) == 0 else { return }
        memory.pointee.events.locked {
            check(memory, region, signal: memory.pointee.queue.workerDescriptor)
        }
    }

    /// Tells once when no region has anything absent.
    static func announce(_ memory: MemoryPointer, signal: Int32) {
        guard !memory.pointee.residentSent, memory.pointee.restored, isResident(memory) else { return }
        memory.pointee.residentSent = true
        memory.pointee.queue.push(
            EventQueue.Entry(type: UInt32(GUESTRAM_EVENT_RESIDENT)), signal: signal)
        memory.pointee.progress.bump()
    }

    /// Under the event lock.
    static func isResident(_ memory: MemoryPointer) -> Bool {
        for index in 0..<memory.pointee.regions.count
        where memory.pointee.regions[index].pointee.absent.load(ordering: .acquiring) != 0 {
            return false
        }
        return true
    }
}

/// What becomes of a granule whose contents could not be brought.
enum PageErrors {
    /// Under the event lock. Poisoned, or left for the VMM to decide; never zeros.
    static func take(
        _ memory: MemoryPointer, _ region: RegionPointer, _ granule: Int, _ error: Int32,
        signal: Int32
    ) {
        let run = granule..<granule &+ 1
        let byte = region.pointee.pages[granule]
        if byte & PageState.discarded != 0 {
            // What could not be read is not wanted any more: the fault comes again, for zeros.
            settle(region, run, to: PageState.zero)
            wakeRun(region, run)
            return
        }
        let asks = memory.pointee.options.onError == UInt32(GUESTRAM_ON_ERROR_ASK)
        // Without POISON (before Linux 6.6, guest_memfd) waiting is what is left.
        if asks || poison(region, run) == granule {
            let zero = byte & PageState.mask == PageState.zero  // never again from the source
            settle(region, run, to: (zero ? PageState.zero : PageState.absent) | PageState.asked)
        } else {
            memory.pointee.statistics.poisoned.count()
            memory.pointee.unreadable.store(true, ordering: .relaxed)
        }
        memory.pointee.queue.push(
            EventQueue.Entry(
                type: UInt32(GUESTRAM_EVENT_PAGE_ERROR), region: region.pointee.id,
                offset: region.pointee.offset(of: granule), length: region.pointee.granule,
                error: error),
            signal: signal)
    }
}
