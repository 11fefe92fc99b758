import CLinux

/// guestram_prefetch(): asked for here, brought by a filler.
enum Prefetch {
    static func request(_ memory: MemoryPointer, _ piece: Piece) throws(Errno) {
        let queued = memory.pointee.events.locked {
            // What waits for the VMM's answer is tried again: this is the answer.
            for granule in piece.granules
            where piece.region.pointee.pages[granule] & PageState.asked != 0 {
                piece.region.pointee.pages.clearFlags(granule, PageState.asked)
                wakeRun(piece.region, granule..<granule + 1)
            }
            return memory.pointee.requests.push(
                PrefetchQueue.Request(
                    region: piece.region.pointee.id, first: piece.granules.lowerBound,
                    end: piece.granules.upperBound))
        }
        guard queued else {
            throw fail(EAGAIN, "\(PrefetchQueue.capacity) prefetch requests are pending; try again later")
        }
        memory.pointee.pool!.pointee.fillWord.bump()
    }
}

/// Dirty bitmaps of regions, made when first needed.
enum Dirty {
    static func prepare(
        _ memory: MemoryPointer, _ region: UInt32, _ offset: UInt64, _ length: UInt64
    ) throws(Errno) {
        try Ranges.each(memory, region, offset, length) { piece throws(Errno) in
            try memory.pointee.configuration.locked { () throws(Errno) in
                guard piece.region.pointee.dirty == nil else { return }
                let bitmap = try DirtyBitmap(granules: piece.region.pointee.count)
                memory.pointee.events.locked { piece.region.pointee.dirty = bitmap }
            }
        }
    }
}
