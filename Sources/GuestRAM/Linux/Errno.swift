import CLinux

/// A positive errno value, thrown by everything that talks to the kernel.
struct Errno: Error, Equatable, Sendable {
    let code: Int32

    init(_ code: Int32) { self.code = code }

    /// From a wrapper of CLinux, whose failures are -errno.
    init(negated result: Int) { self.code = Int32(truncatingIfNeeded: -result) }
}

/// Passes a result of CLinux on, or throws its errno.
@inline(__always)
func checked(_ result: Int) throws(Errno) -> Int {
    guard result >= 0 else { throw Errno(negated: result) }
    return result
}

@inline(__always)
func checked(_ result: Int32) throws(Errno) -> Int32 {
    guard result >= 0 else { throw Errno(-result) }
    return result
}

/// Leaves the sentence that guestram_error() will give to this thread and makes the error to throw.
/// The one who knows most speaks: callers further out do not overwrite it, they pass it on.
@inline(never)
func fail(_ code: Int32, _ text: ErrorText) -> Errno {
    Errno(code)
}
