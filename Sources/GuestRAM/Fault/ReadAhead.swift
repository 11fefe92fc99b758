/// Whether to read messages again at once after serving some, or to wait for more first.
///
/// A thread that is woken on the worker's own CPU often runs at once, and has faulted again before the
/// fill returns: then a read at once spares the wait, a tenth of a fault. Where it finds nothing, as when
/// the thread runs on another CPU, it is in vain. So it is tried as long as it pays, and then ever more
/// rarely.
struct ReadAhead {
    /// Reads in a row before other memories have their turn.
    static let mostInARow = 64
    private static let longestPause = 15

    /// So many waits go by before the next try.
    private var pause = 0
    private var left = 0
    private var isTrying = false

    /// Asked once after each turn.
    mutating func isWorthATry() -> Bool {
        isTrying = left == 0
        if !isTrying { left &-= 1 }
        return isTrying
    }

    /// What became of a read, which may have been a try.
    mutating func found(_ something: Bool) {
        guard isTrying else { return }
        isTrying = false
        pause = something ? 0 : min(pause &* 2 &+ 1, Self.longestPause)
        left = pause
    }
}
