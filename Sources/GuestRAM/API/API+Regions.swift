import CLinux

@c @implementation public func guestram_region_add(
    _ memory: OpaquePointer?, _ options: UnsafePointer<guestram_region_options_t>?,
    _ region: UnsafeMutablePointer<UInt32>?
) -> Int32 {
    answer { () throws(Errno) in
        let memory = try GuestRAM.memory(memory)
        guard options != nil else { throw fail(EINVAL, "options is NULL") }
        guard let region else { throw fail(EINVAL, "region is NULL") }
        let given = try GuestRAM.options(options, guestram_region_options_t(), "options")
        region.pointee = try memory.pointee.configuration.locked { () throws(Errno) in
            try Regions.add(memory, RegionPlan(given)).pointee.id
        }
    }
}

@c @implementation public func guestram_region_remove(_ memory: OpaquePointer?, _ region: UInt32)
    -> Int32
{
    answer { () throws(Errno) in
        let memory = try GuestRAM.memory(memory)
        try memory.pointee.configuration.locked { () throws(Errno) in
            Serving.remove(memory, try Regions.withID(memory, region))
        }
    }
}

@c @implementation public func guestram_region_find(
    _ memory: OpaquePointer?, _ name: UnsafePointer<CChar>?, _ region: UnsafeMutablePointer<UInt32>?
) -> Int32 {
    answer { () throws(Errno) in
        let memory = try GuestRAM.memory(memory)
        guard let name else { throw fail(EINVAL, "name is NULL") }
        guard let region else { throw fail(EINVAL, "region is NULL") }
        try memory.pointee.configuration.locked { () throws(Errno) in
            guard let wanted = RegionName(name), let found = memory.pointee.regions.named(wanted)
            else { throw fail(ENOENT, "name: there is no region \"\(name)\"") }
            region.pointee = found.pointee.id
        }
    }
}

@c @implementation public func guestram_region_next(
    _ memory: OpaquePointer?, _ after: UInt32, _ region: UnsafeMutablePointer<UInt32>?
) -> Int32 {
    answer { () throws(Errno) in
        let memory = try GuestRAM.memory(memory)
        guard let region else { throw fail(EINVAL, "region is NULL") }
        try memory.pointee.configuration.locked { () throws(Errno) in
            guard let next = memory.pointee.regions.next(after: after) else {
                throw fail(ENOENT, "after: no region has an id above \(after)")
            }
            region.pointee = next.pointee.id
        }
    }
}

@c @implementation public func guestram_region_info(
    _ memory: OpaquePointer?, _ region: UInt32,
    _ info: UnsafeMutablePointer<guestram_region_info_t>?
) -> Int32 {
    answer { () throws(Errno) in
        let memory = try GuestRAM.memory(memory)
        try resultSize(info, "info")
        let result = try memory.pointee.configuration.locked { () throws(Errno) in
            Regions.info(memory, try Regions.withID(memory, region))
        }
        try give(result, to: info, "info")
    }
}

@c @implementation public func guestram_slot_add(
    _ memory: OpaquePointer?, _ slot: UnsafePointer<guestram_slot_t>?
) -> Int32 {
    answer { () throws(Errno) in
        let memory = try GuestRAM.memory(memory)
        guard slot != nil else { throw fail(EINVAL, "slot is NULL") }
        let given = try GuestRAM.options(slot, guestram_slot_t(), "slot")
        try memory.pointee.configuration.locked { () throws(Errno) in
            try Regions.addSlot(memory, given)
        }
    }
}

@c @implementation public func guestram_slot_remove(
    _ memory: OpaquePointer?, _ guest_physical: UInt64
) -> Int32 {
    answer { () throws(Errno) in
        let memory = try GuestRAM.memory(memory)
        try memory.pointee.configuration.locked { () throws(Errno) in
            guard memory.pointee.slots.remove(at: guest_physical) else {
                throw fail(ENOENT, "guest_physical: no slot starts at \(hex: guest_physical)")
            }
        }
    }
}

@c @implementation public func guestram_slot_next(
    _ memory: OpaquePointer?, _ from: UInt64, _ slot: UnsafeMutablePointer<guestram_slot_t>?
) -> Int32 {
    answer { () throws(Errno) in
        let memory = try GuestRAM.memory(memory)
        try resultSize(slot, "slot")
        let result = try memory.pointee.configuration.locked { () throws(Errno) in
            guard let next = memory.pointee.slots.next(from: from) else {
                throw fail(ENOENT, "from: no slot starts at or above \(hex: from)")
            }
            return Regions.describe(memory, next)
        }
        try give(result, to: slot, "slot")
    }
}
