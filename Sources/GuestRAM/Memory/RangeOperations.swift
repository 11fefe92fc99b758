import CLinux
import Synchronization

/// A part of one region, held so that the region is not freed.
struct Piece {
    let region: RegionPointer
    let granules: Range<Int>
}

/// What the caller's arguments are called, for messages.
struct ArgumentNames {
    var region: StaticString = "region"
    var offset: StaticString = "offset"
}

/// Calls on ranges: from a region's offset or a guest-physical address to pieces of regions, and
/// the operations on them. From any thread of the VMM.
enum Ranges {
    /// Calls the body for every piece of the range, in order, after all of it was checked.
    static func each(
        _ memory: MemoryPointer, _ id: UInt32, _ offset: UInt64, _ length: UInt64,
        named names: ArgumentNames = ArgumentNames(), _ body: (Piece) throws(Errno) -> Void
    ) throws(Errno) {
        let (end, overflow) = offset.addingReportingOverflow(length)
        guard !overflow else {
            throw fail(EINVAL, "\(names.offset) \(hex: offset) plus length \(hex: length) overflows")
        }
        guard length > 0 else { throw fail(EINVAL, "length is 0") }
        var position = offset
        while position < end {
            let piece = try find(memory, id, position, end, names)
            unpin(piece)
            position += piece.length
        }
        position = offset
        while position < end {
            let piece = try find(memory, id, position, end, names)
            defer { unpin(piece) }
            try body(
                Piece(
                    region: piece.region,
                    granules: Int(piece.offset >> piece.region.pointee.granuleShift)..<Int(
                        (piece.offset + piece.length) >> piece.region.pointee.granuleShift)))
            position += piece.length
        }
    }

    private struct Found { let region: RegionPointer; let offset: UInt64; let length: UInt64 }

    private static func unpin(_ found: Found) {
        found.region.pointee.pins.wrappingSubtract(1, ordering: .releasing)
    }

    /// The first piece from `position` on, pinned.
    private static func find(
        _ memory: MemoryPointer, _ id: UInt32, _ position: UInt64, _ end: UInt64,
        _ names: ArgumentNames
    ) throws(Errno) -> Found {
        memory.pointee.configuration.lock()
        defer { memory.pointee.configuration.unlock() }
        var id = id
        var offset = position
        var length = end - position
        if id == GUESTRAM_GUEST_PHYSICAL {
            guard let slot = memory.pointee.slots.holding(position) else {
                throw fail(ENOENT, "\(names.offset): no slot covers the guest-physical address \(hex: position)")
            }
            id = slot.region
            offset = slot.offset + (position - slot.guestPhysical)
            length = min(length, slot.end - position)
        }
        guard let region = memory.pointee.regions.withID(id) else {
            throw fail(ENOENT, "\(names.region) \(id): there is none of this id")
        }
        guard offset <= region.pointee.length, length <= region.pointee.length - offset else {
            throw fail(
                EINVAL,
                "\(names.offset) \(hex: offset) + length \(hex: length) is outside region \(region.pointee.name) of \(hex: region.pointee.length)"
            )
        }
        guard offset % region.pointee.granule == 0, length % region.pointee.granule == 0 else {
            throw fail(
                EINVAL,
                "\(names.offset) \(hex: offset) and length \(hex: length) must be multiples of the granule \(region.pointee.granule) of region \(region.pointee.name)"
            )
        }
        region.pointee.pins.wrappingAdd(1, ordering: .acquiringAndReleasing)
        return Found(region: region, offset: offset, length: length)
    }

    static func checkNotStopped(_ memory: MemoryPointer) throws(Errno) {
        guard memory.pointee.phase.load(ordering: .acquiring) != Memory.Phase.stopped else {
            throw Serving.stopped
        }
    }

    /// Calls on ranges need workers that read events.
    static func checkServing(_ memory: MemoryPointer) throws(Errno) {
        switch memory.pointee.phase.load(ordering: .acquiring) {
        case Memory.Phase.fresh: throw fail(ENOTCONN, "the memory is not served yet; call guestram_start()")
        case Memory.Phase.stopped: throw Serving.stopped
        default: break
        }
    }
}

/// A fill operation asked for by the VMM: the same mfill() as the workers', with the kernel's answer.
struct RangeFill {
    /// How long an unread event may stand in the way.
    private static let patience: UInt64 = 2_000_000_000

    let memory: MemoryPointer
    let operation: Operation
    /// Where the pages of a move come from.
    var from: Piece?

    /// The piece's bytes done, and the errno that stopped it.
    func run(_ piece: Piece) throws(Errno) -> FillOutcome {
        let region = piece.region
        try checkSupport(region)
        let started = cl_now_ns()
        var total = FillOutcome()
        var granule = piece.granules.lowerBound
        while granule < piece.granules.upperBound {
            let end = min(piece.granules.upperBound, granule + Limits.pagesPerHold)
            memory.pointee.events.lock()
            let free = freeRun(region, granule..<end)
            let outcome =
                free.isEmpty
                ? FillOutcome(done: 0, error: EAGAIN) : fill(region, free, total.done)
            memory.pointee.events.unlock()
            total.done += outcome.done
            granule += Int(outcome.done >> region.pointee.granuleShift)
            switch outcome.error {
            case 0: continue
            case EAGAIN where cl_now_ns() - started < Self.patience: _ = cl_sleep_ns(50_000)
            default:
                total.error = outcome.error
                return total
            }
        }
        return total
    }

