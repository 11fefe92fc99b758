import CLinux
import Synchronization

/// Giving a memory's regions the contents of an opened snapshot. Under the configuration lock.
enum Restore {
    static func run(
        _ memory: MemoryPointer, _ snapshot: borrowing OpenedSnapshot, eager: Bool, verify: Bool
    ) throws(Errno) {
        switch memory.pointee.phase.load(ordering: .acquiring) {
        case Memory.Phase.fresh: break
        case Memory.Phase.stopped: throw Serving.stopped
        default: throw fail(EBUSY, "restore before guestram_start()")
        }
        let regions = snapshot.regions
        for index in 0..<regions.count { try checkMatch(memory, regions[index]) }
        if verify {
            switch snapshot.checksums {
            case .some(let file): try snapshot.checkChecksums(file)
            case .none:
                throw fail(
                    ENODATA,
                    "flags: GUESTRAM_RESTORE_VERIFY, but the snapshot has no checksums; restore it without, and save it anew")
            }
        }
        // Only what was made here is taken away again when a later region fails.
        let lastBefore = memory.pointee.lastID
        do throws(Errno) {
            for index in 0..<regions.count {
                try restore(memory, regions[index], snapshot, eager, verify)
            }
            try addSlots(memory, snapshot, madeAfter: lastBefore)
        } catch {
            while let made = memory.pointee.regions.next(after: lastBefore) {
                Serving.remove(memory, made)
            }
            for index in 0..<regions.count {
                if let region = memory.pointee.regions.named(regions[index].name) {
                    RegionMaker.detach(memory, region)
                }
            }
            throw error
        }
        memory.pointee.restored = true
    }

    private static func checkMatch(
        _ memory: MemoryPointer, _ saved: SnapshotRegion
    ) throws(Errno) {
        guard let region = memory.pointee.regions.named(saved.name) else { return }
        guard region.pointee.length == saved.length else {
            throw fail(
                EINVAL,
                "region \(saved.name) is \(region.pointee.length) bytes long; the snapshot's is \(saved.length)")
        }
        guard region.pointee.source.kind == .none else {
            throw fail(EBUSY, "region \(saved.name) has contents already; restore into a fresh one")
        }
    }

    private static func restore(
        _ memory: MemoryPointer, _ saved: SnapshotRegion, _ snapshot: borrowing OpenedSnapshot,
        _ eager: Bool, _ verify: Bool
    ) throws(Errno) {
        let region: RegionPointer
        if let known = memory.pointee.regions.named(saved.name) {
            region = known
        } else {
            var options = guestram_region_options_t()
            options.type = saved.type
            options.flags = saved.isPrivate ? UInt32(GUESTRAM_REGION_PRIVATE) : 0
            options.length = saved.length
            options.page_size = saved.pageSize
            options.vm_fd = -1
            var name = InlineArray<64, CChar>(repeating: 0)
            region = try withUnsafeMutableBytes(of: &name) { bytes throws(Errno) in
                saved.name.copy(to: bytes.baseAddress!)
                options.name = UnsafePointer(
                    bytes.baseAddress!.assumingMemoryBound(to: CChar.self))
                return try Regions.add(memory, RegionPlan(options))
            }
        }
        try RegionMaker.attach(
            memory, region, snapshot, offset: saved.fileOffset, eager: eager, verify: verify)
    }

    /// Slots of regions that the restore made; a VMM that brings its own regions places them itself.
    private static func addSlots(
        _ memory: MemoryPointer, _ snapshot: borrowing OpenedSnapshot, madeAfter last: UInt32
    ) throws(Errno) {
        let slots = snapshot.slots
        for index in 0..<slots.count {
            let saved = slots[index]
            guard
                let region = memory.pointee.regions.named(
                    snapshot.regions[saved.regionIndex].name),
                region.pointee.id > last
            else { continue }
            try memory.pointee.slots.insert(
                Slot(
                    guestPhysical: saved.guestPhysical, length: saved.length,
                    offset: saved.offset, region: region.pointee.id))
        }
    }
}
