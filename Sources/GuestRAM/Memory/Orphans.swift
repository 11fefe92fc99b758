import CLinux

/// Address ranges that mremap() took out of a region. They stay registered with our userfaultfd,
/// and nobody knows their contents any more: what is absent there answers SIGBUS, never zeros.
struct Orphans: ~Copyable {
    private struct Range { var start: UInt64 = 0; var end: UInt64 = 0; var granule: UInt64 = 0 }

    private static let capacity = 32
    private var ranges = InlineArray<32, Range>(repeating: Range())
    private var count = 0
    /// One more than can be remembered: the userfaultfd must then outlive the memory. A thread that
    /// waits for ever is bad; one that reads zeros is worse.
    private(set) var isLost = false

    /// Under the event lock.
    mutating func add(_ start: UInt64, _ length: UInt64, granule: UInt64) {
        for index in 0..<count
        where ranges[index].granule == granule && ranges[index].end == start {
            ranges[index].end = start &+ length
            return
        }
        guard count < Self.capacity else {
            isLost = true
            return
        }
        ranges[count] = Range(start: start, end: start &+ length, granule: granule)
        count &+= 1
    }

    /// Unmapped, or moved on: no longer there. Under the event lock. Returns the granule of what was
    /// there, 0 if nothing.
    @discardableResult
    mutating func cut(_ start: UInt64, _ end: UInt64) -> UInt64 {
        var granule: UInt64 = 0
        var index = 0
        while index < count {
            let range = ranges[index]
            guard range.start < end, start < range.end else {
                index &+= 1
                continue
            }
            granule = range.granule
            count &-= 1
            ranges[index] = ranges[count]
            if range.start < start { add(range.start, start &- range.start, granule: granule) }
            if range.end > end { add(end, range.end &- end, granule: granule) }
            // What was added lies outside; what took this place is looked at next.
        }
        return granule
    }

    /// Serving ends: nothing of them may read zero once the registration is gone. False while an
    /// unread event stands in the way. Under the event lock.
    mutating func seal(_ userfault: Int32) -> Bool {
        while count > 0 {
            let range = ranges[count &- 1]
            var address = range.start
            while address < range.end {
                var done: UInt64 = 0
                let error = standardPoison(userfault, address, 0, range.end &- address, false, &done)
                address &+= done
                switch error {
                case 0: continue
                case EAGAIN:
                    ranges[count &- 1].start = address
                    if done == 0 { return false }
                case EINVAL, ENOTTY:
                    // No POISON (before Linux 6.6): no access at all is still better than zeros.
                    _ = cl_mprotect(
                        UnsafeMutableRawPointer(bitPattern: UInt(address)),
                        Int(range.end &- address), PROT_NONE)
                    address = range.end
                default: address &+= range.granule  // there already, or not mapped any more
                }
            }
            count &-= 1
        }
        return true
    }

    /// A fault at an address that belongs to no region. What was unregistered meanwhile takes no
    /// POISON; its thread is woken. Where the kernel has none it waits: woken, it would only fault
    /// again.
    static func answer(_ memory: MemoryPointer, _ address: UInt64) {
        guard memory.pointee.features & CL_UFFD_FEATURE_POISON != 0 else { return }
        let userfault = memory.pointee.workerUserfault
        var size: UInt64 = 4 << 10
        while size <= 1 << 30 {
            var done: UInt64 = 0
            if standardPoison(userfault, address & ~(size &- 1), 0, size, false, &done) == 0 {
                return
            }
            size <<= 9  // 4 KiB, 2 MiB, 1 GiB
        }
        wake(userfault, address & ~4095, 4096)
    }
}
