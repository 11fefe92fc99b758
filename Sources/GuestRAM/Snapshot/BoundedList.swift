import CLinux

/// Room for at most `capacity` values, which takes memory only page by page as it is used: the
/// bounds of a snapshot are small, so nothing ever grows or moves.
struct BoundedList<Element: BitwiseCopyable>: ~Copyable {
    let capacity: Int
    private(set) var count = 0
    private let storage: Mapping

    init(capacity: Int) throws(Errno) {
        self.capacity = capacity
        do throws(Errno) {
            storage = try Mapping(anonymous: capacity * MemoryLayout<Element>.stride)
        } catch {
            throw fail(error.code, "the lists of a snapshot: \(error)")
        }
    }

    private var base: UnsafeMutablePointer<Element> {
        storage.base.assumingMemoryBound(to: Element.self)
    }

    /// Valid while the list lives.
    var elements: UnsafeBufferPointer<Element> { UnsafeBufferPointer(start: base, count: count) }

    var isFull: Bool { count == capacity }

    subscript(index: Int) -> Element {
        get {
            precondition(index >= 0 && index < count)
            return base[index]
        }
        set {
            precondition(index >= 0 && index < count)
            base[index] = newValue
        }
    }

    mutating func append(_ element: Element) {
        precondition(!isFull)
        (base + count).initialize(to: element)
        count += 1
    }
}
