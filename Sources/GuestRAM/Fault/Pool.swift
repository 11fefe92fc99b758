import CLinux
import Synchronization

typealias PoolPointer = UnsafeMutablePointer<Pool>

/// Worker threads that serve the faults of several memories: what a guestram_pool_t points to.
///
/// One worker at a time leads: it waits for messages and serves them one after the other. It passes
/// the lead on (`baton`) only before work that may block or take long, so that a warm pool runs as
/// one thread at full speed and a cold one reads in parallel.
struct Pool: ~Copyable {
    static let capacity = 1024

    let options: PoolOptions
    let sandbox: PreparedSandbox
    let baton = Lock()
    let stopping = Atomic<Bool>(false)
    /// Memories made to use this pool, served or not.
    let users = Atomic<Int>(0)
    /// Memories with faults put off; while above 0 nobody sleeps without a limit.
    let deferred = Atomic<Int>(0)
    /// Bumped and woken when fillers have something to look for.
    let fillWord = FutexWord()
    /// Threads that have entered the sandbox or failed to.
    let ready = FutexWord()

    /// Under `registry`: the descriptors set aside and the table of memories. Held for a few
    /// stores by workers, and never across a wait by anyone.
    let registry = Lock()
    var block: DescriptorBlock
    private let table: UnsafeMutablePointer<MemoryPointer?>
    /// One above the highest place in use. Only grows.
    let tableEnd = Atomic<Int>(0)

    private var waitSet: WaitSet
    private let stopEvent: Descriptor
    var stopDescriptor: Int32 { stopEvent.raw }

    /// A forked child's userfaultfd on its way from a worker to the steward.
    private let forkEvent: Descriptor
    let forkWorkerDescriptor: Int32
    let forkChild = Atomic<Int>(-1)
    let forkMemory = Atomic<Int>(0)
    let forkDone = FutexWord()
    var forkDescriptor: Int32 { forkEvent.raw }

    /// First the workers, then the fillers.
    let threads: UnsafeMutablePointer<PoolThread>
    var firstFiller: UnsafeMutablePointer<PoolThread> { threads + options.workers }
    private(set) var started = 0
    var steward = pthread_t()
    var stewardStarted = false

    init(_ options: PoolOptions) throws(Errno) {
        var block = try DescriptorBlock(count: Int32(options.descriptors))
        let stopEvent = Descriptor(
            owning: try ofPool(cl_eventfd(0, CL_EFD_CLOEXEC | CL_EFD_NONBLOCK)))
        let forkEvent = Descriptor(
            owning: try ofPool(cl_eventfd(0, CL_EFD_CLOEXEC | CL_EFD_NONBLOCK)))
        let waitSet = try WaitSet(&block)
        let forkWorkerDescriptor = try block.place(forkEvent.raw)
        sandbox = try PreparedSandbox(
            SandboxRequest(
                mode: Int(options.sandbox),
                descriptors: DescriptorRange(base: block.base, count: block.count)))
        self.options = options
        self.block = block
        self.stopEvent = stopEvent
        self.forkEvent = forkEvent
        self.waitSet = waitSet
        self.forkWorkerDescriptor = forkWorkerDescriptor
        table = .allocate(capacity: Self.capacity)
        table.initialize(repeating: nil, count: Self.capacity)
        threads = .allocate(capacity: options.threads)
    }

    deinit {
        threads.deinitialize(count: started)
        threads.deallocate()
        table.deallocate()
    }

    // MARK: Threads

    /// Starts all threads and waits until each is locked in.
    static func start(_ pool: PoolPointer) throws(Errno) {
        let count = pool.pointee.options.threads
        for index in 0..<count {
            let role: PoolThread.Role = index < pool.pointee.options.workers ? .worker : .filler
            (pool.pointee.threads + index).initialize(
                to: try PoolThread(pool: pool, role: role))
            pool.pointee.started += 1
            let result = cl_thread_start(
                &pool.pointee.threads[index].thread, poolThreadMain, pool.pointee.threads + index,
                PoolThread.stack)
            guard result == 0 else {
                throw fail(-result, "a worker thread cannot be started: \(Errno(-result))")
            }
            pool.pointee.threads[index].running = true
        }
        waitUntilReady(pool, count)
        for index in 0..<count { try pool.pointee.threads[index].layers.check() }
        let result = cl_thread_start(&pool.pointee.steward, stewardMain, pool, PoolThread.stack)
        guard result == 0 else {
            throw fail(-result, "the watchdog thread cannot be started: \(Errno(-result))")
        }
        pool.pointee.stewardStarted = true
        waitUntilReady(pool, count + 1)
    }

