import CLinux

/// Owns one file descriptor and closes it.
struct Descriptor: ~Copyable, Sendable {
    let raw: Int32

    /// Takes ownership.
    init(owning raw: Int32) { self.raw = raw }

    /// A duplicate of someone else's, close-on-exec.
    init(duplicating other: Int32) throws(Errno) {
        raw = try checked(cl_fcntl(other, F_DUPFD_CLOEXEC, 0))
    }

    deinit { _ = cl_close(raw) }
}
