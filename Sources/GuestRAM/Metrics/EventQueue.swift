import CLinux
import Synchronization

/// What the VMM is told. A bounded ring with a lock of its own that is held for a few stores only,
/// and an eventfd that is readable while the ring is not empty.
struct EventQueue: ~Copyable {
    static let capacity = 256

    struct Entry {
        var type: UInt32
        var region: UInt32 = 0
        var offset: UInt64 = 0
        var length: UInt64 = 0
        var error: Int32 = 0
        var dropped: UInt32 = 0
    }

    let descriptor: Descriptor
    /// The eventfd as the workers know it.
    var workerDescriptor: Int32 = -1
    private let lock = Lock()
    private let entries: UnsafeMutablePointer<Entry>
    private var head = 0
    private var count = 0
    private var lost: UInt32 = 0
    let lostInAll = Atomic<UInt64>(0)

    init() throws(Errno) {
        let raw = cl_eventfd(0, CL_EFD_CLOEXEC | CL_EFD_NONBLOCK)
        guard raw >= 0 else { throw fail(-raw, "no eventfd: \(Errno(-raw))") }
        descriptor = Descriptor(owning: raw)
        entries = .allocate(capacity: Self.capacity)
    }

    deinit { entries.deallocate() }

    /// From any thread. `signal` is the descriptor that this thread may write: the workers' or ours.
    mutating func push(_ entry: Entry, signal: Int32) {
        lock.lock()
        defer { lock.unlock() }
        if count > 0, merge(entry, into: (head + count - 1) % Self.capacity) { return }
        guard count < Self.capacity else {
            lost &+= 1
            lostInAll.countAlone()
            return
        }
        var entry = entry
        entry.dropped = lost
        lost = 0
        entries[(head + count) % Self.capacity] = entry
        count += 1
        if count == 1 {
            var one: UInt64 = 1
            _ = cl_write(signal, &one, 8)
        }
    }

    /// Page errors of neighbouring ranges are one event.
    private func merge(_ entry: Entry, into index: Int) -> Bool {
        let last = entries[index]
        guard entry.type == UInt32(GUESTRAM_EVENT_PAGE_ERROR), last.type == entry.type,
            last.region == entry.region, last.error == entry.error
        else { return false }
        if last.offset + last.length == entry.offset {
            entries[index].length += entry.length
            return true
        }
        if entry.offset + entry.length == last.offset {
            entries[index].offset = entry.offset
            entries[index].length += entry.length
            return true
        }
        return false
    }

    mutating func pop() -> Entry? {
        lock.lock()
        defer { lock.unlock() }
        guard count > 0 else { return nil }
        let entry = entries[head]
        head = (head + 1) % Self.capacity
        count -= 1
        if count == 0 {
            var drained: UInt64 = 0
            _ = cl_read(descriptor.raw, &drained, 8)
        }
        return entry
    }
}
