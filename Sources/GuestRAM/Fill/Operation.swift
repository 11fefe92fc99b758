import CLinux

/// What can be done to a range to make it present, or to change how it is. An address is where the
/// bytes, or for move the pages, come from.
enum Operation {
    case copy(from: UInt64)
    case zeropage
    case `continue`
    case poison
    case move(from: UInt64)
    case writeprotect(Bool)
}

/// One ioctl of one operation on a userfaultfd: 0 or an errno. `done` receives the bytes done, also
/// with EAGAIN (a partial result); it is 0 after every other error. `source` is an address or, for
/// writeprotect, 0 or 1. `protect` asks that the pages arrive write-protected.
/// A C function pointer: calling through it neither retains nor allocates.
typealias FillEntry =
    @convention(c) (
        _ userfault: Int32, _ target: UInt64, _ source: UInt64, _ length: UInt64, _ protect: Bool,
        _ done: UnsafeMutablePointer<UInt64>
    ) -> Int32

/// The result field is written before the call: with EINVAL and ESRCH the kernel leaves it alone,
/// and a negative one is an errno, never a count.
@inline(__always)
private func settle(
    _ result: Int32, _ field: Int64, _ done: UnsafeMutablePointer<UInt64>
) -> Int32 {
    done.pointee = field > 0 ? UInt64(field) : 0
    return result < 0 ? -result : 0
}

let standardCopy: FillEntry = { userfault, target, source, length, protect, done in
    var arguments = uffdio_copy()
    arguments.dst = target
    arguments.src = source
    arguments.len = length
    arguments.mode = protect ? CL_UFFDIO_COPY_MODE_WP : 0
    let result = cl_ioctl(userfault, CL_UFFDIO_COPY, &arguments)
    return settle(result, arguments.copy, done)
}

/// The kernel has no write-protect mode here: zeros that must arrive protected are copied instead.
let standardZeropage: FillEntry = { userfault, target, _, length, _, done in
    var arguments = uffdio_zeropage()
    arguments.range.start = target
    arguments.range.len = length
    let result = cl_ioctl(userfault, CL_UFFDIO_ZEROPAGE, &arguments)
    return settle(result, arguments.zeropage, done)
}

let standardContinue: FillEntry = { userfault, target, _, length, protect, done in
    var arguments = uffdio_continue()
    arguments.range.start = target
    arguments.range.len = length
    arguments.mode = protect ? CL_UFFDIO_CONTINUE_MODE_WP : 0
    let result = cl_ioctl(userfault, CL_UFFDIO_CONTINUE, &arguments)
    return settle(result, arguments.mapped, done)
}

let standardPoison: FillEntry = { userfault, target, _, length, _, done in
    var arguments = uffdio_poison()
    arguments.range.start = target
    arguments.range.len = length
    let result = cl_ioctl(userfault, CL_UFFDIO_POISON, &arguments)
    return settle(result, arguments.updated, done)
}

let standardMove: FillEntry = { userfault, target, source, length, _, done in
    var arguments = uffdio_move()
    arguments.dst = target
    arguments.src = source
    arguments.len = length
    let result = cl_ioctl(userfault, CL_UFFDIO_MOVE, &arguments)
    return settle(result, arguments.move, done)
}

/// Has no result field: all of the range is done or, after an error, nobody knows how much.
let standardWriteprotect: FillEntry = { userfault, target, source, length, _, done in
    var arguments = uffdio_writeprotect()
    arguments.range.start = target
    arguments.range.len = length
    arguments.mode = source != 0 ? CL_UFFDIO_WRITEPROTECT_MODE_WP : 0
    let result = cl_ioctl(userfault, CL_UFFDIO_WRITEPROTECT, &arguments)
    return settle(result, result == 0 ? Int64(length) : 0, done)
}
