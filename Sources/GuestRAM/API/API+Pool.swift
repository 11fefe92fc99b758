import CLinux
import Synchronization

@c @implementation public func guestram_pool_create(
    _ options: UnsafePointer<guestram_pool_options_t>?,
    _ pool: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
    answer { () throws(Errno) in
        guard let pool else { throw fail(EINVAL, "pool is NULL") }
        let given = try GuestRAM.options(options, guestram_pool_options_t(), "options")
        pool.pointee = OpaquePointer(try PoolMaker.make(PoolOptions(given)))
    }
}

@c @implementation public func guestram_pool_destroy(_ pool: OpaquePointer?) -> Int32 {
    guard let handle = pool else { return 0 }
    return answer { () throws(Errno) in
        let pool = PoolPointer(handle)
        let users = pool.pointee.users.load(ordering: .acquiring)
        guard users == 0 else {
            throw fail(EBUSY, "pool: \(users) memories still use it; destroy them first")
        }
        PoolMaker.free(pool)
    }
}

@c @implementation public func guestram_sandbox_info(
    _ pool: OpaquePointer?, _ info: UnsafeMutablePointer<guestram_sandbox_info_t>?
) -> Int32 {
    answer { () throws(Errno) in
        let pool = try GuestRAM.pool(pool)
        var result = guestram_sandbox_info_t()
        result.mode = pool.pointee.options.sandbox
        result.layers = .max
        for index in 0..<pool.pointee.options.threads {
            result.layers &= pool.pointee.threads[index].layers.layers
            result.missing |= pool.pointee.threads[index].layers.missing
        }
        result.landlock_abi = UInt32(pool.pointee.sandbox.landlockABI)
        try give(result, to: info, "info")
    }
}

@c @implementation public func guestram_sandbox_text(
    _ text: UnsafeMutablePointer<CChar>?, _ length: Int
) -> Int32 {
    giveText(text, length) { sandboxText(into: &$0) }
}
