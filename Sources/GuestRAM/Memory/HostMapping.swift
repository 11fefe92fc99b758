import CLinux

/// Getting the memory of a planned region into this process: made here, or the caller's, checked.
enum HostMapping {
    /// Maps the region. Large mappings start at a 2 MiB boundary, so that the kernel and KVM can
    /// use huge pages.
    static func make(_ plan: borrowing RegionPlan) throws(Errno) -> UnsafeMutableRawPointer {
        let alignment = max(plan.granule, 2 << 20)
        let reserved = plan.length + alignment
        var area: UnsafeMutableRawPointer?
        var result = cl_mmap(
            &area, nil, Int(reserved), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        guard result == 0, let area else {
            throw fail(-result, "no address space for region \(plan.name) of \(plan.length) bytes")
        }
        let start = UInt64(UInt(bitPattern: area))
        let aligned = (start + alignment - 1) / alignment * alignment
        var base: UnsafeMutableRawPointer?
        let sharing = plan.file < 0 || plan.isPrivate ? MAP_PRIVATE : MAP_SHARED
        let reserve = plan.has(GUESTRAM_REGION_NORESERVE) ? MAP_NORESERVE : 0
        result = cl_mmap(
            &base, UnsafeMutableRawPointer(bitPattern: UInt(aligned)), Int(plan.length),
            PROT_READ | PROT_WRITE, sharing | reserve | MAP_FIXED | plan.type.mapFlags(plan),
            plan.file, off_t(plan.fileOffset))
        guard result == 0, let base else {
            _ = cl_munmap(area, Int(reserved))
            throw notMapped(plan, Errno(-result))
        }
        _ = cl_munmap(area, Int(aligned - start))
        _ = cl_munmap(
            UnsafeMutableRawPointer(bitPattern: UInt(aligned + plan.length)),
            Int(start + reserved - aligned - plan.length))
        return base
    }

    private static func notMapped(_ plan: borrowing RegionPlan, _ error: Errno) -> Errno {
        if plan.granule > 4096 && error.code == ENOMEM {
            return fail(
                ENOMEM,
                "region \(plan.name): not enough free huge pages of \(plan.granule) bytes for \(plan.length); raise nr_hugepages in /sys/kernel/mm/hugepages, or set GUESTRAM_REGION_NORESERVE"
            )
        }
        if plan.has(GUESTRAM_REGION_FD) {
            return fail(
                error.code,
                "fd of region \(plan.name) cannot be mapped for writing: \(error); open it O_RDWR and unsealed, or set GUESTRAM_REGION_PRIVATE"
            )
        }
        return fail(error.code, "region \(plan.name) of \(plan.length) bytes cannot be mapped: \(error)")
    }

    /// What every region gets: NUMA policy, no copy in a child, locking.
    static func advise(_ plan: borrowing RegionPlan, _ base: UnsafeMutableRawPointer) throws(Errno) {
        if plan.policy != UInt32(GUESTRAM_POLICY_DEFAULT) {
            var nodes = UInt(plan.hostNodes)
            // GUESTRAM_POLICY_* have the numbers of MPOL_*.
            let mode = Int32(plan.policy)
            let result = cl_mbind(base, Int(plan.length), mode, &nodes, 64, 0)
            guard result == 0 else {
                throw fail(
                    -result,
                    "host_nodes \(hex: plan.hostNodes), policy \(plan.policy): mbind answered \(Errno(-result)); see numactl --hardware"
                )
            }
        }
        if !plan.has(GUESTRAM_REGION_DOFORK) {
            _ = cl_madvise(base, Int(plan.length), MADV_DONTFORK)
        }
        if plan.has(GUESTRAM_REGION_LOCKED) {
            let result = cl_mlock_onfault(base, Int(plan.length))
            guard result == 0 else {
                throw fail(
                    -result,
                    "region \(plan.name) cannot be locked: \(Errno(-result)); raise RLIMIT_MEMLOCK or give CAP_IPC_LOCK"
                )
            }
        }
    }

    /// The caller's own mapping: wholly mapped, of the sharing and the file that was said, empty.
    static func check(_ plan: borrowing RegionPlan, _ base: UnsafeMutableRawPointer) throws(Errno) {
        let start = UInt64(UInt(bitPattern: base))
        let end = start + plan.length
        var file = cl_stat()
        if plan.file >= 0 { _ = cl_fstat(plan.file, &file) }
        var maps = try ProcessMaps()
        var covered = start
        while covered < end, let entry = maps.next() {
            guard entry.end > covered else { continue }
            guard entry.start <= covered else { break }
            try checkEntry(plan, entry, covered, file)
            covered = entry.end
        }
        guard covered >= end else {
            throw fail(
                EINVAL,
                "host_address \(hex: start) of region \(plan.name): nothing is mapped at \(hex: covered)")
        }
        try checkEmpty(plan.name, start, plan.length)
    }

    private static func checkEntry(
        _ plan: borrowing RegionPlan, _ entry: MapsEntry, _ address: UInt64, _ file: cl_stat
    ) throws(Errno) {
        let where_ = "host_address" as StaticString
        guard entry.isWritable else {
            throw fail(EINVAL, "\(where_) of region \(plan.name): \(hex: address) is mapped without PROT_WRITE")
        }
        let wantsShared = plan.file >= 0 && !plan.isPrivate
        guard entry.isShared == wantsShared else {
            throw fail(
                EINVAL,
                "\(where_) of region \(plan.name): \(hex: address) is mapped \(entry.isShared ? "MAP_SHARED" : "MAP_PRIVATE"); flags and fd say otherwise"
            )
        }
        if plan.file >= 0 {
            let start = UInt64(UInt(bitPattern: plan.hostAddress))
            guard entry.inode == file.ino,
                entry.offset &+ (address &- entry.start) == plan.fileOffset &+ (address &- start)
            else {
                throw fail(
                    EINVAL,
                    "\(where_) of region \(plan.name): \(hex: address) is not a mapping of fd at fd_offset")
            }
        } else if plan.granule > 4096 {
            guard entry.isAnonymousHuge else {
                throw fail(EINVAL, "\(where_) of region \(plan.name): \(hex: address) is not MAP_HUGETLB memory")
            }
        } else {
            guard entry.inode == 0, !entry.isSpecial else {
                throw fail(
                    EINVAL,
                    "\(where_) of region \(plan.name): \(hex: address) is not private anonymous memory of your own"
                )
            }
        }
    }

    /// A populated page would never fault, so what it should have held would never be brought.
    static func checkEmpty(
        _ name: borrowing RegionName, _ start: UInt64, _ length: UInt64
    ) throws(Errno) {
        let pagemap = try PageMapFile()
        if let populated = try pagemap.firstPopulated(start, length) {
            throw fail(
                EEXIST,
                "host_address of region \(name) is not empty: \(hex: populated) is populated already (touched, MAP_POPULATE, mlock) and would never fault; map it afresh"
            )
        }
    }

    /// A file that already holds data would give old bytes where a fill is expected.
    static func checkFileEmpty(_ plan: borrowing RegionPlan) throws(Errno) {
        guard plan.file >= 0, !plan.has(GUESTRAM_REGION_FILLED) else { return }
        // hugetlbfs says SEEK_DATA everywhere; no blocks at all is the same in every file system.
        var status = cl_stat()
        if cl_fstat(plan.file, &status) == 0, status.blocks == 0 { return }
        let data = cl_lseek(plan.file, off_t(plan.fileOffset), SEEK_DATA)
        guard data >= 0, UInt64(data) < plan.fileOffset + plan.length else { return }
        throw fail(
            EEXIST,
            "fd of region \(plan.name) holds data at offset \(data) already; set GUESTRAM_REGION_FILLED if that is the contents, or pass an empty file"
        )
    }
}
