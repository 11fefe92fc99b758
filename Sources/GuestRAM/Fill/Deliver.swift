import CLinux
import Synchronization

/// Making granules present by way of mfill(), and settling their states. Everything here is called
/// with the memory's event lock held, shared where the granules are claimed (deliver), else alone;
/// nothing here waits, except to write into a file in memory.
/// What a type can do decides the way: no type is named.

/// The state of a run of granules after an attempt to fill it.
enum Delivery {
    case done
    /// An event must be read first. The granules from `stopped` on are absent, or zero, again.
    case again(stopped: Int)
    /// The granule `stopped` cannot be filled: errno.
    case failed(stopped: Int, error: Int32)
}

/// Puts a run into a new state and wakes whom the filler owes it. `absent` goes down by those that
/// left absent or filling.
func settle(_ region: RegionPointer, _ run: Range<Int>, to state: UInt8) {
    var left = 0
    var owed = false
    for granule in run {
        let before = region.pointee.pages.settle(granule, to: state)
        if before & PageState.mask <= PageState.filling { left &+= 1 }
        if before & (PageState.waited | PageState.asked) != 0 { owed = true }
    }
    if state & PageState.mask > PageState.filling && left > 0 {
        region.pointee.absent.wrappingSubtract(left, ordering: .acquiringAndReleasing)
    }
    if owed { wakeRun(region, run) }
}

func wakeRun(_ region: RegionPointer, _ run: Range<Int>) {
    wake(
        region.pointee.userfault,
        region.pointee.address &+ region.pointee.offset(of: run.lowerBound),
        UInt64(run.count) << region.pointee.granuleShift)
}

/// Fills the claimed granules with the bytes at `buffer`. Those discarded meanwhile become zero.
func deliver(
    _ statistics: borrowing Statistics, _ region: RegionPointer, _ run: Range<Int>,
    from buffer: UnsafeMutableRawPointer
) -> Delivery {
    var granule = run.lowerBound
    while granule < run.upperBound {
        let byte = region.pointee.pages[granule]
        if byte & PageState.discarded != 0 {
            settle(region, granule..<granule + 1, to: PageState.zero)
            wakeRun(region, granule..<granule + 1)
            granule += 1
            continue
        }
        let piece = alike(region, granule, before: run.upperBound)
        let bytes = buffer + Int(region.pointee.offset(of: granule &- run.lowerBound))
        let (filled, error) = place(
            statistics, region, granule..<piece, bytes, byte & PageState.protected != 0)
        if filled > granule { settle(region, granule..<filled, to: PageState.present) }
        granule = filled
        if error == EAGAIN { return .again(stopped: granule) }
        if error != 0 { return .failed(stopped: granule, error: error) }
    }
    return .done
}

/// How far the granules are filling, not discarded, and protected or not like the first.
@inline(__always)
private func alike(_ region: RegionPointer, _ first: Int, before end: Int) -> Int {
    let relevant = PageState.mask | PageState.discarded | PageState.protected
    let byte = region.pointee.pages[first] & relevant
    var granule = first &+ 1
    while granule < end, region.pointee.pages[granule] & relevant == byte { granule &+= 1 }
    return granule
}

/// Brings bytes to where the type wants them: COPY where it has one, else, and where a page is in
/// the file already without having been filled (EEXIST), into the file and CONTINUE.
/// Returns how far it came and the error that stopped it.
private func place(
    _ statistics: borrowing Statistics, _ region: RegionPointer, _ run: Range<Int>,
    _ bytes: UnsafeMutableRawPointer, _ protect: Bool
) -> (Int, Int32) {
    let shift = region.pointee.granuleShift
    let source = UInt64(UInt(bitPattern: bytes))
    var granule = run.lowerBound
    var doubted = -1
    while granule < run.upperBound {
        let offset = region.pointee.offset(of: granule)
        let length = UInt64(run.upperBound &- granule) << shift
        let done = UInt64(granule &- run.lowerBound) << shift
        let outcome = mfill(
            region, .copy(from: source &+ done), at: offset, length: length, protect: protect)
        let copied = Int(outcome.done >> shift)
        statistics.copied.count(copied)
        granule &+= copied
        switch outcome.error {
        case 0: return (granule, 0)
        case EEXIST where isExhausted(region, granule):
            if doubted == granule { return (granule, ENOMEM) }
            doubted = granule
        case EEXIST, EOPNOTSUPP:
            let error = overwrite(
                statistics, region, granule,
                bytes + Int(region.pointee.offset(of: granule &- run.lowerBound)), protect)
            guard error == 0 else { return (granule, error) }
            granule &+= 1
        default: return (granule, outcome.error)
        }
    }
    return (granule, 0)
}

/// Whether an EEXIST was the kernel's word for "no page left": then none is there. To be believed
/// when it happens twice: a discard whose event was read before may free the page in between.
func isExhausted(_ region: RegionPointer, _ granule: Int) -> Bool {
    guard region.pointee.type.existsMayMeanExhausted else { return false }
    let offset = Int(region.pointee.offset(of: granule))
    if let alias = region.pointee.alias {
        // Through the second mapping, where a page that is cached is found and one that cannot be
        // had is an error.
        return cl_madvise(alias + offset, Int(region.pointee.granule), CL_MADV_POPULATE_READ) < 0
    }
    var resident: UInt8 = 0
    return cl_mincore(region.pointee.host + offset, 4096, &resident) == 0 && resident & 1 == 0
}

