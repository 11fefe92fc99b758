import CLinux
import Synchronization

/// From fresh to serving to stopped. Under the memory's configuration lock.
enum Serving {
    static func start(_ memory: MemoryPointer) throws(Errno) {
        switch memory.pointee.phase.load(ordering: .acquiring) {
        case Memory.Phase.serving: throw fail(EALREADY, "the memory is being served already")
        case Memory.Phase.stopped: throw stopped
        default: break
        }
        if memory.pointee.pool == nil {
            memory.pointee.pool = try PoolMaker.make(PoolOptions(guestram_pool_options_t()))
            memory.pointee.ownsPool = true
        }
        for index in 0..<memory.pointee.regions.count {
            try fillEagerly(memory, memory.pointee.regions[index])
        }
        do throws(Errno) {
            for index in 0..<memory.pointee.regions.count {
                try lend(memory, memory.pointee.regions[index])
            }
            try memory.pointee.pool!.pointee.attach(memory)
            try memory.pointee.pool!.pointee.watch(memory)
        } catch {
            if memory.pointee.poolIndex >= 0 { Pool.detach(memory.pointee.pool!, memory) }
            for index in 0..<memory.pointee.regions.count {
                takeBack(memory, memory.pointee.regions[index])
            }
            throw error
        }
        memory.pointee.phase.store(Memory.Phase.serving, ordering: .releasing)
        memory.pointee.events.locked {
            for index in (0..<memory.pointee.regions.count) {
                Residency.check(
                    memory, memory.pointee.regions[index],
                    signal: memory.pointee.queue.descriptor.raw)
            }
            Residency.announce(memory, signal: memory.pointee.queue.descriptor.raw)
        }
        memory.pointee.pool!.pointee.fillWord.bump()
    }

    static var stopped: Errno { fail(ESHUTDOWN, "the memory was stopped; it cannot be served again") }

    /// What cannot or shall not be brought by fault is brought now.
    static func fillEagerly(_ memory: MemoryPointer, _ region: RegionPointer) throws(Errno) {
        guard region.pointee.fill == UInt32(GUESTRAM_FILL_EAGER),
            region.pointee.absent.load(ordering: .acquiring) > 0
        else { return }
        try EagerFill.run(memory, region)
        if region.pointee.flags & UInt32(GUESTRAM_REGION_USERFAULT) != 0,
            !region.pointee.isRegistered
        {
            try RegionMaker.mapHelpers(region)
            try Registration.register(memory, region)
        }
    }

    /// Gives the workers the descriptors that the region needs.
    static func lend(_ memory: MemoryPointer, _ region: RegionPointer) throws(Errno) {
        guard region.pointee.isRegistered, let pool = memory.pointee.pool else { return }
        if region.pointee.workerFile < 0 {
            region.pointee.workerFile = try pool.pointee.lend(region.pointee.file)
        }
        if region.pointee.source.workerDescriptor < 0 {
            region.pointee.source.workerDescriptor = try pool.pointee.lend(
                region.pointee.source.descriptor)
        }
    }

    static func takeBack(_ memory: MemoryPointer, _ region: RegionPointer) {
        guard let pool = memory.pointee.pool else { return }
        pool.pointee.takeBack(region.pointee.workerFile)
        pool.pointee.takeBack(region.pointee.source.workerDescriptor)
        region.pointee.workerFile = -1
        region.pointee.source.workerDescriptor = -1
    }

    /// Nobody is left waiting, nobody is given zeros.
    static func stop(_ memory: MemoryPointer, destroying: Bool = false) {
        let before = memory.pointee.phase.exchange(
            Memory.Phase.stopped, ordering: .acquiringAndReleasing)
        guard before != Memory.Phase.stopped else { return }
        for index in 0..<memory.pointee.regions.count {
            let region = memory.pointee.regions[index]
            Registration.seal(
                memory, region, unmapping: destroying && region.pointee.ownsMapping)
        }
        memory.pointee.progress.bump()
        if before == Memory.Phase.serving, let pool = memory.pointee.pool {
            // Threads that still hold a region finish with it first.
            for index in 0..<memory.pointee.regions.count {
                waitForPins(memory.pointee.regions[index])
            }
            seal(memory)
            memory.pointee.events.locked { Deferred.retry(memory, pool) }
            Pool.detach(pool, memory)
            for index in 0..<memory.pointee.regions.count {
                takeBack(memory, memory.pointee.regions[index])
            }
        }
        // With the last descriptor goes every registration that could not be undone one by one: an
        // munmap() of such a range would wait for a reader of its event.
        if memory.pointee.userfault >= 0, !memory.pointee.orphans.isLost {
            _ = cl_close(memory.pointee.userfault)
        }
        memory.pointee.userfault = -1
        guard let pool = memory.pointee.pool else { return }
        if memory.pointee.ownsPool {
            PoolMaker.free(pool)
        } else {
            pool.pointee.users.wrappingSubtract(1, ordering: .acquiringAndReleasing)
        }
        memory.pointee.pool = nil
    }

    /// While workers still read events, one of which may stand in the way.
    private static func seal(_ memory: MemoryPointer) {
        for _ in 0..<2000 {
            if memory.pointee.events.locked({ memory.pointee.orphans.seal(memory.pointee.userfault) }) { return }
            _ = cl_sleep_ns(1_000_000)
        }
    }

    static func waitForPins(_ region: RegionPointer) {
        while region.pointee.pins.load(ordering: .acquiring) != 0 { _ = cl_sleep_ns(50_000) }
    }

    /// Takes a region out, while serving as well.
    static func remove(_ memory: MemoryPointer, _ region: RegionPointer) {
        Registration.seal(memory, region, unmapping: region.pointee.ownsMapping)
        memory.pointee.events.locked {
            memory.pointee.regions.remove(region)
            Residency.announce(memory, signal: memory.pointee.queue.descriptor.raw)
        }
        waitForPins(region)
        memory.pointee.slots.removeAll(of: region.pointee.id)
        takeBack(memory, region)
        RegionMaker.free(region)
    }
}

enum PoolMaker {
    static func make(_ options: PoolOptions) throws(Errno) -> PoolPointer {
        let pool = PoolPointer.allocate(capacity: 1)
        do throws(Errno) {
            pool.initialize(to: try Pool(options))
        } catch {
            pool.deallocate()
            throw error
        }
        do throws(Errno) {
            try Pool.start(pool)
        } catch {
            free(pool)
            throw error
        }
        return pool
    }

    static func free(_ pool: PoolPointer) {
        Pool.stop(pool)
        pool.deinitialize(count: 1)
        pool.deallocate()
    }
}