    /// Waits until so many threads have said that they are ready.
    private static func waitUntilReady(_ pool: PoolPointer, _ count: Int) {
        while true {
            let ready = pool.pointee.ready.now
            if ready == UInt32(count) { return }
            pool.pointee.ready.wait(while: ready, -1)
        }
    }

    /// Ends and joins all threads. No memory is attached any more.
    static func stop(_ pool: PoolPointer) {
        pool.pointee.stopping.store(true, ordering: .sequentiallyConsistent)
        var one: UInt64 = 1
        _ = cl_write(pool.pointee.stopEvent.raw, &one, 8)
        pool.pointee.waitSet.ring()
        pool.pointee.fillWord.bump()
        for index in 0..<pool.pointee.started where pool.pointee.threads[index].running {
            _ = cl_thread_join(pool.pointee.threads[index].thread)
        }
        if pool.pointee.stewardStarted { _ = cl_thread_join(pool.pointee.steward) }
        for index in 0..<pool.pointee.started {
            let listener = pool.pointee.threads[index].layers.listener
            if listener >= 0 { _ = cl_close(listener) }
        }
    }

    /// Bytes of its own: staging and message buffers, tables. Thread stacks are the kernel's to give
    /// page by page.
    var ownMemory: Int {
        MemoryLayout<Pool>.stride + Self.capacity * MemoryLayout<MemoryPointer?>.stride
            + options.threads * (MemoryLayout<PoolThread>.stride + Limits.staging
                + PoolThread.batch * MemoryLayout<cl_uffd_msg>.stride + AskedFaults.bytes)
    }

    // MARK: Memories

    /// Gives the memory a place in the table. Its faults are served from watch() on.
    mutating func attach(_ memory: MemoryPointer) throws(Errno) {
        registry.lock()
        defer { registry.unlock() }
        var index = 0
        while index < Self.capacity, table[index] != nil { index += 1 }
        guard index < Self.capacity else {
            throw fail(EMFILE, "the pool serves \(Self.capacity) memories already")
        }
        memory.pointee.queue.workerDescriptor = try block.place(
            memory.pointee.queue.descriptor.raw)
        memory.pointee.poolIndex = index
        table[index] = memory
        tableEnd.store(max(tableEnd.load(ordering: .relaxed), index + 1), ordering: .releasing)
    }

    /// Has the leader wait on the memory's userfaultfd: from here on its faults are served.
    mutating func watch(_ memory: MemoryPointer) throws(Errno) {
        guard memory.pointee.userfault >= 0, memory.pointee.workerUserfault < 0 else { return }
        registry.lock()
        defer { registry.unlock() }
        let userfault = try block.place(memory.pointee.userfault)
        memory.pointee.events.locked {
            memory.pointee.workerUserfault = userfault
            for place in 0..<memory.pointee.regions.count
            where memory.pointee.regions[place].pointee.isRegistered {
                memory.pointee.regions[place].pointee.userfault = userfault
            }
        }
        try waitSet.add(userfault, memory.pointee.poolIndex)
    }

    /// A memory that has messages, held until drop(); nil when the time (nanoseconds; negative: no limit) is up,
    /// and when there is something else to look at. The leader's.
    func wait(_ timeout: Int64) -> MemoryPointer? {
        guard let single = holdSingle() else { return hold(waitSet.waitForAny(timeout)) }
        if waitSet.waitForSingle(single.pointee.workerUserfault, timeout) { return single }
        drop(single)
        return nil
    }