/// Writes one granule into the file behind the region and maps it. A page that was mapped all the
/// time (no file, or CONTINUE says so) has somebody's contents: it stays.
private func overwrite(
    _ statistics: borrowing Statistics, _ region: RegionPointer, _ granule: Int,
    _ bytes: UnsafeMutableRawPointer, _ protect: Bool
) -> Int32 {
    let length = Int(region.pointee.granule)
    guard region.pointee.type.continue != nil, !region.pointee.isPrivate else {
        wakeRun(region, granule..<granule + 1)
        return 0
    }
    let error = write(region, granule, bytes, length)
    guard error == 0 else { return error }
    let outcome = mfill(
        region, .continue, at: region.pointee.offset(of: granule), length: UInt64(length),
        protect: protect)
    switch outcome.error {
    case 0:
        statistics.continued.count()
        return 0
    case EEXIST:
        wakeRun(region, granule..<granule + 1)
        return 0
    case EAGAIN:
        // Undone before the retry: the event to come may discard this page.
        punch(region, granule..<granule + 1)
        return EAGAIN
    default: return outcome.error
    }
}

private func write(
    _ region: RegionPointer, _ granule: Int, _ bytes: UnsafeMutableRawPointer, _ length: Int
) -> Int32 {
    if let alias = region.pointee.alias {
        let target = alias + Int(region.pointee.offset(of: granule))
        // Here a page that cannot be had is an error; at the first store it would be a SIGBUS.
        let result = cl_madvise(target, length, CL_MADV_POPULATE_WRITE)
        guard result == 0 else { return result == -EFAULT ? ENOMEM : -result }
        memcpy(target, bytes, length)
        return 0
    }
    var done = 0
    while done < length {
        let position = region.pointee.fileOffset &+ region.pointee.offset(of: granule)
        let result = cl_pwrite(
            region.pointee.workerFile, bytes + done, length - done, off_t(position) + off_t(done))
        if result == -Int(EINTR) { continue }
        guard result > 0 else { return result == 0 ? EIO : Int32(-result) }
        done += result
    }
    return 0
}

/// Frees granules of the file behind the region. Sends no event.
func punch(_ region: RegionPointer, _ run: Range<Int>) {
    guard region.pointee.workerFile >= 0 else { return }
    _ = cl_fallocate(
        region.pointee.workerFile, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
        off_t(region.pointee.fileOffset &+ region.pointee.offset(of: run.lowerBound)),
        off_t(UInt64(run.count) << region.pointee.granuleShift))
}

/// Maps granules whose contents the file holds. They are absent, filling or present in our map.
func mapCached(
    _ statistics: borrowing Statistics, _ region: RegionPointer, _ run: Range<Int>
) -> Delivery {
    var granule = run.lowerBound
    while granule < run.upperBound {
        let protect = region.pointee.pages[granule] & PageState.protected != 0
        var end = granule &+ 1
        while end < run.upperBound,
            (region.pointee.pages[end] & PageState.protected != 0) == protect
        { end &+= 1 }
        let outcome = mfill(
            region, .continue, at: region.pointee.offset(of: granule),
            length: UInt64(end &- granule) << region.pointee.granuleShift, protect: protect)
        let mapped = Int(outcome.done >> region.pointee.granuleShift)
        if mapped > 0 {
            statistics.continued.count(mapped)
            settle(region, granule..<granule &+ mapped, to: PageState.present)
            granule &+= mapped
        }
        switch outcome.error {
        case 0: continue
        case EEXIST:
            settle(region, granule..<granule &+ 1, to: PageState.present)
            wakeRun(region, granule..<granule &+ 1)
            granule &+= 1
        case EAGAIN: return .again(stopped: granule)
        default: return .failed(stopped: granule, error: outcome.error)
        }
    }
    return .done
}

/// Maps granules of a file that is itself the source: where it has no page it has a hole.
func mapOwn(
    _ statistics: borrowing Statistics, _ region: RegionPointer, _ run: Range<Int>
) -> Delivery {
    var granule = run.lowerBound
    while granule < run.upperBound {
        let delivery = mapCached(statistics, region, granule..<run.upperBound)
        guard case .failed(let hole, EFAULT) = delivery else { return delivery }
        guard case .done = deliverZeros(statistics, region, hole..<hole &+ 1) else {
            return delivery
        }
        granule = hole &+ 1
    }
    return .done
}

/// Makes a run answer SIGBUS. Returns how far it came: less than the end where the kernel has no
/// POISON for the type.
@discardableResult
func poison(_ region: RegionPointer, _ run: Range<Int>) -> Int {
    var granule = run.lowerBound
    while granule < run.upperBound {
        let outcome = mfill(
            region, .poison, at: region.pointee.offset(of: granule),
            length: UInt64(run.upperBound &- granule) << region.pointee.granuleShift)
        let done = Int(outcome.done >> region.pointee.granuleShift)
        settle(region, granule..<granule &+ done, to: PageState.poisoned)
        granule &+= done
        switch outcome.error {
        case 0: continue
        case EEXIST where region.pointee.pages[granule] & PageState.protected != 0:
            // A write-protect marker is in the way.
            region.pointee.pages.clearFlags(granule, PageState.protected)
            _ = mfill(
                region, .writeprotect(false), at: region.pointee.offset(of: granule),
                length: region.pointee.granule)
        case EEXIST:
            // Mapped or poisoned: nobody can be given zeros here.
            settle(region, granule..<granule &+ 1, to: PageState.poisoned)
            wakeRun(region, granule..<granule &+ 1)
            granule &+= 1
        default: return granule
        }
    }
    return granule
}
