import CLinux
import Synchronization

enum Metrics {
    /// Under the configuration lock, which keeps the regions where they are; workers go on.
    static func stats(_ memory: MemoryPointer) -> guestram_stats_t {
        var stats = guestram_stats_t()
        var own = MemoryLayout<Memory>.stride
        for index in 0..<memory.pointee.regions.count {
            let region = memory.pointee.regions[index]
            let census = region.pointee.pages.census()
            stats.pages_total += UInt64(region.pointee.count)
            stats.pages_present += census[Int(PageState.present)]
            stats.pages_absent += census[Int(PageState.absent)] + census[Int(PageState.filling)]
            own += MemoryLayout<Region>.stride + region.pointee.pages.count
            if let dirty = region.pointee.dirty { own += dirty.bytes }
            if let map = region.pointee.sourceMap { own += map.pointee.ownMemory }
            own += region.pointee.source.ownMemory
        }
        own += RegionTable.capacity * MemoryLayout<RegionPointer>.stride
        own += memory.pointee.slots.count * MemoryLayout<Slot>.stride
        own += EventQueue.capacity * MemoryLayout<EventQueue.Entry>.stride
        own += Latencies.bytes
        if let pool = memory.pointee.pool, memory.pointee.ownsPool { own += pool.pointee.ownMemory }
        stats.own_memory = UInt64(own)

        stats.missing = memory.pointee.statistics.missing.now
        stats.minor = memory.pointee.statistics.minor.now
        stats.wp = memory.pointee.statistics.wp.now
        stats.faults = stats.missing + stats.minor + stats.wp
        stats.faults_present = memory.pointee.statistics.faultsPresent.now
        stats.faults_waited = memory.pointee.statistics.faultsWaited.now
        stats.faults_deferred = memory.pointee.statistics.faultsDeferred.now
        stats.pages_loaded = memory.pointee.statistics.loaded.now
        stats.pages_copied = memory.pointee.statistics.copied.now
        stats.pages_zeroed = memory.pointee.statistics.zeroed.now
        stats.pages_continued = memory.pointee.statistics.continued.now
        stats.pages_poisoned = memory.pointee.statistics.poisoned.now
        stats.pages_discarded = memory.pointee.statistics.discarded.now
        stats.bytes_read = memory.pointee.statistics.bytesRead.now
        stats.reads = memory.pointee.statistics.reads.now
        stats.reads_blocked = memory.pointee.statistics.readsBlocked.now
        stats.source_errors = memory.pointee.statistics.sourceErrors.now
        stats.events_remove = memory.pointee.statistics.removes.now
        stats.events_unmap = memory.pointee.statistics.unmaps.now
        stats.events_remap = memory.pointee.statistics.remaps.now
        stats.events_fork = memory.pointee.statistics.forks.now
        stats.events_dropped = memory.pointee.queue.lostInAll.now
        return stats
    }
}
