import CLinux
import Synchronization

@c @implementation public func guestram_create(
    _ options: UnsafePointer<guestram_options_t>?, _ memory: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
    answer { () throws(Errno) in
        guard let memory else { throw fail(EINVAL, "memory is NULL") }
        let given = try GuestRAM.options(options, guestram_options_t(), "options")
        let made = try Memory(MemoryOptions(given))
        let pointer = MemoryPointer.allocate(capacity: 1)
        pointer.initialize(to: made)
        if let pool = given.pool {
            pointer.pointee.pool = PoolPointer(pool)
            pointer.pointee.pool!.pointee.users.wrappingAdd(1, ordering: .acquiringAndReleasing)
        }
        memory.pointee = OpaquePointer(pointer)
    }
}

@c @implementation public func guestram_destroy(_ memory: OpaquePointer?) {
    guard let handle = memory else { return }
    let memory = MemoryPointer(handle)
    memory.pointee.configuration.locked { Serving.stop(memory, destroying: true) }
    while memory.pointee.regions.count > 0 {
        let region = memory.pointee.regions[0]
        memory.pointee.regions.remove(region)
        RegionMaker.free(region)
    }
    memory.deinitialize(count: 1)
    memory.deallocate()
}

@c @implementation public func guestram_start(_ memory: OpaquePointer?) -> Int32 {
    answer { () throws(Errno) in
        let memory = try GuestRAM.memory(memory)
        try memory.pointee.configuration.locked { () throws(Errno) in try Serving.start(memory) }
    }
}

@c @implementation public func guestram_stop(_ memory: OpaquePointer?, _ flags: UInt32) -> Int32 {
    answer { () throws(Errno) in
        let memory = try GuestRAM.memory(memory)
        let onlyResident = UInt32(GUESTRAM_STOP_IF_RESIDENT)
        guard flags & ~onlyResident == 0 else {
            throw fail(EINVAL, "flags \(hex: UInt64(flags)) has unknown bits")
        }
        try memory.pointee.configuration.locked { () throws(Errno) in
            let resident = memory.pointee.events.locked { Residency.isResident(memory) }
            guard flags & onlyResident == 0 || resident else {
                throw fail(EBUSY, "granules are still absent (GUESTRAM_STOP_IF_RESIDENT)")
            }
            Serving.stop(memory)
        }
    }
}

@c @implementation public func guestram_background_fill(
    _ memory: OpaquePointer?, _ bytes_per_second: UInt64
) -> Int32 {
    answer { () throws(Errno) in
        let memory = try GuestRAM.memory(memory)
        try memory.pointee.configuration.locked { () throws(Errno) in
            try Ranges.checkServing(memory)
            memory.pointee.fillRate.store(bytes_per_second, ordering: .relaxed)
            memory.pointee.pool!.pointee.fillWord.bump()
        }
    }
}

@c @implementation public func guestram_wait_resident(
    _ memory: OpaquePointer?, _ timeout_ms: Int32
) -> Int32 {
    answer { () throws(Errno) in
        let memory = try GuestRAM.memory(memory)
        try Ranges.checkServing(memory)
        let deadline = cl_now_ns() + UInt64(max(0, timeout_ms)) * 1_000_000
        while true {
            let seen = memory.pointee.progress.now
            // First: stopping poisons what is absent, which is not residency.
            try Ranges.checkServing(memory)
            if memory.pointee.events.locked({ Residency.isResident(memory) }) { break }
            let now = cl_now_ns()
            guard timeout_ms < 0 || now < deadline else {
                throw fail(ETIMEDOUT, "granules are still absent after \(timeout_ms) ms")
            }
            memory.pointee.progress.wait(
                while: seen, timeout_ms < 0 ? -1 : Int64(deadline - now))
        }
        guard !memory.pointee.unreadable.load(ordering: .relaxed) else {
            throw fail(EIO, "all is done, but some granules could not be read (GUESTRAM_EVENT_PAGE_ERROR)")
        }
    }
}
