/// Something that is worth doing as long as it pays: after each failure it is left out for twice as many
/// times, after a success it is done every time again.
struct Trial {
    private let longestPause: Int
    private var pause = 0
    private var left = 0

    init(longestPause: Int) { self.longestPause = longestPause }

    mutating func isDue() -> Bool {
        guard left > 0 else { return true }
        left &-= 1
        return false
    }

    mutating func found(_ success: Bool) {
        pause = success ? 0 : min(pause &* 2 &+ 1, longestPause)
        left = pause
    }
}