    /// Without the lock where there is no single one. Should one come just now, the bell rings.
    private func holdSingle() -> MemoryPointer? {
        guard waitSet.singlePlace.load(ordering: .relaxed) >= 0 else { return nil }
        registry.lock()
        defer { registry.unlock() }
        return held(waitSet.singlePlace.load(ordering: .relaxed))
    }

    /// Takes the memory out and waits until no thread of the pool holds it.
    static func detach(_ pool: PoolPointer, _ memory: MemoryPointer) {
        pool.pointee.registry.lock()
        pool.pointee.table[memory.pointee.poolIndex] = nil
        if memory.pointee.workerUserfault >= 0 {
            pool.pointee.waitSet.remove(memory.pointee.workerUserfault, memory.pointee.poolIndex)
        }
        pool.pointee.registry.unlock()
        while memory.pointee.users.load(ordering: .acquiring) != 0 { _ = cl_sleep_ns(50_000) }
        pool.pointee.registry.lock()
        if memory.pointee.workerUserfault >= 0 {
            pool.pointee.block.release(memory.pointee.workerUserfault)
        }
        pool.pointee.block.release(memory.pointee.queue.workerDescriptor)
        pool.pointee.registry.unlock()
        memory.pointee.workerUserfault = -1
        memory.pointee.queue.workerDescriptor = -1
        memory.pointee.poolIndex = -1
    }

    /// The memory at a place of the table, held until drop(); nil where there is none.
    @inline(__always)
    func hold(_ index: Int) -> MemoryPointer? {
        registry.lock()
        defer { registry.unlock() }
        return held(index)
    }

    @inline(__always)
    private func held(_ index: Int) -> MemoryPointer? {
        guard index >= 0, index < Self.capacity, let memory = table[index] else { return nil }
        memory.pointee.users.wrappingAdd(1, ordering: .acquiring)
        return memory
    }

    @inline(__always)
    func drop(_ memory: MemoryPointer) {
        memory.pointee.users.wrappingSubtract(1, ordering: .releasing)
    }

    /// A copy of the descriptor that the workers may use; -1 stays -1.
    mutating func lend(_ descriptor: Int32) throws(Errno) -> Int32 {
        guard descriptor >= 0 else { return -1 }
        registry.lock()
        defer { registry.unlock() }
        return try block.place(descriptor)
    }

    mutating func takeBack(_ number: Int32) {
        guard number >= 0 else { return }
        registry.lock()
        block.release(number)
        registry.unlock()
    }
}

/// A descriptor that the pool needs for itself.
func ofPool(_ result: Int32) throws(Errno) -> Int32 {
    guard result >= 0 else {
        throw fail(
            -result,
            "a pool needs descriptors of its own: \(Errno(-result)); raise RLIMIT_NOFILE (ulimit -n) or close some"
        )
    }
    return result
}

/// guestram_pool_options_t, checked.
struct PoolOptions {
    let workers: Int
    let fillers: Int
    let sandbox: UInt32
    let descriptors: UInt32

    var threads: Int { workers + fillers }

    init(_ options: guestram_pool_options_t) throws(Errno) {
        guard options.workers <= 16 else {
            throw fail(EINVAL, "workers \(options.workers) is more than 16")
        }
        guard options.fillers <= 16 else {
            throw fail(EINVAL, "fillers \(options.fillers) is more than 16")
        }
        guard options.sandbox <= UInt32(GUESTRAM_SANDBOX_OFF) else {
            throw fail(EINVAL, "sandbox \(options.sandbox) is none of GUESTRAM_SANDBOX_*")
        }
        let descriptors = options.descriptors == 0 ? 64 : options.descriptors
        guard descriptors >= 16, descriptors <= 1024, descriptors & (descriptors - 1) == 0 else {
            throw fail(EINVAL, "descriptors \(descriptors) is not a power of two from 16 to 1024")
        }
        // Warm, one works whatever their number; cold, each waits for a read of its own.
        workers = options.workers == 0 ? 4 : Int(options.workers)
        fillers = options.fillers == 0 ? min(workers, 2) : Int(options.fillers)
        sandbox = options.sandbox
        self.descriptors = descriptors
    }
}
