import CLinux

/// A sentence written straight into this thread's error buffer: `fail(EINVAL, "length \(n) is …")`.
/// No String is made, so it works in Embedded mode and inside the sandbox without allocating.
struct ErrorText: ExpressibleByStringInterpolation {
    init(stringLiteral value: StaticString) {
        var interpolation = StringInterpolation(literalCapacity: 0, interpolationCount: 0)
        interpolation.appendLiteral(value)
    }

    init(stringInterpolation: StringInterpolation) {}

    struct StringInterpolation: StringInterpolationProtocol {
        private var text: TextBuffer

        init(literalCapacity: Int, interpolationCount: Int) {
            text = TextBuffer(cl_error_buffer(), capacity: Int(CL_ERROR_BUFFER_SIZE))
        }

        @inline(never)
        mutating func appendLiteral(_ literal: StaticString) { text.append(literal) }
        @inline(never)
        mutating func appendInterpolation(_ text: StaticString) { self.text.append(text) }
        @inline(never)
        mutating func appendInterpolation(_ number: some BinaryInteger) { text.append(number) }
        @inline(never)
        mutating func appendInterpolation(hex number: UInt64) { text.append(hex: number) }
        @inline(never)
        mutating func appendInterpolation(_ string: UnsafePointer<CChar>) { text.append(cString: string) }
        @inline(never)
        mutating func appendInterpolation(_ error: Errno) { text.append(error) }
        @inline(never)
        mutating func appendInterpolation(_ name: borrowing RegionName) { name.append(to: &text) }
    }
}

/// Appends text to a fixed C buffer, always NUL-terminated; what does not fit is cut. `wanted`
/// counts what the whole text has, as snprintf() does.
struct TextBuffer {
    private let buffer: UnsafeMutablePointer<CChar>?
    private let capacity: Int
    private(set) var wanted = 0

    init(_ buffer: UnsafeMutablePointer<CChar>?, capacity: Int) {
        self.buffer = capacity > 0 ? buffer : nil
        self.capacity = capacity
        self.buffer?[0] = 0
    }

    mutating func append(byte: UInt8) {
        if let buffer, wanted + 1 < capacity {
            buffer[wanted] = CChar(bitPattern: byte)
            buffer[wanted + 1] = 0
        }
        wanted += 1
    }

    @inline(never)
    mutating func append(_ text: StaticString) {
        for index in 0..<text.utf8CodeUnitCount { append(byte: text.utf8Start[index]) }
    }

    @inline(never)
    mutating func append(cString string: UnsafePointer<CChar>) {
        var next = string
        while next.pointee != 0 {
            append(byte: UInt8(bitPattern: next.pointee))
            next += 1
        }
    }

    mutating func append(_ error: Errno) {
        if let words = strerrordesc_np(error.code) {
            append(cString: words)
        } else {
            append("errno ")
            append(error.code)
        }
    }

    mutating func append(_ number: some BinaryInteger) {
        if number < 0 { append(byte: UInt8(ascii: "-")) }
        append(digits: UInt64(number.magnitude), radix: 10)
    }

    mutating func append(hex number: UInt64) {
        append("0x")
        append(digits: number, radix: 16)
    }

    private mutating func append(digits number: UInt64, radix: UInt64) {
        var divisor: UInt64 = 1
        while number / divisor >= radix { divisor *= radix }
        while divisor > 0 {
            let digit = UInt8(truncatingIfNeeded: number / divisor % radix)
            append(byte: digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10)
            divisor /= radix
        }
    }
}
