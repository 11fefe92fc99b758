import CLinux

/// A region's name: 1 to 63 of [A-Za-z0-9._-], NUL-terminated.
struct RegionName: Sendable {
    static let capacity = 64
    private var bytes = InlineArray<64, UInt8>(repeating: 0)
    private(set) var length = 0

    /// nil if the text is not such a name.
    init?(_ text: UnsafePointer<CChar>) {
        self.init(UnsafeRawBufferPointer(start: text, count: strlen(text)))
    }

    init?(_ text: UnsafeRawBufferPointer) {
        guard !text.isEmpty, text.count < Self.capacity else { return nil }
        for byte in text {
            guard Self.isAllowed(byte) else { return nil }
            bytes[length] = byte
            length += 1
        }
    }

    static func isAllowed(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"),
            UInt8(ascii: "-"):
            true
        default: false
        }
    }

    func equals(_ other: borrowing RegionName) -> Bool {
        guard length == other.length else { return false }
        for index in 0..<length where bytes[index] != other.bytes[index] { return false }
        return true
    }

    func append(to text: inout TextBuffer) {
        for index in 0..<length { text.append(byte: bytes[index]) }
    }

    /// Into a `char[64]` of the public header.
    func copy(to destination: UnsafeMutableRawPointer) {
        for index in 0..<Self.capacity {
            destination.storeBytes(of: bytes[index], toByteOffset: index, as: UInt8.self)
        }
    }
}
