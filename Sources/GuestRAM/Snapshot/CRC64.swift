/// CRC-64/XZ (ECMA-182, reflected): the check of xz files. It finds damage of any kind that storage
/// does, in a few lines and without a library; it is no proof against somebody who forges a file,
/// which is why nothing that was checked by it is trusted. Eight bytes a step: a state of 10 MiB
/// takes some milliseconds of a restore.
func crc64(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
    // tables[256 * n + b]: the remainder of byte b followed by n zero bytes.
    var tables = InlineArray<2048, UInt64>(repeating: 0)
    for index in 0..<256 {
        var remainder = UInt64(index)
        for _ in 0..<8 {
            remainder = remainder & 1 == 0 ? remainder >> 1 : remainder >> 1 ^ 0xc96c_5795_d787_0f42
        }
        tables[index] = remainder
    }
    for index in 256..<2048 {
        let shorter = tables[index - 256]
        tables[index] = tables[Int(shorter & 0xff)] ^ shorter >> 8
    }

    var remainder = ~UInt64(0)
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
    return ~remainder
}
