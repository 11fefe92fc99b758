import CLinux
import Synchronization
import Testing

@testable import GuestRAM

@Suite struct HistogramTests {
    private static func summary(_ values: [UInt64]) -> guestram_latency_t {
        let latencies = Latencies()
        for value in values { latencies.record(GUESTRAM_LATENCY_MISSING, value) }
        var latency = guestram_latency_t()
        latencies.summarize(GUESTRAM_LATENCY_MISSING, into: &latency)
        return latency
    }

    @Test func aBucketHoldsItsValuesAndIsAnEighthOfAnOctaveWide() {
        var value: UInt64 = 64
        while value < 17_000_000_000 {
            let bucket = Histogram.bucket(of: value)
            let upper = Histogram.upperBound(of: bucket)
            let lower = bucket == 0 ? 64 : Histogram.upperBound(of: bucket - 1)
            #expect(lower <= value && value < upper)
            #expect((upper - lower) * 8 <= lower)
            value += value / 50 + 1
        }
    }

    @Test func bucketsFollowEachOther() {
        #expect(Histogram.bucket(of: 0) == 0)
        #expect(Histogram.bucket(of: 63) == 0)
        for bucket in 0..<Histogram.bucketCount - 1 {
            let upper = Histogram.upperBound(of: bucket)
            #expect(Histogram.bucket(of: upper - 1) == bucket)
            #expect(Histogram.bucket(of: upper) == bucket + 1)
        }
    }

    @Test func whatIsLongerThanTheLastBucketIsCountedThere() {
        #expect(Histogram.bucket(of: 1 << 40) == Histogram.bucketCount - 1)
        #expect(Histogram.bucket(of: .max) == Histogram.bucketCount - 1)
        #expect(Self.summary([1 << 40]).max_ns == 1 << 40)
    }

    @Test func quantilesAreTheUpperBoundsOfTheirBuckets() {
        let latency = Self.summary((1...1000).map { $0 * 1000 })
        #expect(latency.count == 1000)
        #expect(latency.sum_ns == 500_500_000)
        #expect(latency.max_ns == 1_000_000)
        for (given, exact) in [
            (latency.p50_ns, 500_000), (latency.p90_ns, 900_000), (latency.p99_ns, 990_000),
            (latency.p999_ns, 999_000),
        ] as [(UInt64, UInt64)] {
            #expect(given >= exact && given <= min(exact + exact / 8, latency.max_ns))
        }
    }

    @Test func aQuantileIsNeverAboveTheHighest() {
        let latency = Self.summary([1_000_000])
        #expect(latency.p50_ns == 1_000_000 && latency.p999_ns == 1_000_000)
    }

    @Test func oneSlowFaultOfAThousandIsTheP999AndNotTheP99() {
        let latency = Self.summary([UInt64](repeating: 1000, count: 998) + [5_000_000, 5_000_000])
        #expect(latency.p99_ns < 1200)
        #expect(latency.p999_ns == 5_000_000)
    }

    @Test func nothingIsNothing() {
        let latency = Self.summary([])
        #expect(latency.count == 0 && latency.p50_ns == 0 && latency.p999_ns == 0 && latency.max_ns == 0)
    }

    @Test func allIsTheSumOfTheKinds() {
        let latencies = Latencies()
        latencies.record(GUESTRAM_LATENCY_MISSING, 1000)
        latencies.record(GUESTRAM_LATENCY_MINOR, 2000)
        latencies.record(GUESTRAM_LATENCY_WP, 4000)
        latencies.record(GUESTRAM_LATENCY_FETCH, 1 << 30)
        var latency = guestram_latency_t()
        latencies.summarize(GUESTRAM_LATENCY_ALL, into: &latency)
        #expect(latency.count == 3 && latency.sum_ns == 7000 && latency.max_ns == 4000)
    }

    private static func both(_ latencies: borrowing Latencies, _ which: Int) -> (count: UInt64, sum: UInt64) {
        var latency = guestram_latency_t()
        latencies.summarize(which, into: &latency)
        return (latency.count, latency.sum_ns)
    }

    @Test func aSimpleFaultCountsAsItsKindAsItsCauseAndAsItsFill() {
        let latencies = Latencies()
        latencies.recordSimple(GUESTRAM_LATENCY_MINOR, zero: false, 1000)
        latencies.recordSimple(GUESTRAM_LATENCY_MISSING, zero: true, 2000)
        latencies.recordSimple(GUESTRAM_LATENCY_WP, zero: false, 4000)
        for (which, count, sum) in [
            (GUESTRAM_LATENCY_ALL, 3, 7000), (GUESTRAM_LATENCY_FILL, 3, 7000),
            (GUESTRAM_LATENCY_MISSING, 1, 2000), (GUESTRAM_LATENCY_MINOR, 1, 1000),
            (GUESTRAM_LATENCY_WP, 1, 4000), (GUESTRAM_LATENCY_HIT, 2, 5000),
            (GUESTRAM_LATENCY_ZERO, 1, 2000), (GUESTRAM_LATENCY_DISK, 0, 0),
            (GUESTRAM_LATENCY_FETCH, 0, 0), (GUESTRAM_LATENCY_QUEUE, 3, 0),
        ] as [(Int, UInt64, UInt64)] {
            #expect(Self.both(latencies, which) == (count, sum), "\(which)")
        }
    }
}
