import CLinux
import Synchronization

typealias MemoryPointer = UnsafeMutablePointer<Memory>

/// One VM's RAM: what a guestram_t points to.
///
/// Two locks. `configuration` orders the calls that change it and may be held across I/O; no worker
/// ever takes it. `events` is held over [non-blocking read of messages + applying the events in
/// them] and over [checking page states again + the fill ioctl, at most 64 pages], never over a
/// wait: without it a page fetched before a balloon's discard would land after it. Who fills
/// granules that it has claimed may share it with others who do; all else needs it alone.
struct Memory: ~Copyable {
    enum Phase { static let fresh = 0, serving = 1, stopped = 2 }

    let configuration = Lock()
    let events = SharedLock()
    let options: MemoryOptions

    // Under `configuration`.
    var slots = SlotTable()
    var lastID: UInt32 = 0
    var pool: PoolPointer?
    var ownsPool = false
    /// Its place in the pool's table.
    var poolIndex = -1
    var restored = false

    // Opened when the first region is registered.
    var userfault: Int32 = -1
    var features: UInt64 = 0
    /// The userfaultfd as the workers know it.
    var workerUserfault: Int32 = -1

    // Under `events`.
    var regions = RegionTable()
    /// Faults put off because an event stands in their way: the range that holds them all. They are
    /// tried again by waking it: whoever waits there faults anew, so nothing can be forgotten.
    var deferredStart: UInt64 = .max
    var deferredEnd: UInt64 = 0
    var deferredSince: UInt64 = 0
    var residentSent = false
    var orphans = Orphans()

    // The leader's.
    var readsOn = ReadsOn()
    /// Reading on for a moment, where faults overlap.
    var lingers = Trial(longestPause: 63)
    /// Asking the disk for bytes and going on meanwhile, instead of waiting for them.
    var asks = Trial(longestPause: 1023)
    /// Above 0: lately several faults came at a time, or while bytes were being fetched for others.
    var overlapping = 0
    /// What the disk mostly needs, in nanoseconds.
    var diskLatency: UInt64 = 50_000

    let phase = Atomic<Int>(Phase.fresh)
    /// Threads of the pool that hold this memory right now.
    let users = Atomic<Int>(0)
    /// A leader serves demand faults right now: the background fill makes way.
    let leaderServes = Atomic<Bool>(false)
    /// Demand faults for which bytes are being fetched, likewise.
    let demand = Atomic<Int>(0)
    /// When the last of them was read, in nanoseconds.
    let lastDemand = Atomic<UInt64>(0)
    /// So many reads shall take one message each.
    let oneByOne = Atomic<Int>(0)
    /// Bytes per second for the background fill; 0 is paused.
    let fillRate = Atomic<UInt64>(0)
    /// When the background fill may bring the next piece.
    let fillDue = Atomic<UInt64>(0)
    /// Some granule was given up and poisoned.
    let unreadable = Atomic<Bool>(false)
    /// Counts up with every change that guestram_wait_resident() waits for.
    let progress = FutexWord()

    var queue: EventQueue
    let statistics = Statistics()
    var requests = PrefetchQueue()

    init(_ options: MemoryOptions) throws(Errno) {
        self.options = options
        queue = try EventQueue()
    }

    deinit {
        if userfault >= 0 { _ = cl_close(userfault) }
    }

    var isServing: Bool { phase.load(ordering: .acquiring) == Phase.serving }
}

/// guestram_options_t, checked.
struct MemoryOptions {
    let onError: UInt32
    let retries: UInt32
    let stallNanoseconds: UInt64
    /// Largest fault window in bytes.
    let window: UInt64

    init(_ options: guestram_options_t) throws(Errno) {
        guard options.flags == 0 else {
            throw fail(EINVAL, "flags \(hex: UInt64(options.flags)): none are known")
        }
        guard options.on_error <= UInt32(GUESTRAM_ON_ERROR_ASK) else {
            throw fail(EINVAL, "on_error \(options.on_error) is none of GUESTRAM_ON_ERROR_*")
        }
        guard options.retries <= 100 else {
            throw fail(EINVAL, "retries \(options.retries) is more than 100")
        }
        let window = options.window == 0 ? Limits.window : options.window
        guard window >= 4096, window <= Limits.window, window & (window - 1) == 0 else {
            throw fail(EINVAL, "window \(window) is not a power of two from 4096 to \(Limits.window)")
        }
        onError = options.on_error
        retries = options.retries == 0 ? 3 : options.retries
        stallNanoseconds = UInt64(options.stall_ms == 0 ? 1000 : options.stall_ms) * 1_000_000
        self.window = window
    }
}

/// Ranges asked for by guestram_prefetch(), in order. Under the event lock.
struct PrefetchQueue: ~Copyable {
    static let capacity = 64
    struct Request { var region: UInt32 = 0; var first = 0; var end = 0 }
    private var entries = InlineArray<64, Request>(repeating: Request())
    private var head = 0
    private(set) var count = 0

    mutating func push(_ request: Request) -> Bool {
        guard count < Self.capacity else { return false }
        entries[(head + count) % Self.capacity] = request
        count += 1
        return true
    }

    /// Cuts at most `granules` off the oldest request.
    mutating func take(_ granules: Int) -> Request? {
        guard count > 0 else { return nil }
        var piece = entries[head]
        if piece.end - piece.first > granules {
            piece.end = piece.first + granules
            entries[head].first = piece.end
        } else {
            head = (head + 1) % Self.capacity
            count -= 1
        }
        return piece
    }
}
