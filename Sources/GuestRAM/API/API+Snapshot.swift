import CLinux

@c @implementation public func guestram_save(
    _ memory: OpaquePointer?, _ directory: UnsafePointer<CChar>?,
    _ options: UnsafePointer<guestram_save_options_t>?
) -> Int32 {
    answer { () throws(Errno) in
        let memory = try GuestRAM.memory(memory)
        guard let directory else { throw fail(EINVAL, "directory is NULL") }
        let given = try GuestRAM.options(options, guestram_save_options_t(), "options")
        guard given.flags == 0, given.reserved == 0 else {
            throw fail(EINVAL, "flags \(hex: UInt64(given.flags)): none are known; reserved must be 0")
        }
        guard given.state != nil || given.state_length == 0 else {
            throw fail(EINVAL, "state is NULL, but state_length is \(given.state_length)")
        }
        guard given.state_length <= 1 << 30 else {
            throw fail(EINVAL, "state_length \(given.state_length) is more than 1 GiB")
        }
        try memory.pointee.configuration.locked { () throws(Errno) in
            try Save.run(
                memory, directory,
                state: UnsafeRawBufferPointer(start: given.state, count: Int(given.state_length)))
        }
    }
}

private typealias SnapshotPointer = UnsafeMutablePointer<OpenedSnapshot>

private func snapshot(_ handle: OpaquePointer?) throws(Errno) -> SnapshotPointer {
    guard let handle else { throw fail(EINVAL, "snapshot is NULL") }
    return SnapshotPointer(handle)
}

@c @implementation public func guestram_snapshot_open(
    _ directory: UnsafePointer<CChar>?, _ snapshot: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
    answer { () throws(Errno) in
        guard let directory else { throw fail(EINVAL, "directory is NULL") }
        guard let snapshot else { throw fail(EINVAL, "snapshot is NULL") }
        let opened = try OpenedSnapshot.open(directory)
        let pointer = SnapshotPointer.allocate(capacity: 1)
        pointer.initialize(to: opened)
        snapshot.pointee = OpaquePointer(pointer)
    }
}

@c @implementation public func guestram_snapshot_close(_ snapshot: OpaquePointer?) {
    guard let snapshot else { return }
    let pointer = SnapshotPointer(snapshot)
    pointer.deinitialize(count: 1)
    pointer.deallocate()
}

@c @implementation public func guestram_snapshot_state(
    _ snapshot: OpaquePointer?, _ state: UnsafeMutablePointer<UnsafeRawPointer?>?,
    _ length: UnsafeMutablePointer<Int>?
) -> Int32 {
    answer { () throws(Errno) in
        let snapshot = try GuestRAM.snapshot(snapshot)
        guard let state else { throw fail(EINVAL, "state is NULL") }
        guard let length else { throw fail(EINVAL, "length is NULL") }
        state.pointee = snapshot.pointee.state.baseAddress
        length.pointee = snapshot.pointee.state.count
    }
}

@c @implementation public func guestram_snapshot_region(
    _ snapshot: OpaquePointer?, _ index: UInt32,
    _ region: UnsafeMutablePointer<guestram_snapshot_region_t>?
) -> Int32 {
    answer { () throws(Errno) in
        let snapshot = try GuestRAM.snapshot(snapshot)
        try resultSize(region, "region")
        let regions = snapshot.pointee.regions
        guard index < regions.count else {
            throw fail(ENOENT, "index \(index): the snapshot has \(regions.count) regions")
        }
        let saved = regions[Int(index)]
        var result = guestram_snapshot_region_t()
        withUnsafeMutableBytes(of: &result.name) { saved.name.copy(to: $0.baseAddress!) }
        result.type = saved.type
        result.flags = saved.isPrivate ? UInt32(GUESTRAM_REGION_PRIVATE) : 0
        result.length = saved.length
        result.page_size = saved.pageSize
        result.file_offset = saved.fileOffset
        result.data = saved.dataBytes
        try give(result, to: region, "region")
    }
}

@c @implementation public func guestram_restore(
    _ memory: OpaquePointer?, _ snapshot: OpaquePointer?,
    _ options: UnsafePointer<guestram_restore_options_t>?
) -> Int32 {
    answer { () throws(Errno) in
        let memory = try GuestRAM.memory(memory)
        let snapshot = try GuestRAM.snapshot(snapshot)
        let given = try GuestRAM.options(options, guestram_restore_options_t(), "options")
        guard given.mode <= UInt32(GUESTRAM_RESTORE_EAGER) else {
            throw fail(EINVAL, "mode \(given.mode) is none of GUESTRAM_RESTORE_*")
        }
        let verify = UInt32(GUESTRAM_RESTORE_VERIFY)
        guard given.flags & ~verify == 0 else {
            throw fail(
                EINVAL, "flags \(hex: UInt64(given.flags)): only GUESTRAM_RESTORE_VERIFY is known")
        }
        try memory.pointee.configuration.locked { () throws(Errno) in
            try Restore.run(
                memory, snapshot.pointee, eager: given.mode == UInt32(GUESTRAM_RESTORE_EAGER),
                verify: given.flags & verify != 0)
        }
    }
}
