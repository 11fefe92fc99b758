import CLinux

/// One operation over a range, for the calls below: what was done is counted, the errno that
/// stopped it is the answer.
private func apply(
    _ memory: OpaquePointer?, _ region: UInt32, _ offset: UInt64, _ length: UInt64,
    _ done: UnsafeMutablePointer<UInt64>?, _ operation: (UInt64) -> Operation
) -> Int32 {
    done?.pointee = 0
    return answer { () throws(Errno) in
        let memory = try GuestRAM.memory(memory)
        try Ranges.checkServing(memory)
        var total: UInt64 = 0
        defer { done?.pointee = total }
        try Ranges.each(memory, region, offset, length) { piece throws(Errno) in
            let outcome = try RangeFill(memory: memory, operation: operation(total)).run(piece)
            total += outcome.done
            guard outcome.error == 0 else {
                throw stoppedAt(offset + total, outcome.error)
            }
        }
    }
}

private func stoppedAt(_ position: UInt64, _ error: Int32) -> Errno {
    switch error {
    case EEXIST: fail(error, "offset \(hex: position): the page is there already")
    case EAGAIN:
        fail(error, "offset \(hex: position): it is being filled by another, or an event stands in the way; try again")
    case ENOMEM: fail(error, "offset \(hex: position): no memory, or no free hugepage, to put there")
    case ENOENT: fail(error, "offset \(hex: position): nothing of the region is mapped there")
    case EFAULT: fail(error, "offset \(hex: position): no page is cached there, or the source cannot be read")
    default: fail(error, "offset \(hex: position): \(Errno(error))")
    }
}

@c @implementation public func guestram_copy(
    _ memory: OpaquePointer?, _ region: UInt32, _ offset: UInt64, _ source: UnsafeRawPointer?,
    _ length: UInt64, _ done: UnsafeMutablePointer<UInt64>?
) -> Int32 {
    guard let source else {
        done?.pointee = 0
        return answer { () throws(Errno) in throw fail(EINVAL, "source is NULL") }
    }
    let from = UInt64(UInt(bitPattern: source))
    return apply(memory, region, offset, length, done) { .copy(from: from + $0) }
}

@c @implementation public func guestram_zeropage(
    _ memory: OpaquePointer?, _ region: UInt32, _ offset: UInt64, _ length: UInt64,
    _ done: UnsafeMutablePointer<UInt64>?
) -> Int32 {
    apply(memory, region, offset, length, done) { _ in .zeropage }
}

@c @implementation public func guestram_continue(
    _ memory: OpaquePointer?, _ region: UInt32, _ offset: UInt64, _ length: UInt64,
    _ done: UnsafeMutablePointer<UInt64>?
) -> Int32 {
    apply(memory, region, offset, length, done) { _ in .continue }
}

@c @implementation public func guestram_poison(
    _ memory: OpaquePointer?, _ region: UInt32, _ offset: UInt64, _ length: UInt64,
    _ done: UnsafeMutablePointer<UInt64>?
) -> Int32 {
    apply(memory, region, offset, length, done) { _ in .poison }
}

@c @implementation public func guestram_writeprotect(
    _ memory: OpaquePointer?, _ region: UInt32, _ offset: UInt64, _ length: UInt64,
    _ protect: Int32
) -> Int32 {
    guard protect == 0 || protect == 1 else {
        return answer { () throws(Errno) in throw fail(EINVAL, "protect is \(protect), not 0 or 1") }
    }
    if protect == 1 {
        let result = answer { () throws(Errno) in
            try Dirty.prepare(try GuestRAM.memory(memory), region, offset, length)
        }
        guard result == 0 else { return result }
    }
    return apply(memory, region, offset, length, nil) { _ in .writeprotect(protect == 1) }
}

private var overlapping: Errno {
    fail(EINVAL, "offset and source_offset: the two ranges overlap")
}

