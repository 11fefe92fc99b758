import CLinux

/// Tying regions to the memory's userfaultfd, and letting them go without anybody left waiting or
/// given zeros.
enum Registration {
    /// Opens the memory's userfaultfd unless that has been done.
    static func open(_ memory: MemoryPointer) throws(Errno) {
        guard memory.pointee.userfault < 0 else { return }
        let opened = try Userfault.open()
        // The descriptor outlives the ~Copyable answer: the memory owns the duplicate.
        memory.pointee.userfault = try checked(
            cl_fcntl(opened.descriptor.raw, F_DUPFD_CLOEXEC, 0))
        memory.pointee.features = opened.features
        // The first region to be registered may come while the memory is being served.
        if memory.pointee.poolIndex >= 0 { try memory.pointee.pool!.pointee.watch(memory) }
    }

    /// Registers the region with what its type needs. EOPNOTSUPP where this kernel does not take
    /// memory of the type.
    static func register(_ memory: MemoryPointer, _ region: RegionPointer) throws(Errno) {
        try open(memory)
        if region.pointee.flags & UInt32(GUESTRAM_REGION_DOFORK) != 0 {
            try checkChildren(memory.pointee.features)
        }
        var modes = region.pointee.type.modes
        if region.pointee.flags & UInt32(GUESTRAM_REGION_USERFAULT) != 0,
            canWriteProtect(memory.pointee.features, region.pointee.type)
        {
            modes |= CL_UFFDIO_REGISTER_MODE_WP
        }
        var arguments = uffdio_register()
        arguments.range.start = region.pointee.address
        arguments.range.len = region.pointee.length
        arguments.mode = modes
        let result = cl_ioctl(memory.pointee.userfault, CL_UFFDIO_REGISTER, &arguments)
        guard result == 0 else {
            throw fail(
                result == -EINVAL ? EOPNOTSUPP : -result,
                "UFFDIO_REGISTER of region \(region.pointee.name) (\(region.pointee.type.name)): \(Errno(-result))"
            )
        }
        let operations = region.pointee.type.operations & Self.operations(arguments.ioctls)
        guard bringsContents(operations) else {
            unregister(memory.pointee.userfault, region)
            throw fail(
                EOPNOTSUPP,
                "this kernel offers neither COPY nor CONTINUE for \(region.pointee.type.name) memory")
        }
        memory.pointee.events.locked {
            region.pointee.modes = modes
            region.pointee.operations =
                modes & CL_UFFDIO_REGISTER_MODE_WP != 0
                ? operations : operations & ~(1 << UInt32(GUESTRAM_OP_WRITEPROTECT))
            region.pointee.userfault = memory.pointee.workerUserfault >= 0
                ? memory.pointee.workerUserfault : memory.pointee.userfault
        }
    }

    /// A child is told of by an event, and its absent pages are poisoned.
    private static func checkChildren(_ features: UInt64) throws(Errno) {
        guard features & CL_UFFD_FEATURE_EVENT_FORK == 0 || features & CL_UFFD_FEATURE_POISON == 0
        else { return }
        let forks = features & CL_UFFD_FEATURE_EVENT_FORK != 0
        throw fail(
            forks ? EOPNOTSUPP : EPERM,
            "flags: GUESTRAM_REGION_DOFORK needs \(forks ? "UFFDIO_POISON (Linux 6.6)" : "CAP_SYS_PTRACE"), or a child would read zeros where pages are absent"
        )
    }

    static func canWriteProtect(_ features: UInt64, _ type: MemoryType) -> Bool {
        guard type.writeprotect != nil else { return false }
        let needed =
            type.hasFile
            ? CL_UFFD_FEATURE_WP_HUGETLBFS_SHMEM : CL_UFFD_FEATURE_PAGEFAULT_FLAG_WP
        return features & needed != 0
    }

    private static func bringsContents(_ operations: UInt32) -> Bool {
        operations & (1 << UInt32(GUESTRAM_OP_COPY) | 1 << UInt32(GUESTRAM_OP_CONTINUE)) != 0
    }

    /// The kernel's bits for a range, as 1 << GUESTRAM_OP_*.
    static func operations(_ ioctls: UInt64) -> UInt32 {
        func bit(_ kernel: UInt64, _ ours: Int) -> UInt32 {
            ioctls & kernel != 0 ? 1 << UInt32(ours) : 0
        }
        return bit(CL_UFFDIO_BIT_COPY, GUESTRAM_OP_COPY)
            | bit(CL_UFFDIO_BIT_ZEROPAGE, GUESTRAM_OP_ZEROPAGE)
            | bit(CL_UFFDIO_BIT_CONTINUE, GUESTRAM_OP_CONTINUE)
            | bit(CL_UFFDIO_BIT_POISON, GUESTRAM_OP_POISON)
            | bit(CL_UFFDIO_BIT_MOVE, GUESTRAM_OP_MOVE)
            | bit(CL_UFFDIO_BIT_WRITEPROTECT, GUESTRAM_OP_WRITEPROTECT)
    }

