import CLinux
import Synchronization

/// Latencies in nanoseconds, in buckets 1/8 octave wide, from 64 ns to 17 s.
struct Histogram: ~Copyable, @unchecked Sendable {
    static let steps = 8
    static let firstOctave = 6
    static let octaves = 28
    static let bucketCount = steps * octaves
    private let buckets: UnsafeMutablePointer<Atomic<UInt32>>
    let sum = Atomic<UInt64>(0)
    let highest = Atomic<UInt64>(0)

    /// Buckets of `Histogram.bytes` bytes, zeroed.
    init(_ buckets: UnsafeMutablePointer<Atomic<UInt32>>) { self.buckets = buckets }

    /// All who record hold one lock; who reads need not.
    @inline(__always)
    func record(_ nanoseconds: UInt64) {
        let bucket = buckets + Self.bucket(of: nanoseconds)
        bucket.pointee.store(bucket.pointee.load(ordering: .relaxed) &+ 1, ordering: .relaxed)
        sum.countAlone(nanoseconds)
        if nanoseconds > highest.now { highest.store(nanoseconds, ordering: .relaxed) }
    }

    @inline(__always)
    static func bucket(of nanoseconds: UInt64) -> Int {
        guard nanoseconds >= 1 << UInt64(firstOctave) else { return 0 }
        let octave = 63 &- nanoseconds.leadingZeroBitCount
        let step = Int(truncatingIfNeeded: nanoseconds >> UInt64(octave &- 3)) & (steps &- 1)
        return min((octave &- firstOctave) &* steps &+ step, bucketCount &- 1)
    }

    /// The first value above the bucket.
    static func upperBound(of bucket: Int) -> UInt64 {
        let octave = UInt64(bucket / steps + firstOctave)
        return (1 << octave) + UInt64(bucket % steps + 1) << (octave - 3)
    }

    func add(to summary: inout LatencySummary) {
        for bucket in 0..<Self.bucketCount {
            summary.counts[bucket] += UInt64(buckets[bucket].load(ordering: .relaxed))
        }
        summary.sum += sum.now
        summary.highest = max(summary.highest, highest.now)
    }
}

/// One or several histograms, read.
struct LatencySummary {
    var counts = InlineArray<224, UInt64>(repeating: 0)
    var sum: UInt64 = 0
    var highest: UInt64 = 0

    var count: UInt64 {
        var count: UInt64 = 0
        for bucket in 0..<Histogram.bucketCount { count += counts[bucket] }
        return count
    }

    func give(to latency: inout guestram_latency_t) {
        let count = self.count
        latency.count = count
        latency.sum_ns = sum
        latency.max_ns = highest
        latency.p50_ns = quantile(500, of: count)
        latency.p90_ns = quantile(900, of: count)
        latency.p99_ns = quantile(990, of: count)
        latency.p999_ns = quantile(999, of: count)
        withUnsafeMutableBytes(of: &latency.below) { bytes in
            let below = bytes.bindMemory(to: UInt64.self)
            var seen: UInt64 = 0
            for octave in 0..<Histogram.octaves {
                for step in 0..<Histogram.steps { seen += counts[octave * Histogram.steps + step] }
                below[octave] = seen
            }
        }
    }

    private func quantile(_ thousandths: UInt64, of count: UInt64) -> UInt64 {
        guard count > 0 else { return 0 }
        let rank = max(1, (count * thousandths + 999) / 1000)
        var seen: UInt64 = 0
        for bucket in 0..<Histogram.bucketCount {
            seen += counts[bucket]
            if seen >= rank { return min(Histogram.upperBound(of: bucket), highest) }
        }
        return highest
    }
}

/// All histograms of a memory, by number GUESTRAM_LATENCY_*, and behind them those of simple faults, by kind
/// and cause.
struct Latencies: ~Copyable, @unchecked Sendable {
    static let count = Int(GUESTRAM_LATENCY_FILL) + 1
    private static let kinds = GUESTRAM_LATENCY_MISSING...GUESTRAM_LATENCY_WP
    private static let total = count + 2 * kinds.count
    static let bytes =
        total * (Histogram.bucketCount * MemoryLayout<UInt32>.stride
            + MemoryLayout<Histogram>.stride)
    private let buckets: UnsafeMutablePointer<Atomic<UInt32>>
    private let histograms: UnsafeMutablePointer<Histogram>

    init() {
        buckets = .allocate(capacity: Self.total * Histogram.bucketCount)
        for index in 0..<Self.total * Histogram.bucketCount {
            (buckets + index).initialize(to: Atomic<UInt32>(0))
        }
        histograms = .allocate(capacity: Self.total)
        for index in 0..<Self.total {
            (histograms + index).initialize(
                to: Histogram(buckets + index * Histogram.bucketCount))
        }
    }

    deinit {
        histograms.deinitialize(count: Self.total)
        histograms.deallocate()
        buckets.deallocate()
    }

    @inline(__always)
    func record(_ which: Int, _ nanoseconds: UInt64) {
        histograms[which].record(nanoseconds)
    }

    /// A fault that had its turn at once and whose contents were in memory, or zero: all its time is the
    /// fill's. That is most, so it is recorded once instead of three times.
    @inline(__always)
    func recordSimple(_ kind: Int, zero: Bool, _ nanoseconds: UInt64) {
        histograms[Self.simple(kind, zero: zero)].record(nanoseconds)
    }

    @inline(__always)
    private static func simple(_ kind: Int, zero: Bool) -> Int {
        count &+ 2 &* (kind &- GUESTRAM_LATENCY_MISSING) &+ (zero ? 1 : 0)
    }

    /// GUESTRAM_LATENCY_ALL is not recorded: every fault is one of three kinds; and in
    /// GUESTRAM_LATENCY_QUEUE those that did not wait are missing.
    func summarize(_ which: Int, into latency: inout guestram_latency_t) {
        var summary = LatencySummary()
        switch which {
        case GUESTRAM_LATENCY_ALL: for kind in Self.kinds { add(kind, to: &summary) }
        case GUESTRAM_LATENCY_QUEUE:
            add(which, to: &summary)
            var all = LatencySummary()
            for kind in Self.kinds { add(kind, to: &all) }
            let waited = summary.count
            if all.count > waited { summary.counts[0] += all.count - waited }
        default: add(which, to: &summary)
        }
        summary.give(to: &latency)
    }

    private func add(_ which: Int, to summary: inout LatencySummary) {
        histograms[which].add(to: &summary)
        for kind in Self.kinds {
            let any = which == kind || which == GUESTRAM_LATENCY_FILL
            if any || which == GUESTRAM_LATENCY_HIT {
                histograms[Self.simple(kind, zero: false)].add(to: &summary)
            }
            if any || which == GUESTRAM_LATENCY_ZERO {
                histograms[Self.simple(kind, zero: true)].add(to: &summary)
            }
        }
    }
}
