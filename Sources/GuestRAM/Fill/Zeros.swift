import CLinux
import Synchronization

/// Gives zeros to a run that is not filled: ZEROPAGE where the type has one and nothing must arrive
/// protected, else a copy of zeros, else the file's own fresh pages and CONTINUE. Where a page is
/// there already: CONTINUE, and where it is mapped, WAKE.
func deliverZeros(
    _ statistics: borrowing Statistics, _ region: RegionPointer, _ run: Range<Int>
) -> Delivery {
    let shift = region.pointee.granuleShift
    var granule = run.lowerBound
    var doubted = -1
    while granule < run.upperBound {
        let protect = region.pointee.pages[granule] & PageState.protected != 0
        let whole = region.pointee.allows(.zeropage) && !protect
        let outcome =
            whole
            ? mfill(
                region, .zeropage, at: region.pointee.offset(of: granule),
                length: UInt64(run.upperBound &- granule) << shift)
            : copyZeros(region, granule, protect)
        let filled = Int(outcome.done >> shift)
        if filled > 0 {
            statistics.zeroed.count(filled)
            settle(region, granule..<granule &+ filled, to: PageState.present)
            granule &+= filled
        }
        switch outcome.error {
        case 0: continue
        case EEXIST where isExhausted(region, granule):
            if doubted == granule { return .failed(stopped: granule, error: ENOMEM) }
            doubted = granule
        case EEXIST:
            let error = mapWhatIsThere(statistics, region, granule, protect)
            if error == EAGAIN { return .again(stopped: granule) }
            if error != 0 { return .failed(stopped: granule, error: error) }
            settle(region, granule..<granule &+ 1, to: PageState.present)
            granule &+= 1
        case EAGAIN: return .again(stopped: granule)
        default: return .failed(stopped: granule, error: outcome.error)
        }
    }
    return .done
}

private func mapWhatIsThere(
    _ statistics: borrowing Statistics, _ region: RegionPointer, _ granule: Int, _ protect: Bool
) -> Int32 {
    if region.pointee.type.copy == nil, let alias = region.pointee.alias {
        // Reading through the second mapping makes the page; what was discarded is fresh, hence
        // zero.
        let result = cl_madvise(
            alias + Int(region.pointee.offset(of: granule)), Int(region.pointee.granule),
            CL_MADV_POPULATE_READ)
        guard result == 0 else { return result == -EFAULT ? ENOMEM : -result }
    }
    let outcome = mfill(
        region, .continue, at: region.pointee.offset(of: granule),
        length: region.pointee.granule, protect: protect)
    switch outcome.error {
    case 0:
        statistics.continued.count()
        return 0
    case EEXIST:
        wakeRun(region, granule..<granule &+ 1)
        return 0
    case EOPNOTSUPP, EFAULT:
        // Mapped: anonymous memory has no CONTINUE, a private huge page answers EFAULT. Or a
        // write-protect marker, which stands in the way of ZEROPAGE and takes a copy.
        let copied = copyZeros(region, granule, protect)
        switch copied.error {
        case 0: statistics.zeroed.count()
        case EEXIST: wakeRun(region, granule..<granule &+ 1)
        default: return copied.error
        }
        return 0
    default: return outcome.error
    }
}

/// EEXIST where the type or the kernel has no COPY: what is there is all that there can be.
private func copyZeros(_ region: RegionPointer, _ granule: Int, _ protect: Bool) -> FillOutcome {
    guard let zeros = region.pointee.zeros, region.pointee.allows(.copy(from: 0)) else {
        return FillOutcome(done: 0, error: EEXIST)
    }
    return mfill(
        region, .copy(from: UInt64(UInt(bitPattern: zeros))),
        at: region.pointee.offset(of: granule), length: region.pointee.granule, protect: protect)
}
