import CLinux
import Synchronization

/// One thread of a pool with all it needs, made before it locks itself in.
struct PoolThread: ~Copyable {
    enum Role { case worker, filler }

    static let stack = 256 << 10
    static let batch = 16

    let pool: PoolPointer
    let role: Role
    var thread = pthread_t()
    var running = false
    var layers = SandboxLayers()

    /// Bytes on their way from a source.
    let staging: Mapping
    /// Messages of one read.
    let messages: UnsafeMutablePointer<cl_uffd_msg>

    /// A worker's.
    var asked: AskedFaults

    /// For the watchdog: since when this thread waits for a source (0: it does not), and for what.
    let waitingSince = Atomic<UInt64>(0)
    let waitingMemory = Atomic<Int>(-1)
    let waitingRegion = Atomic<UInt32>(0)
    let waitingOffset = Atomic<UInt64>(0)
    let waitingLength = Atomic<UInt64>(0)

    init(pool: PoolPointer, role: Role) throws(Errno) {
        self.pool = pool
        self.role = role
        staging = try Mapping(anonymous: Limits.staging)
        memset(staging.base, 0, Limits.staging)
        messages = .allocate(capacity: Self.batch)
        messages.initialize(repeating: cl_uffd_msg(), count: Self.batch)
        asked = AskedFaults()
    }

    deinit { messages.deallocate() }
}

/// The body of every worker and filler: lock in, tell, serve until the pool stops.
let poolThreadMain: @convention(c) (UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? = {
    argument in
    let thread = argument!.assumingMemoryBound(to: PoolThread.self)
    let pool = thread.pointee.pool
    switch thread.pointee.role {
    case .worker:
        _ = cl_thread_set_name("guestram/fault")
        _ = cl_thread_set_exact_timers()
    case .filler:
        _ = cl_thread_set_name("guestram/fill")
        // The background fill must not take a CPU that a demand fault could use.
        _ = cl_thread_set_nice(19)
    }
    thread.pointee.layers = pool.pointee.sandbox.enter()
    pool.pointee.ready.bump()
    switch thread.pointee.role {
    case .worker: Worker.run(thread)
    case .filler: Filler.run(thread)
    }
    return nil
}
