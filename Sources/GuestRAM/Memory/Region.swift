import CLinux
import Synchronization

typealias RegionPointer = UnsafeMutablePointer<Region>

/// One host memory block of one memory type.
///
/// It has two addresses: where its owner has it mapped, which the ioctls take (`address`), and
/// where this process has the same memory mapped to look at its contents (`host`). They are the
/// same number as long as the owner is this process and has not moved it.
struct Region: ~Copyable {
    let id: UInt32
    let name: RegionName
    let type: MemoryType
    /// GUESTRAM_REGION_*
    let flags: UInt32
    let length: UInt64
    let granule: UInt64
    let granuleShift: UInt64
    /// The library's own descriptor of the file the memory lives in, -1 for none.
    let file: Int32
    let fileOffset: UInt64
    var host: UnsafeMutableRawPointer
    /// Mapped by the library, which unmaps it.
    let ownsMapping: Bool
    /// The file mapped once more, where contents cannot be written with pwrite().
    var alias: UnsafeMutableRawPointer?

    /// Owner's address. This and all below, except the atomics, change under the event lock only.
    var address: UInt64
    /// Registered with the memory's userfaultfd: modes, and operations as 1 << GUESTRAM_OP_*.
    var modes: UInt64 = 0
    var operations: UInt32 = 0
    /// The memory's userfaultfd as the workers know it; -1 while not registered.
    var userfault: Int32 = -1
    /// `file` as the workers know it.
    var workerFile: Int32 = -1
    var source = Source.none
    /// The source, mapped: a file's, while the region is served lazily.
    var sourceMap: UnsafeMutablePointer<SourceMap>?
    /// Zeros of one granule, where zeros must be copied.
    var zeros: UnsafeMutableRawPointer?
    var fill = UInt32(GUESTRAM_FILL_NONE)
    var why: StaticString = "nothing was restored into it; the kernel gives zero pages"
    var dirty: DirtyBitmap?

    let pages: PageMap
    /// Granules that are absent or being filled.
    let absent = Atomic<Int>(0)
    /// Threads that hold this region across I/O; it is freed when there are none.
    let pins = Atomic<Int>(0)
    /// Where the background fill goes on.
    let cursor = Atomic<Int>(0)

    var isPrivate: Bool { flags & UInt32(GUESTRAM_REGION_PRIVATE) != 0 }
    var isRegistered: Bool { userfault >= 0 }
    var count: Int { pages.count }

    @inline(__always)
    func allows(_ operation: Operation) -> Bool { operations & operation.bit != 0 }

    @inline(__always)
    func offset(of granule: Int) -> UInt64 { UInt64(granule) << granuleShift }

    /// The granule's bytes in the mapped source, which every region of large granules has.
    func sourceBytes(at granule: Int) -> UnsafeMutableRawPointer {
        sourceMap!.pointee.base + Int(offset(of: granule))
    }

    @inline(__always)
    func contains(address candidate: UInt64) -> Bool { candidate &- address < length }

    /// The granules from `start` on up to the next that is gone; nil at the end. Where a part was
    /// unmapped or moved away under us, another's mapping may be by now.
    func part(from start: Int) -> Range<Int>? {
        var first = start
        while first < count, pages.state(first) == PageState.gone { first += 1 }
        guard first < count else { return nil }
        var end = first + 1
        while end < count, pages.state(end) != PageState.gone { end += 1 }
        return first..<end
    }

    private func unmap() {
        var start = 0
        while let part = part(from: start) {
            _ = cl_munmap(host + Int(offset(of: part.lowerBound)), Int(offset(of: part.count)))
            start = part.upperBound
        }
    }

    deinit {
        if let alias { _ = cl_munmap(alias, Int(length)) }
        sourceMap?.deinitialize(count: 1)
        sourceMap?.deallocate()
        if let zeros { _ = cl_munmap(zeros, Int(granule)) }
        if ownsMapping { unmap() }
        source.close()
        dirty?.free()
        if file >= 0 { _ = cl_close(file) }
    }
}
