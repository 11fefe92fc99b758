import CLinux

/// The descriptor numbers that workers may use: an aligned block, so that the seccomp filter
/// compares with one mask. Every number is held from the start, by a placeholder on which all that
/// workers may do fails; so no descriptor that the VMM opens later can come to lie in the block.
///
/// Not locked: the API serializes its use.
struct DescriptorBlock: ~Copyable {
    static let largestCount: Int32 = 1024

    private enum Slot {
        case lost  // not ours (any more)
        case free  // the placeholder
        case used
    }

    let base: Int32
    let count: Int32
    /// An empty epoll instance: reading, writing and userfaultfd ioctls on it are errors, and it
    /// leads nowhere, as an open directory would.
    private let placeholder: Descriptor
    private var slots = InlineArray<1024, Slot>(repeating: .lost)

    /// count: a power of two, at most `largestCount`.
    init(count: Int32) throws(Errno) {
        let placeholder = Descriptor(owning: try checked(cl_epoll_create()))
        base = try Self.reserve(count, placeholder.raw)
        self.count = count
        self.placeholder = placeholder
        for index in 0..<Int(count) { slots[index] = .free }
    }

    /// The first aligned block of numbers that nobody has, filled with duplicates of `placeholder`.
    private static func reserve(_ count: Int32, _ placeholder: Int32) throws(Errno) -> Int32 {
        var base = count  // never 0...: standard streams are reopened by number
        var next = base
        while next < base + count {
            let got = cl_fcntl(placeholder, F_DUPFD_CLOEXEC, next)
            if got == next {
                next += 1
                continue
            }
            if got >= 0 { _ = cl_close(got) }
            for number in base..<next { _ = cl_close(number) }
            if got == -EINVAL || got == -EMFILE { throw exhausted(count) }
            guard got >= 0 else { throw Errno(-got) }
            // What lies between the two is taken: the first block that may be free begins behind it.
            base = (got + count - 1) / count * count
            next = base
        }
        return base
    }

    private static func exhausted(_ count: Int32) -> Errno {
        var limit = rlimit()
        _ = getrlimit(RLIMIT_NOFILE, &limit)
        return fail(
            EMFILE,
            "descriptors: no \(count) free numbers in a row below RLIMIT_NOFILE (\(limit.rlim_cur)); raise the limit (ulimit -n) or ask for fewer descriptors"
        )
    }

    /// A copy of `fd` in the block: its number, until release().
    mutating func place(_ fd: Int32) throws(Errno) -> Int32 {
        for index in 0..<Int(count) where slots[index] == .free {
            let number = base + Int32(index)
            let result = cl_dup3(fd, number, O_CLOEXEC)
            if result == -EBADF && cl_fcntl(fd, F_GETFD, 0) >= 0 {
                throw fail(
                    EMFILE,
                    "RLIMIT_NOFILE was lowered below \(number), the number of a descriptor of the pool; raise it again"
                )
            }
            _ = try checked(result)
            slots[index] = .used
            return number
        }
        throw fail(
            EMFILE,
            "all \(count) descriptors of the pool are in use (a memory uses one, each of its files and snapshots one more); create the pool with more `descriptors`"
        )
    }

    /// Closes the copy; the number stays reserved.
    mutating func release(_ number: Int32) {
        let index = Int(number - base)
        // Fails only if RLIMIT_NOFILE was lowered below the number: nobody can get it then.
        if cl_dup3(placeholder.raw, number, O_CLOEXEC) >= 0 {
            slots[index] = .free
        } else {
            _ = cl_close(number)
            slots[index] = .lost
        }
    }

    deinit {
        for index in 0..<Int(count) where slots[index] != .lost {
            _ = cl_close(base + Int32(index))
        }
    }
}
