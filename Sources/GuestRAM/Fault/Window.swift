import CLinux

/// Which neighbours a fault brings along.
enum Window {
    /// From the granule on, as far as the granules just before it show sequential access: as many
    /// again as are present there, twice over, up to the limit. A fault with nothing present before
    /// it is taken for a random one and brings itself only. No history is kept, so any number of
    /// streams is followed and a random access costs nothing.
    @inline(__always)
    static func around(_ granule: Int, _ region: RegionPointer, _ limit: UInt64) -> Range<Int> {
        let most = Int(limit >> region.pointee.granuleShift)
        guard most > 1 else { return granule..<granule &+ 1 }
        var before = 0
        while before < most / 2, granule &- before > 0,
            region.pointee.pages.state(granule &- before &- 1) == PageState.present
        { before &+= 1 }
        let size = max(1, before &* 2)
        return granule..<min(granule &+ size, region.pointee.count)
    }

    /// The granules from `first` on that are in the state and in the window, at most `limit`.
    @inline(__always)
    static func run(
        _ region: RegionPointer, _ first: Int, in window: Range<Int>, of state: UInt8, limit: Int
    ) -> Range<Int> {
        let end = min(window.upperBound, first &+ limit)
        var granule = first &+ 1
        while granule < end, region.pointee.pages.state(granule) == state { granule &+= 1 }
        return first..<granule
    }

    /// Claims absent granules after `first`, which the caller has claimed, as far as a staging
    /// buffer reaches.
    @inline(__always)
    static func claim(_ region: RegionPointer, after first: Int, before end: Int) -> Range<Int> {
        let fit = max(1, Limits.staging >> Int(region.pointee.granuleShift))
        let end = min(end, first &+ fit)
        var granule = first &+ 1
        while granule < end, region.pointee.pages.claim(granule) { granule &+= 1 }
        return first..<granule
    }
}
