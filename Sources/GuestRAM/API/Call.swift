import CLinux

/// The border to C: errors become -errno and a message, structs are read and written by their size.

/// Runs the body of a call. Whoever throws has written the message; where nobody did, the errno's
/// own words stand in. A call that succeeds leaves the last message alone.
@inline(__always)
func answer(_ body: () throws(Errno) -> Void) -> Int32 {
    let message = cl_error_buffer()!
    let first = message[0]
    message[0] = 0
    do throws(Errno) {
        try body()
        message[0] = first
        return 0
    } catch {
        if message[0] == 0 { _ = fail(error.code, "\(error)") }
        return -error.code
    }
}

func memory(_ handle: OpaquePointer?) throws(Errno) -> MemoryPointer {
    guard let handle else { throw fail(EINVAL, "memory is NULL") }
    return MemoryPointer(handle)
}

func pool(_ handle: OpaquePointer?) throws(Errno) -> PoolPointer {
    guard let handle else { throw fail(EINVAL, "pool is NULL") }
    return PoolPointer(handle)
}

/// An option struct of C: `size` first, only ever appended to. `blank` is all zero. A shorter one
/// of an older caller leaves the rest zero; what a longer one says beyond our knowledge must be zero.
func options<Options: BitwiseCopyable>(
    _ pointer: UnsafePointer<Options>?, _ blank: Options, _ name: StaticString
) throws(Errno) -> Options {
    guard let pointer else { return blank }
    let bytes = UnsafeRawPointer(pointer)
    let size = bytes.load(as: UInt.self)
    let known = MemoryLayout<Options>.size
    guard size <= mostBytes else {
        throw fail(E2BIG, "\(name)->size is \(size); set it to sizeof of the struct")
    }
    // One that ends inside a member is nobody's, and would make half a pointer.
    guard size > 0, size % 8 == 0 else {
        throw fail(EINVAL, "\(name)->size is \(size); set it to sizeof of the struct")
    }
    for index in min(known, Int(size))..<Int(size) where bytes.load(fromByteOffset: index, as: UInt8.self) != 0 {
        throw fail(
            E2BIG,
            "\(name)->size is \(size) and byte \(index) is set; this library knows \(known) bytes: it is older than the header"
        )
    }
    var result = blank
    withUnsafeMutableBytes(of: &result) { target in
        _ = memcpy(target.baseAddress!, bytes, min(known, Int(size)))
    }
    return result
}

/// No struct of ours will ever be longer: a larger size is garbage and is not read to its end.
private let mostBytes: UInt = 1 << 16

/// A text for the caller's buffer; NULL with length 0 asks for the length alone.
func giveText(
    _ text: UnsafeMutablePointer<CChar>?, _ length: Int, _ compose: (inout TextBuffer) -> Void
) -> Int32 {
    var wanted = 0
    let result = answer { () throws(Errno) in
        guard text != nil || length == 0 else {
            throw fail(EINVAL, "text is NULL, but length is \(length)")
        }
        var buffer = TextBuffer(text, capacity: length)
        compose(&buffer)
        wanted = buffer.wanted
    }
    return result < 0 ? result : Int32(wanted)
}

/// A result struct: as many bytes as both sides know, with the caller's `size` kept.
func give<Result: BitwiseCopyable>(
    _ result: Result, to pointer: UnsafeMutablePointer<Result>?, _ name: StaticString
) throws(Errno) {
    let size = try resultSize(pointer, name)
    let target = UnsafeMutableRawPointer(pointer!)
    withUnsafeBytes(of: result) { source in
        let skip = MemoryLayout<Int>.size
        let count = min(size, MemoryLayout<Result>.size) - skip
        if count > 0 { _ = memcpy(target + skip, source.baseAddress! + skip, count) }
    }
}

@discardableResult
func resultSize<Result: BitwiseCopyable>(
    _ pointer: UnsafeMutablePointer<Result>?, _ name: StaticString
) throws(Errno) -> Int {
    guard let pointer else { throw fail(EINVAL, "\(name) is NULL") }
    let size = UnsafeMutableRawPointer(pointer).load(as: UInt.self)
    guard size >= MemoryLayout<UInt>.size, size <= mostBytes else {
        throw fail(EINVAL, "\(name)->size is \(size); set it to sizeof of the struct")
    }
    return Int(size)
}
