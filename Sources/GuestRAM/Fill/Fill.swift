import CLinux

/// What a fill did and why it stopped: `error` is 0 when all was done, else the errno with which
/// the granule at `done` could not be.
struct FillOutcome {
    var done: UInt64 = 0
    var error: Int32 = 0
}

/// The only place that fills regions, for every type and every operation. The caller holds the
/// event lock and passes at most `Limits.pagesPerHold` pages, so that nobody waits long for it.
///
/// A partial result is gone on from. ENOENT may only mean that the range crosses two VMAs (a part
/// was mprotected): the rest is tried in halves down to the granule. All other errors are the
/// caller's, who knows the page's state: EAGAIN (an event must be read first), EEXIST (which wakes
/// nobody), EFAULT, ENOMEM, EBUSY, EIO, ESRCH.
func mfill(
    _ region: RegionPointer, _ operation: Operation, at offset: UInt64, length: UInt64,
    protect: Bool = false
) -> FillOutcome {
    var outcome = FillOutcome()
    guard region.pointee.allows(operation),
        let entry = region.pointee.type.entry(for: operation)
    else {
        outcome.error = EOPNOTSUPP
        return outcome
    }
    let userfault = region.pointee.userfault
    let target = region.pointee.address &+ offset
    let granule = region.pointee.granule
    var step = length
    while outcome.done < length {
        step = min(step, length &- outcome.done)
        var moved: UInt64 = 0
        let source = operation.source(after: outcome.done)
        var error = entry(userfault, target &+ outcome.done, source, step, protect, &moved)
        if error == EINVAL && protect {
            // CONTINUE before Linux 6.4 cannot protect what it maps.
            error = entry(userfault, target &+ outcome.done, source, step, false, &moved)
            countAsWritten(region, offset &+ outcome.done, moved)
        }
        outcome.done &+= moved
        switch error {
        case 0,
            EAGAIN where moved > 0:
            step = length
        case ENOENT where step > granule:
            step = max(granule, step / 2 / granule * granule)
        default:
            outcome.error = error
            return outcome
        }
    }
    return outcome
}

/// Pages that could not arrive protected: nobody will see the first write to them.
private func countAsWritten(_ region: RegionPointer, _ offset: UInt64, _ length: UInt64) {
    let shift = region.pointee.granuleShift
    for granule in Int(offset >> shift)..<Int((offset &+ length) >> shift) {
        region.pointee.dirty?.set(granule)
        region.pointee.pages.clearFlags(granule, PageState.protected)
    }
}

extension Operation {
    /// Where the bytes for the granule at `done` come from; for writeprotect, whether to protect.
    @inline(__always)
    fileprivate func source(after done: UInt64) -> UInt64 {
        switch self {
        case .copy(let from), .move(let from): from &+ done
        case .writeprotect(let on): on ? 1 : 0
        case .zeropage, .continue, .poison: 0
        }
    }

    /// As in `1 << GUESTRAM_OP_*`.
    @inline(__always)
    var bit: UInt32 {
        switch self {
        case .copy: 1 << UInt32(GUESTRAM_OP_COPY)
        case .zeropage: 1 << UInt32(GUESTRAM_OP_ZEROPAGE)
        case .continue: 1 << UInt32(GUESTRAM_OP_CONTINUE)
        case .poison: 1 << UInt32(GUESTRAM_OP_POISON)
        case .move: 1 << UInt32(GUESTRAM_OP_MOVE)
        case .writeprotect: 1 << UInt32(GUESTRAM_OP_WRITEPROTECT)
        }
    }
}

/// Wakes whoever waits in the range; it faults again unless its page is there. WAKE asks for no
/// VMA, so any aligned range is accepted.
func wake(_ userfault: Int32, _ address: UInt64, _ length: UInt64) {
    var range = uffdio_range(start: address, len: length)
    _ = cl_ioctl(userfault, CL_UFFDIO_WAKE, &range)
}

enum Limits {
    /// Pages per ioctl under the event lock.
    static let pagesPerHold = 64
    /// Bytes of a thread's staging buffer, hence of one read from a source.
    static let staging = 64 << 10
    /// The largest fault window.
    static let window: UInt64 = 2 << 20
}
