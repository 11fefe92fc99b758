import CLinux
import Synchronization

/// A memory's regions and slots as the API sees them. Under the configuration lock.
enum Regions {
    static func add(_ memory: MemoryPointer, _ plan: RegionPlan) throws(Errno) -> RegionPointer {
        do throws(Errno) {
            try check(memory, plan)
        } catch {
            if plan.file >= 0 { _ = cl_close(plan.file) }
            throw error
        }
        let region = try RegionMaker.make(plan, id: memory.pointee.lastID + 1)
        memory.pointee.lastID += 1
        do throws(Errno) {
            try RegionMaker.serveByFlags(memory, region)
            if memory.pointee.phase.load(ordering: .acquiring) == Memory.Phase.serving {
                try Serving.lend(memory, region)
            }
        } catch {
            Registration.seal(memory, region)
            Serving.takeBack(memory, region)
            RegionMaker.free(region)
            throw error
        }
        memory.pointee.events.locked { memory.pointee.regions.insert(region) }
        return region
    }

    private static func check(_ memory: MemoryPointer, _ plan: borrowing RegionPlan) throws(Errno) {
        guard memory.pointee.phase.load(ordering: .acquiring) != Memory.Phase.stopped else {
            throw Serving.stopped
        }
        guard !memory.pointee.regions.isFull else {
            throw fail(ENOMEM, "a memory has at most \(RegionTable.capacity) regions")
        }
        guard memory.pointee.regions.named(plan.name) == nil else {
            throw fail(EEXIST, "name: there is a region \(plan.name) already")
        }
        if let address = plan.hostAddress,
            let other = memory.pointee.regions.overlapping(
                UInt64(UInt(bitPattern: address)), plan.length)
        {
            throw fail(
                EEXIST,
                "host_address of region \(plan.name) overlaps region \(other.pointee.name)")
        }
    }

    static func withID(_ memory: MemoryPointer, _ id: UInt32) throws(Errno) -> RegionPointer {
        guard let region = memory.pointee.regions.withID(id) else {
            throw fail(ENOENT, "region \(id): there is none of this id")
        }
        return region
    }

    static func info(
        _ memory: MemoryPointer, _ region: RegionPointer
    ) -> guestram_region_info_t {
        var info = guestram_region_info_t()
        withUnsafeMutableBytes(of: &info.name) { region.pointee.name.copy(to: $0.baseAddress!) }
        withUnsafeMutableBytes(of: &info.why) { bytes in
            var text = TextBuffer(
                bytes.baseAddress!.assumingMemoryBound(to: CChar.self), capacity: bytes.count)
            text.append(region.pointee.type.name)
            text.append(": ")
            text.append(region.pointee.why)
        }
        info.type = region.pointee.type.number
        info.flags = region.pointee.flags
        info.length = region.pointee.length
        info.granule = region.pointee.granule
        info.fd = region.pointee.file
        info.fd_offset = region.pointee.fileOffset
        info.fill = region.pointee.fill
        memory.pointee.events.locked {
            info.host_address = region.pointee.host
            info.modes = modes(region.pointee.modes)
            info.operations = region.pointee.operations
        }
        info.granules = UInt64(region.pointee.count)
        let census = region.pointee.pages.census()
        info.absent = census[Int(PageState.absent)] + census[Int(PageState.filling)]
        info.present = census[Int(PageState.present)]
        info.zero = census[Int(PageState.zero)]
        info.poisoned = census[Int(PageState.poisoned)]
        return info
    }

    static func modes(_ kernel: UInt64) -> UInt32 {
        (kernel & CL_UFFDIO_REGISTER_MODE_MISSING != 0 ? UInt32(GUESTRAM_MODE_MISSING) : 0)
            | (kernel & CL_UFFDIO_REGISTER_MODE_WP != 0 ? UInt32(GUESTRAM_MODE_WP) : 0)
            | (kernel & CL_UFFDIO_REGISTER_MODE_MINOR != 0 ? UInt32(GUESTRAM_MODE_MINOR) : 0)
    }

    static func addSlot(_ memory: MemoryPointer, _ slot: guestram_slot_t) throws(Errno) {
        let region = try withID(memory, slot.region)
        guard slot.reserved == 0 else { throw fail(EINVAL, "reserved must be 0") }
        guard slot.length > 0, slot.length % 4096 == 0, slot.offset % 4096 == 0,
            slot.guest_physical % 4096 == 0
        else {
            throw fail(
                EINVAL,
                "guest_physical \(hex: slot.guest_physical), offset \(hex: slot.offset), length \(hex: slot.length): each must be a multiple of 4096, and length above 0"
            )
        }
        guard slot.offset <= region.pointee.length,
            slot.length <= region.pointee.length - slot.offset
        else {
            throw fail(
                ERANGE,
                "offset \(hex: slot.offset) + length \(hex: slot.length) is outside region \(region.pointee.name) of \(hex: region.pointee.length)"
            )
        }
        guard !slot.guest_physical.addingReportingOverflow(slot.length).overflow else {
            throw fail(EINVAL, "guest_physical \(hex: slot.guest_physical) plus length overflows")
        }
        try memory.pointee.slots.insert(
            Slot(
                guestPhysical: slot.guest_physical, length: slot.length, offset: slot.offset,
                region: slot.region))
    }

    static func describe(_ memory: MemoryPointer, _ slot: Slot) -> guestram_slot_t {
        var result = guestram_slot_t()
        result.guest_physical = slot.guestPhysical
        result.length = slot.length
        result.offset = slot.offset
        result.region = slot.region
        if let region = memory.pointee.regions.withID(slot.region) {
            result.host_address = region.pointee.host + Int(slot.offset)
        }
        return result
    }
}
