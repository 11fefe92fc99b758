import CLinux
import Synchronization

/// A fault whose bytes the disk was asked for: its granules are claimed, its region is pinned, its memory
/// is held.
struct AskedFault {
    var bring: Bring
    let window: Range<Int>
    let flags: UInt64
    /// As a Turn has them.
    let read: UInt64
    let start: UInt64
    fileprivate var asked: UInt64 = 0
    /// When it is looked whether the bytes are there.
    fileprivate var next: UInt64 = 0
    fileprivate var wasTried = false

    init(bring: Bring, window: Range<Int>, flags: UInt64, read: UInt64, start: UInt64) {
        self.bring = bring
        self.window = window
        self.flags = flags
        self.read = read
        self.start = start
    }
}

/// The faults for which a worker has asked the disk and not waited: as the leader it serves others
/// meanwhile, and their reads are under way at the same time, with no thread to be woken for each.
///
/// The kernel tells nobody that a page has come, so it is looked for when it should be there by what
/// earlier ones took, then in steps of a quarter. What does not come is waited for, by the thread, which
/// passes the lead on before.
struct AskedFaults: ~Copyable, @unchecked Sendable {
    private static let capacity = 16
    static let bytes = capacity * MemoryLayout<AskedFault>.stride
    /// A read that takes longer is waited for, in nanoseconds.
    private static let patience: UInt64 = 20_000_000
    private static let leastLatency: UInt64 = 5_000
    private static let mostLatency: UInt64 = 5_000_000

    private let faults: UnsafeMutablePointer<AskedFault>
    private var count = 0

    init() { faults = .allocate(capacity: Self.capacity) }
    deinit { faults.deallocate() }

    var isEmpty: Bool { count == 0 }
    var isFull: Bool { count == Self.capacity }

    /// Nanoseconds until one should be looked for; none is left: -1.
    var wait: Int64 {
        guard count > 0 else { return -1 }
        var next = UInt64.max
        for index in 0..<count { next = min(next, faults[index].next) }
        let now = cl_now_ns()
        return next > now ? Int64(next &- now) : 0
    }

    /// Of a memory that the thread holds, which is held once more.
    mutating func add(_ fault: AskedFault) {
        let memory = fault.bring.memory
        memory.pointee.users.wrappingAdd(1, ordering: .relaxed)
        (faults + count).initialize(to: fault)
        faults[count].asked = cl_now_ns()
        faults[count].next = faults[count].asked &+ memory.pointee.diskLatency
        count &+= 1
    }

    private mutating func remove(_ index: Int) -> AskedFault {
        let fault = faults[index]
        count &-= 1
        for place in index..<count { faults[place] = faults[place &+ 1] }
        return fault
    }

    /// Serves those whose bytes have come. True when the lead was passed on.
    static func serveArrived(_ thread: UnsafeMutablePointer<PoolThread>, _ pool: PoolPointer) -> Bool {
        var index = 0
        while index < thread.pointee.asked.count {
            let now = cl_now_ns()
            let fault = thread.pointee.asked.faults[index]
            guard fault.next <= now else {
                index &+= 1
                continue
            }
            let fetched = fault.bring.fetchAtOnce()
            if fetched.bytes == 0 && fetched.error == EAGAIN && now &- fault.asked < patience {
                thread.pointee.asked.postpone(index, now)
                index &+= 1
                continue
            }
            let memory = fault.bring.memory
            memory.pointee.asks.found(fetched.bytes > 0)
            if !fault.wasTried {
                memory.pointee.diskLatency = max(
                    leastLatency, memory.pointee.diskLatency &- memory.pointee.diskLatency / 32)
            }
            if serve(thread, pool, thread.pointee.asked.remove(index), fetched, hasPassedLead: false) {
                return true
            }
        }
        return false
    }

    /// After the lead was passed on.
    static func serveAll(_ thread: UnsafeMutablePointer<PoolThread>, _ pool: PoolPointer) {
        while !thread.pointee.asked.isEmpty {
            let fault = thread.pointee.asked.remove(0)
            _ = serve(thread, pool, fault, fault.bring.fetchAtOnce(), hasPassedLead: true)
        }
    }

    private static func serve(
        _ thread: UnsafeMutablePointer<PoolThread>, _ pool: PoolPointer, _ fault: AskedFault,
        _ fetched: Fetched, hasPassedLead: Bool
    ) -> Bool {
        var turn = Turn(thread, pool, fault, hasPassedLead: hasPassedLead)
        turn.serve(fault, fetched)
        pool.pointee.drop(fault.bring.memory)
        return turn.hasPassedLead
    }

    private mutating func postpone(_ index: Int, _ now: UInt64) {
        let memory = faults[index].bring.memory
        let latency = memory.pointee.diskLatency
        if !faults[index].wasTried {
            faults[index].wasTried = true
            memory.pointee.diskLatency = min(Self.mostLatency, latency &+ latency / 32)
        }
        faults[index].next = now &+ max(latency, now &- faults[index].asked) / 4
    }
}
