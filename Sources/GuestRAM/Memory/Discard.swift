import CLinux
import Synchronization

/// guestram_discard(): marks first, then frees, so that nothing can be brought in between.
enum Discard {
    static func run(_ memory: MemoryPointer, _ piece: Piece) throws(Errno) {
        let region = piece.region
        let served = Registration.isRegistered(memory, region)
        if served {
            // The kernel's own event would wait for a worker to read it.
            try Ranges.checkServing(memory)
            var granule = piece.granules.lowerBound
            while granule < piece.granules.upperBound {
                let end = min(piece.granules.upperBound, granule + 4096)
                memory.pointee.events.locked {
                    if region.pointee.isRegistered {
                        KernelEvents.discard(memory, region, granule..<end)
                    }
                }
                granule = end
            }
        }
        // Restored eagerly, and not read yet: it shall not be.
        if !served && region.pointee.absent.load(ordering: .acquiring) > 0 {
            memory.pointee.events.locked { KernelEvents.discard(memory, region, piece.granules) }
        }
        try free(region, piece.granules)
    }

    /// A file's pages are punched out, which sends no event; private ones are given back.
    private static func free(_ region: RegionPointer, _ run: Range<Int>) throws(Errno) {
        let offset = region.pointee.offset(of: run.lowerBound)
        let length = UInt64(run.count) << region.pointee.granuleShift
        var result: Int32
        repeat {
            if region.pointee.file >= 0 && !region.pointee.isPrivate {
                result = cl_fallocate(
                    region.pointee.file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                    off_t(region.pointee.fileOffset + offset), off_t(length))
            } else {
                // Locked memory is given back by a name of its own.
                let locked = region.pointee.flags & UInt32(GUESTRAM_REGION_LOCKED) != 0
                result = cl_madvise(
                    region.pointee.host + Int(offset), Int(length),
                    locked ? CL_MADV_DONTNEED_LOCKED : MADV_DONTNEED)
            }
        } while result == -EINTR || result == -EAGAIN
        guard result == 0 else {
            throw fail(
                -result, "region \(region.pointee.name): \(length) bytes at \(hex: offset) cannot be freed: \(Errno(-result))")
        }
    }
}
