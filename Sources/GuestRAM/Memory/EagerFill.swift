import CLinux
import Synchronization

/// Bringing all of a region before anybody runs, straight into its mapping and by several threads:
/// for a restore that is asked to be eager, and for memory on which this kernel takes no faults.
struct EagerFill: ~Copyable {
    private static let chunk = 2 << 20
    private static let mostThreads = 4

    private let memory: MemoryPointer
    private let region: RegionPointer
    private let next = Atomic<Int>(0)
    /// errno of the first failure, and the offset it was met at.
    private let error = Atomic<Int>(0)
    private let errorOffset = Atomic<UInt64>(0)

    private init(_ memory: MemoryPointer, _ region: RegionPointer) {
        self.memory = memory
        self.region = region
    }

    /// The region is not registered yet. Afterwards all is present.
    static func run(_ memory: MemoryPointer, _ region: RegionPointer) throws(Errno) {
        let job = UnsafeMutablePointer<EagerFill>.allocate(capacity: 1)
        job.initialize(to: EagerFill(memory, region))
        defer {
            job.deinitialize(count: 1)
            job.deallocate()
        }
        var helpers = InlineArray<4, pthread_t>(repeating: pthread_t())
        var started = 0
        let wanted = min(Int(cl_online_cpus()), mostThreads) - 1
        while started < wanted,
            cl_thread_start(&helpers[started], eagerFillMain, job, PoolThread.stack) == 0
        { started += 1 }
        job.pointee.work()
        for index in 0..<started { _ = cl_thread_join(helpers[index]) }
        let error = Int32(job.pointee.error.load(ordering: .acquiring))
        guard error == 0 else {
            throw fail(
                error,
                "region \(region.pointee.name) at offset \(job.pointee.errorOffset.now): \(error == EBADMSG ? "a page is not what was saved, its checksum differs" : "the snapshot's memory file cannot be read"): \(Errno(error))"
            )
        }
        region.pointee.pages.fill(0..<region.pointee.count, with: PageState.present)
        region.pointee.absent.store(0, ordering: .releasing)
    }

    fileprivate func work() {
        let granules = max(1, Self.chunk >> Int(region.pointee.granuleShift))
        while error.load(ordering: .relaxed) == 0 {
            let first = next.wrappingAdd(granules, ordering: .relaxed).oldValue
            guard first < region.pointee.count else { return }
            let end = min(first + granules, region.pointee.count)
            var granule = first
            while granule < end {
                guard region.pointee.pages.state(granule) == PageState.absent else {
                    granule += 1
                    continue
                }
                let run = Window.run(
                    region, granule, in: granule..<end, of: PageState.absent, limit: granules)
                guard read(run) else { return }
                granule = run.upperBound
            }
        }
    }

    private func read(_ run: Range<Int>) -> Bool {
        let offset = region.pointee.offset(of: run.lowerBound)
        let length = run.count << Int(region.pointee.granuleShift)
        let fetched = region.pointee.source.fetch(
            region.pointee.host + Int(offset), at: offset, length: length,
            granule: region.pointee.granule, wait: true, by: region.pointee.source.descriptor)
        memory.pointee.statistics.reads.count()
        memory.pointee.statistics.bytesRead.count(fetched.bytes)
        memory.pointee.statistics.loaded.count(fetched.bytes >> Int(region.pointee.granuleShift))
        guard fetched.bytes < length else { return true }
        errorOffset.store(offset + UInt64(fetched.bytes), ordering: .relaxed)
        error.store(Int(fetched.error), ordering: .releasing)
        return false
    }
}

private let eagerFillMain:
    @convention(c) (UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? = { argument in
        argument!.assumingMemoryBound(to: EagerFill.self).pointee.work()
        return nil
    }
