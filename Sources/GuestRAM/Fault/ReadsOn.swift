/// Whether to read messages again before waiting for them. A thread that is woken on the worker's own CPU often
/// runs at once, inside the fill's ioctl, and has faulted again before that returns. Such a fill took
/// several times as long as one that nobody interrupted.
struct ReadsOn {
    /// An uninterrupted fill, in nanoseconds.
    private var quickest = UInt64.max

    mutating func pays(after took: UInt64) -> Bool {
        quickest = min(quickest, took)
        return took / 2 > quickest
    }

    /// What pays() found long was not interrupted: fills take longer than they did.
    mutating func wasInVain() { quickest &+= quickest / 8 &+ 1 }
}
