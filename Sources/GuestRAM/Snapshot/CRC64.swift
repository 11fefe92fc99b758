/// CRC-64/XZ (ECMA-182, reflected): the check of xz files. It finds damage of any kind that storage
/// does, in a few lines and without a library; it is no proof against somebody who forges a file,
/// which is why nothing that was checked by it is trusted. Eight bytes a step: a state of 10 MiB
/// takes some milliseconds of a restore.
struct CRC64: ~Copyable {
    private static let polynomial: UInt64 = 0xc96c_5795_d787_0f42

    /// tables[256 * n + b]: the remainder of byte b followed by n zero bytes.
    private var tables = InlineArray<2048, UInt64>(repeating: 0)
    private var remainder = ~UInt64(0)

    init() {
        for index in 0..<256 {
            var remainder = UInt64(index)
            for _ in 0..<8 { remainder = Self.timesX(remainder) }
            tables[index] = remainder
        }
        for index in 256..<2048 {
            let shorter = tables[index - 256]
            tables[index] = tables[Int(shorter & 0xff)] ^ shorter >> 8
        }
    }

    /// Of all that was added.
    var value: UInt64 { ~remainder }

    mutating func add(_ bytes: UnsafeRawBufferPointer) {
        var position = 0
        while bytes.count - position >= 8 {
            let word = bytes.loadUnaligned(fromByteOffset: position, as: UInt64.self)
            remainder ^= UInt64(littleEndian: word)
            var next: UInt64 = 0
            for byte in 0..<8 {
                next ^= tables[256 * (7 - byte) + Int(remainder >> UInt64(8 * byte) & 0xff)]
            }
            remainder = next
            position += 8
        }
        while position < bytes.count {
            remainder = tables[Int((remainder ^ UInt64(bytes[position])) & 0xff)] ^ remainder >> 8
            position += 1
        }
    }

    /// As many zero bytes, however many: a hole of a file costs no time. They multiply the remainder
    /// by x to the power of eight times their number.
    mutating func add(zeros count: UInt64) {
        var square: UInt64 = 1 << 55 // x^8; the highest bit is x^0
        var left = count
        while left > 0 {
            if left & 1 != 0 { remainder = Self.product(remainder, square) }
            square = Self.product(square, square)
            left >>= 1
        }
    }

    private static func timesX(_ a: UInt64) -> UInt64 { a & 1 == 0 ? a >> 1 : a >> 1 ^ polynomial }

    private static func product(_ a: UInt64, _ b: UInt64) -> UInt64 {
        var sum: UInt64 = 0
        var power = b
        for bit in stride(from: UInt64(63), through: 0, by: -1) {
            if a >> bit & 1 != 0 { sum ^= power }
            power = timesX(power)
        }
        return sum
    }
}

func crc64(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
    var crc = CRC64()
    crc.add(bytes)
    return crc.value
}
