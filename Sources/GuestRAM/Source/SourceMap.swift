import CLinux
import Synchronization

/// The source, mapped into this process, and which parts of it are known to be in the page cache.
///
/// Bytes that are in memory need not be read into a buffer first: COPY takes them from here. But it
/// is issued under the event lock, and must not wait for the disk there. So it is aimed only at
/// chunks that a look found cached a moment ago; a page that memory pressure takes away within
/// that moment makes one COPY wait once, which is noticed, and the chunk is cold again.
///
/// Of a source with checksums, and that is for granules larger than a buffer only, it is memory of our
/// own: the granule is read to its place there, compared, copied from there, and let go of.
struct SourceMap: ~Copyable, @unchecked Sendable {
    static let chunk: UInt64 = 512 << 10
    /// Chunks of the widest look.
    private static let widest = 64
    /// A look that took longer is not followed by a wider one, in nanoseconds: faults wait meanwhile.
    private static let quick: UInt64 = 5_000
    /// How long a look is believed, in ticks of 2^24 ns (17 ms).
    private static let belief: UInt32 = 32

    private let mapping: Mapping
    var base: UnsafeMutableRawPointer { mapping.base }
    private var length: UInt64 { UInt64(mapping.length) }
    /// Per chunk: the tick of the last look that found all of it cached; 0 for never.
    private let seen: UnsafeMutablePointer<Atomic<UInt32>>
    private let count: Int
    /// Chunks of the next look: more while looks find all that they look at, and are quick.
    private let span = Atomic<Int>(1)

    init(_ source: Source, length: UInt64) throws(Errno) {
        do throws(Errno) {
            mapping =
                source.checksums != nil
                ? try Mapping(anonymous: Int(length))
                : try Mapping(
                    length: Int(length), protection: PROT_READ, flags: MAP_SHARED,
                    descriptor: source.descriptor, offset: source.offset)
        } catch {
            throw fail(error.code, "the snapshot's memory file cannot be mapped: \(error)")
        }
        _ = cl_madvise(mapping.base, mapping.length, MADV_DONTFORK)
        count = Int((length + Self.chunk - 1) / Self.chunk)
        seen = .allocate(capacity: count)
        for index in 0..<count { (seen + index).initialize(to: Atomic<UInt32>(0)) }
    }

    deinit { seen.deallocate() }

    var ownMemory: Int { count * MemoryLayout<UInt32>.stride }

    private static func tick(_ now: UInt64) -> UInt32 { UInt32(truncatingIfNeeded: now >> 24) | 1 }

    /// Where the chunk that holds the offset ends, if it is cached.
    @inline(__always)
    func cachedEnd(_ offset: UInt64, now: UInt64) -> UInt64? {
        let index = Int(offset / Self.chunk)
        let tick = seen[index].load(ordering: .relaxed)
        guard tick != 0, Self.tick(now) &- tick < Self.belief else { return nil }
        return min(length, UInt64(index &+ 1) &* Self.chunk)
    }

    /// Looks whether all of the chunk, and of those around it, is cached, by the descriptor that the
    /// caller may use. `scratch` holds a byte per page of the largest span.
    func look(
        _ offset: UInt64, _ source: Source, by descriptor: Int32, scratch: UnsafeMutableRawPointer
    ) {
        let begun = cl_now_ns()
        let span = span.load(ordering: .relaxed)
        let first = Int(offset / Self.chunk) & ~(span &- 1)
        let end = min(first &+ span, count)
        guard isCached(first..<end, source, descriptor, scratch) else {
            self.span.store(1, ordering: .relaxed)
            return
        }
        for index in first..<end { seen[index].store(Self.tick(begun), ordering: .relaxed) }
        if span < Self.widest, cl_now_ns() &- begun < Self.quick {
            self.span.store(span &* 2, ordering: .relaxed)
        }
    }

    private func isCached(
        _ chunks: Range<Int>, _ source: Source, _ descriptor: Int32,
        _ scratch: UnsafeMutableRawPointer
    ) -> Bool {
        let start = UInt64(chunks.lowerBound) &* Self.chunk
        let size = Int(min(UInt64(chunks.count) &* Self.chunk, length &- start))
        let position = source.offset &+ start
        let cached = cl_cachestat(descriptor, position, UInt64(size))
        guard cached >= 0 else {
            return allResident(start, size, scratch.assumingMemoryBound(to: UInt8.self))
        }
        // Counted are also pages that are still being read: of those the last comes last.
        return cached == size / 4096
            && cl_pread_nowait(descriptor, scratch, 1, off_t(position) + off_t(size) - 1) == 1
    }

    /// Before Linux 6.5. Many times slower.
    private func allResident(
        _ start: UInt64, _ size: Int, _ pages: UnsafeMutablePointer<UInt8>
    ) -> Bool {
        guard cl_mincore(base + Int(start), size, pages) == 0 else { return false }
        for page in 0..<size / 4096 where pages[page] & 1 == 0 { return false }
        return true
    }

    /// A COPY from the chunk failed or had to wait.
    func forget(_ offset: UInt64) {
        seen[Int(offset / Self.chunk)].store(0, ordering: .relaxed)
    }
}