@c @implementation public func guestram_move(
    _ memory: OpaquePointer?, _ region: UInt32, _ offset: UInt64, _ source_region: UInt32,
    _ source_offset: UInt64, _ length: UInt64, _ done: UnsafeMutablePointer<UInt64>?
) -> Int32 {
    done?.pointee = 0
    return answer { () throws(Errno) in
        let memory = try GuestRAM.memory(memory)
        try Ranges.checkServing(memory)
        let distance = offset > source_offset ? offset - source_offset : source_offset - offset
        guard region != source_region || distance >= length else { throw overlapping }
        var total: UInt64 = 0
        defer { done?.pointee = total }
        let names = ArgumentNames(region: "source_region", offset: "source_offset")
        try Ranges.each(memory, source_region, source_offset, length, named: names) {
            from throws(Errno) in
            let shift = from.region.pointee.granuleShift
            let size = UInt64(from.granules.count) << shift
            let start = from.region.pointee.address
                + from.region.pointee.offset(of: from.granules.lowerBound)
            var moved: UInt64 = 0
            try Ranges.each(memory, region, offset + total, size) { piece throws(Errno) in
                guard piece.region.pointee.granuleShift == shift else {
                    throw fail(EINVAL, "the two regions have different granules")
                }
                let first = from.granules.lowerBound + Int(moved >> shift)
                // By two slots, or by a slot and the region itself.
                guard piece.region != from.region || !piece.granules.overlaps(from.granules) else {
                    throw overlapping
                }
                let outcome = try RangeFill(
                    memory: memory, operation: .move(from: start + moved),
                    from: Piece(
                        region: from.region, granules: first..<first + piece.granules.count)
                ).run(piece)
                moved += outcome.done
                total += outcome.done
                guard outcome.error == 0 else { throw stoppedAt(offset + total, outcome.error) }
            }
        }
    }
}

@c @implementation public func guestram_discard(
    _ memory: OpaquePointer?, _ region: UInt32, _ offset: UInt64, _ length: UInt64
) -> Int32 {
    answer { () throws(Errno) in
        let memory = try GuestRAM.memory(memory)
        try Ranges.checkNotStopped(memory)
        try Ranges.each(memory, region, offset, length) { piece throws(Errno) in
            try Discard.run(memory, piece)
        }
    }
}

@c @implementation public func guestram_prefetch(
    _ memory: OpaquePointer?, _ region: UInt32, _ offset: UInt64, _ length: UInt64
) -> Int32 {
    answer { () throws(Errno) in
        let memory = try GuestRAM.memory(memory)
        try Ranges.checkServing(memory)
        try Ranges.each(memory, region, offset, length) { piece throws(Errno) in
            try Prefetch.request(memory, piece)
        }
    }
}

@c @implementation public func guestram_collapse(
    _ memory: OpaquePointer?, _ region: UInt32, _ offset: UInt64, _ length: UInt64
) -> Int32 {
    answer { () throws(Errno) in
        let memory = try GuestRAM.memory(memory)
        try Ranges.each(memory, region, offset, length) { piece throws(Errno) in
            for granule in piece.granules
            where piece.region.pointee.pages.state(granule) != PageState.present {
                throw fail(
                    EAGAIN,
                    "offset \(hex: piece.region.pointee.offset(of: granule)) of region \(piece.region.pointee.name) is absent; all of the range must be present first"
                )
            }
            let start = piece.region.pointee.host
                + Int(piece.region.pointee.offset(of: piece.granules.lowerBound))
            let result = cl_madvise(
                start, piece.granules.count << Int(piece.region.pointee.granuleShift),
                CL_MADV_COLLAPSE)
            guard result == 0 else {
                throw fail(
                    -result,
                    "MADV_COLLAPSE (Linux 6.1, CONFIG_TRANSPARENT_HUGEPAGE): \(Errno(-result))")
            }
        }
    }
}

@c @implementation public func guestram_dirty_merge(
    _ memory: OpaquePointer?, _ region: UInt32, _ offset: UInt64, _ length: UInt64,
    _ bitmap: UnsafePointer<UInt64>?
) -> Int32 {
    answer { () throws(Errno) in
        let memory = try GuestRAM.memory(memory)
        guard let bitmap else { throw fail(EINVAL, "bitmap is NULL") }
        try Dirty.prepare(memory, region, offset, length)
        var bit = 0
        try Ranges.each(memory, region, offset, length) { piece throws(Errno) in
            for granule in piece.granules {
                if bitmap[bit >> 6] >> UInt64(bit & 63) & 1 != 0 {
                    piece.region.pointee.dirty!.set(granule)
                }
                bit += 1
            }
        }
    }
}

@c @implementation public func guestram_dirty_read(
    _ memory: OpaquePointer?, _ region: UInt32, _ offset: UInt64, _ length: UInt64,
    _ bitmap: UnsafeMutablePointer<UInt64>?, _ clear: Int32
) -> Int32 {
    answer { () throws(Errno) in
        let memory = try GuestRAM.memory(memory)
        guard let bitmap else { throw fail(EINVAL, "bitmap is NULL") }
        guard clear == 0 || clear == 1 else { throw fail(EINVAL, "clear is \(clear), not 0 or 1") }
        var bit = 0
        try Ranges.each(memory, region, offset, length) { piece throws(Errno) in
            for granule in piece.granules {
                if bit & 63 == 0 { bitmap[bit >> 6] = 0 }
                if let dirty = piece.region.pointee.dirty, dirty.take(granule, clear: clear == 1) {
                    bitmap[bit >> 6] |= 1 << UInt64(bit & 63)
                }
                bit += 1
            }
        }
    }
}