    private func checkSupport(_ region: RegionPointer) throws(Errno) {
        guard region.pointee.type.entry(for: operation) != nil else {
            throw fail(
                EOPNOTSUPP, "\(region.pointee.type.name) memory has no such operation (region \(region.pointee.name))")
        }
        let (registered, allowed) = memory.pointee.events.locked {
            (region.pointee.isRegistered, region.pointee.allows(operation))
        }
        guard registered else {
            throw fail(
                ENOTCONN,
                "region \(region.pointee.name) is not registered: it is resident, or was added without GUESTRAM_REGION_USERFAULT"
            )
        }
        guard allowed else {
            throw fail(
                EOPNOTSUPP,
                "region \(region.pointee.name): the kernel does not offer it here, or it needs GUESTRAM_REGION_USERFAULT (see guestram_region_info)"
            )
        }
    }

    /// As far as nobody is bringing a granule: its state would not be ours to change.
    private func freeRun(_ region: RegionPointer, _ run: Range<Int>) -> Range<Int> {
        guard !isWriteprotect else { return run }
        var end = run.lowerBound
        while end < run.upperBound, region.pointee.pages.state(end) != PageState.filling { end += 1 }
        return run.lowerBound..<end
    }

    private var isPoison: Bool {
        if case .poison = operation { return true }
        return false
    }

    private var isWriteprotect: Bool {
        if case .writeprotect = operation { return true }
        return false
    }

    /// Under the event lock.
    private func fill(_ region: RegionPointer, _ run: Range<Int>, _ before: UInt64) -> FillOutcome {
        guard region.pointee.isRegistered else { return FillOutcome(done: 0, error: ENOTCONN) }
        let shift = region.pointee.granuleShift
        if case .writeprotect(let on) = operation { return protect(region, run, on) }
        // Protection is kept granule by granule.
        var end = run.lowerBound + 1
        let protect = region.pointee.pages[run.lowerBound] & PageState.protected
        while end < run.upperBound, region.pointee.pages[end] & PageState.protected == protect {
            end += 1
        }
        var outcome = mfill(
            region, operation.advanced(by: before), at: region.pointee.offset(of: run.lowerBound),
            length: UInt64(end - run.lowerBound) << shift, protect: protect != 0)
        var stopped = run.lowerBound + Int(outcome.done >> shift)
        if outcome.error == EEXIST, !isPoison, isExhausted(region, stopped) {
            let again = mfill(
                region, operation.advanced(by: before + outcome.done),
                at: region.pointee.offset(of: stopped),
                length: UInt64(end - stopped) << shift, protect: protect != 0)
            outcome = FillOutcome(done: outcome.done + again.done, error: again.error)
            stopped = run.lowerBound + Int(outcome.done >> shift)
            if again.error == EEXIST, isExhausted(region, stopped) { outcome.error = ENOMEM }
        }
        let done = run.lowerBound..<stopped
        guard !done.isEmpty else { return outcome }
        count(done.count)
        if isPoison {
            settle(region, done, to: PageState.poisoned)
        } else {
            settle(region, done, to: PageState.present)
        }
        for granule in done { region.pointee.pages.clearFlags(granule, PageState.asked) }
        if let from {
            let first = from.granules.lowerBound + Int(before >> shift)
            settle(from.region, first..<first + done.count, to: PageState.zero)
        }
        Residency.check(memory, region, signal: memory.pointee.queue.workerDescriptor)
        return outcome
    }

    private func protect(_ region: RegionPointer, _ run: Range<Int>, _ on: Bool) -> FillOutcome {
        let outcome = mfill(
            region, operation, at: region.pointee.offset(of: run.lowerBound),
            length: UInt64(run.count) << region.pointee.granuleShift)
        for granule in run.prefix(Int(outcome.done >> region.pointee.granuleShift)) {
            if on {
                region.pointee.pages.setFlags(granule, PageState.protected)
            } else {
                region.pointee.pages.clearFlags(granule, PageState.protected)
            }
        }
        return outcome
    }

    private func count(_ granules: Int) {
        switch operation {
        case .copy: memory.pointee.statistics.copied.count(granules)
        case .zeropage: memory.pointee.statistics.zeroed.count(granules)
        case .continue: memory.pointee.statistics.continued.count(granules)
        case .poison: memory.pointee.statistics.poisoned.count(granules)
        case .move, .writeprotect: break
        }
    }
}

extension Operation {
    /// The same, further on in its source.
    fileprivate func advanced(by bytes: UInt64) -> Operation {
        switch self {
        case .copy(let from): .copy(from: from + bytes)
        case .move(let from): .move(from: from + bytes)
        default: self
        }
    }
}