    /// For threads that do not hold the event lock, under which a worker may unregister the region.
    static func isRegistered(_ memory: MemoryPointer, _ region: RegionPointer) -> Bool {
        memory.pointee.events.locked { region.pointee.isRegistered }
    }

    /// All is there: faults cost nothing from now on. Under the event lock. What is still `zero` is
    /// left to the kernel, which gives zeros; from here on only the memory itself knows.
    static func release(_ region: RegionPointer) {
        guard region.pointee.isRegistered, unregister(region.pointee.userfault, region) else { return }
        region.pointee.pages.presentZeros()
    }

    /// Serving ends: granules that are not there are made to answer SIGBUS, then the region is
    /// unregistered. UNREGISTER alone would give zeros to whoever waits, and wakes MISSING only.
    /// Takes the event lock itself, in pieces. What the library itself will unmap next is sealed in
    /// large runs, over what reads zero as well.
    static func seal(_ memory: MemoryPointer, _ region: RegionPointer, unmapping: Bool = false) {
        guard isRegistered(memory, region) else { return }
        // Where nothing of its own is mapped, the file's contents would show.
        let showsOldFile = region.pointee.isPrivate && region.pointee.file >= 0
        var granule = 0
        while granule < region.pointee.count {
            memory.pointee.events.lock()
            let end = min(region.pointee.count, granule + (unmapping ? 4096 : Limits.pagesPerHold))
            while granule < end {
                let state = region.pointee.pages.state(granule)
                if state == PageState.zero && showsOldFile && !unmapping {
                    granule = sealZeros(memory, region, granule, before: end)
                    continue
                }
                guard state <= PageState.filling else {
                    granule += 1
                    continue
                }
                let run = unfilledRun(region, from: granule, before: end, withZeros: unmapping)
                sealRun(region, granule..<run)
                granule = run
            }
            memory.pointee.events.unlock()
        }
        memory.pointee.events.locked {
            unregister(region.pointee.userfault, region)
            region.pointee.pages.presentZeros()
        }
    }

    private static func unfilledRun(
        _ region: RegionPointer, from first: Int, before end: Int, withZeros: Bool
    ) -> Int {
        var granule = first
        while granule < end {
            let state = region.pointee.pages.state(granule)
            guard state <= PageState.filling || (withZeros && state == PageState.zero) else { break }
            granule += 1
        }
        return granule
    }

    private static func sealZeros(
        _ memory: MemoryPointer, _ region: RegionPointer, _ first: Int, before end: Int
    ) -> Int {
        let run = Window.run(
            region, first, in: first..<end, of: PageState.zero, limit: Limits.pagesPerHold)
        switch deliverZeros(memory.pointee.statistics, region, run) {
        case .done: break
        case .again(let stopped), .failed(let stopped, _):
            sealRun(region, stopped..<run.upperBound)
        }
        return run.upperBound
    }

    private static func sealRun(_ region: RegionPointer, _ run: Range<Int>) {
        if poison(region, run) == run.upperBound { return }
        // No POISON (before Linux 6.6, guest_memfd): no access at all is still better than zeros.
        let start = region.pointee.address + region.pointee.offset(of: run.lowerBound)
        let length = UInt64(run.count) << region.pointee.granuleShift
        if cl_mprotect(UnsafeMutableRawPointer(bitPattern: UInt(start)), Int(length), PROT_NONE) < 0 {
            // More mappings than a process may have: then the whole region, what is present too.
            let base = UnsafeMutableRawPointer(bitPattern: UInt(region.pointee.address))
            _ = cl_mprotect(base, Int(region.pointee.length), PROT_NONE)
        }
        for granule in run { _ = region.pointee.pages.settle(granule, to: PageState.poisoned) }
    }

    /// False where the kernel has no memory to split or merge its mappings: then it stays as it is.
    @discardableResult
    private static func unregister(_ userfault: Int32, _ region: RegionPointer) -> Bool {
        var start = 0
        while let part = region.pointee.part(from: start) {
            var range = uffdio_range(
                start: region.pointee.address + region.pointee.offset(of: part.lowerBound),
                len: region.pointee.offset(of: part.count))
            guard cl_ioctl(userfault, CL_UFFDIO_UNREGISTER, &range) != -ENOMEM else { return false }
            start = part.upperBound
        }
        wake(userfault, region.pointee.address, region.pointee.length)
        region.pointee.userfault = -1
        region.pointee.modes = 0
        region.pointee.operations = 0
        return true
    }
}
