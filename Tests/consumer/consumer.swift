@_silgen_name("guestram_version") func guestram_version() -> UInt32

@main
struct Consumer {
    static func main() {
        // Allocates and retains through the runtime that is not the archive's.
        let words = (0..<3).map { "\($0): \(guestram_version())" }
        print(words.joined(separator: " "))
    }
}
