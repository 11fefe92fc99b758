import CLinux

/// Reads a manifest's text from front to back. What does not match is an error that names the line.
struct ManifestCursor {
    private let text: UnsafeRawBufferPointer
    private var position = 0
    private(set) var line = 1

    /// The text must outlive the cursor.
    init(_ text: UnsafeRawBufferPointer) { self.text = text }

    var isAtEnd: Bool { position == text.count }

    func starts(with literal: StaticString) -> Bool {
        let count = literal.utf8CodeUnitCount
        guard text.count - position >= count else { return false }
        return memcmp(text.baseAddress! + position, literal.utf8Start, count) == 0
    }

    mutating func expect(_ literal: StaticString) throws(Errno) {
        guard starts(with: literal) else {
            throw fail(
                EINVAL, "manifest line \(line), column \(column): \"\(literal)\" is expected here")
        }
        position += literal.utf8CodeUnitCount
    }

    mutating func endOfLine() throws(Errno) {
        guard starts(with: "\n") else {
            throw fail(
                EINVAL, "manifest line \(line), column \(column): the line should end here")
        }
        position += 1
        line += 1
    }

    /// A decimal number without leading zeros.
    mutating func decimal() throws(Errno) -> UInt64 {
        try number(radix: 10, digits: 1...20)
    }

    /// 0x and a hexadecimal number, in small letters and without leading zeros.
    mutating func hexadecimal() throws(Errno) -> UInt64 {
        try expect("0x")
        return try number(radix: 16, digits: 1...16)
    }

    /// 16 hexadecimal digits, in small letters.
    mutating func checksum() throws(Errno) -> UInt64 {
        try number(radix: 16, digits: 16...16)
    }

    mutating func name() throws(Errno) -> RegionName {
        let start = position
        while position < text.count, RegionName.isAllowed(text[position]) { position += 1 }
        guard let name = RegionName(UnsafeRawBufferPointer(rebasing: text[start..<position])) else {
            position = start
            throw fail(
                EINVAL,
                "manifest line \(line), column \(column): a name of 1 to 63 of [A-Za-z0-9._-] is expected here")
        }
        return name
    }

    private mutating func number(radix: UInt64, digits: ClosedRange<Int>) throws(Errno) -> UInt64 {
        let start = position
        var value: UInt64 = 0
        var fits = true
        while position < text.count, let digit = Self.digit(text[position]), digit < radix {
            let (product, overflow) = value.multipliedReportingOverflow(by: radix)
            let (sum, carry) = product.addingReportingOverflow(digit)
            fits = fits && !overflow && !carry
            value = sum
            position += 1
        }
        let count = position - start
        let hasLeadingZero = digits.lowerBound == 1 && count > 1 && text[start] == UInt8(ascii: "0")
        guard fits, digits.contains(count), !hasLeadingZero else {
            position = start
            throw fail(
                EINVAL,
                "manifest line \(line), column \(column): a number of at most 64 bits, radix \(radix), is expected here, with \(digits.lowerBound) to \(digits.upperBound) digits and no zeros in front")
        }
        return value
    }

    private static func digit(_ byte: UInt8) -> UInt64? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt64(byte - UInt8(ascii: "0"))
        case UInt8(ascii: "a")...UInt8(ascii: "f"): UInt64(byte - UInt8(ascii: "a") + 10)
        default: nil
        }
    }

    private var column: Int {
        var start = position
        while start > 0, text[start - 1] != UInt8(ascii: "\n") { start -= 1 }
        return position - start + 1
    }
}
