import CLinux
import Synchronization

/// Making a region of a plan, and giving it contents. Everything here runs under the memory's
/// configuration lock.
enum RegionMaker {
    static func make(_ plan: consuming RegionPlan, id: UInt32) throws(Errno) -> RegionPointer {
        var plan = plan
        do throws(Errno) {
            return try build(&plan, id: id)
        } catch {
            if plan.file >= 0 { _ = cl_close(plan.file) }
            throw error
        }
    }

    private static func build(_ plan: inout RegionPlan, id: UInt32) throws(Errno) -> RegionPointer {
        if plan.has(GUESTRAM_REGION_FD) {
            try HostMapping.checkFileEmpty(plan)
        } else {
            plan.file = try plan.type.makeFile(plan)
            if plan.file >= 0 && !plan.type.needsVM {
                let result = cl_ftruncate(plan.file, off_t(plan.length))
                guard result == 0 else {
                    throw fail(-result, "region \(plan.name) of \(plan.length) bytes: \(Errno(-result))")
                }
            }
        }
        let pages = try PageMap(count: Int(plan.length / plan.granule))
        let host: UnsafeMutableRawPointer
        if let address = plan.hostAddress {
            try HostMapping.check(plan, address)
            host = address
        } else {
            host = try HostMapping.make(plan)
        }
        do throws(Errno) {
            try HostMapping.advise(plan, host)
        } catch {
            if plan.hostAddress == nil { _ = cl_munmap(host, Int(plan.length)) }
            throw error
        }
        // Until something is restored into it, the kernel alone knows what is there.
        pages.fill(0..<pages.count, with: PageState.present)
        let region = RegionPointer.allocate(capacity: 1)
        region.initialize(
            to: Region(
                id: id, name: plan.name, type: plan.type, flags: plan.flags, length: plan.length,
                granule: plan.granule, granuleShift: UInt64(plan.granule.trailingZeroBitCount),
                file: plan.file, fileOffset: plan.fileOffset, host: host,
                ownsMapping: plan.hostAddress == nil, alias: nil,
                address: UInt64(UInt(bitPattern: host)), pages: pages))
        return region
    }

    static func free(_ region: RegionPointer) {
        region.deinitialize(count: 1)
        region.deallocate()
    }

    /// Makes a new region ready to be served, if its flags ask for that.
    static func serveByFlags(_ memory: MemoryPointer, _ region: RegionPointer) throws(Errno) {
        let filled = region.pointee.flags & UInt32(GUESTRAM_REGION_FILLED) != 0
        guard filled || region.pointee.flags & UInt32(GUESTRAM_REGION_USERFAULT) != 0 else { return }
        region.pointee.pages.fill(0..<region.pointee.count, with: PageState.zero)
        if filled {
            region.pointee.source = .ownFile
            memory.pointee.restored = true
            try markData(region, of: region.pointee.file, from: region.pointee.fileOffset)
        }
        do throws(Errno) {
            try prepareLazy(memory, region)
        } catch {
            // Contents that are there already need nobody, where the kernel maps them by itself.
            guard error.code == EOPNOTSUPP, filled,
                region.pointee.flags & UInt32(GUESTRAM_REGION_USERFAULT) == 0
            else { throw error }
            region.pointee.pages.fill(0..<region.pointee.count, with: PageState.present)
            region.pointee.absent.store(0, ordering: .releasing)
            region.pointee.why = "this kernel takes no faults on it; the file's contents are mapped as they are"
        }
    }

    /// Gives a fresh region a snapshot's contents: data is absent, holes are zero.
    static func attach(
        _ memory: MemoryPointer, _ region: RegionPointer, _ snapshot: borrowing OpenedSnapshot,
        offset: UInt64, eager: Bool, verify: Bool
    ) throws(Errno) {
        guard region.pointee.source.kind == .none, !region.pointee.isRegistered
            || region.pointee.flags & UInt32(GUESTRAM_REGION_USERFAULT) != 0
        else {
            throw fail(EBUSY, "region \(region.pointee.name) has contents already; restore into a fresh one")
        }
        try HostMapping.checkEmpty(
            region.pointee.name, region.pointee.address, region.pointee.length)
        region.pointee.source = try .file(snapshot.memory.raw, offset: offset)
        // All is read into the mapping first; a registered one would fault, with nobody to serve.
        if eager { memory.pointee.events.locked { Registration.release(region) } }
        region.pointee.pages.fill(0..<region.pointee.count, with: PageState.zero)
        try markData(region, of: snapshot.memory.raw, from: offset)
        if verify {
            switch snapshot.checksums {
            case .some(let file): try attachChecksums(region, file, from: offset)
            case .none: break
            }
        }
        if eager {
            region.pointee.fill = UInt32(GUESTRAM_FILL_EAGER)
            region.pointee.why = "the restore was asked to be eager"
            return
        }
        do throws(Errno) {
            try prepareLazy(memory, region)
        } catch {
            guard error.code == EOPNOTSUPP else { throw error }
            region.pointee.fill = UInt32(GUESTRAM_FILL_EAGER)
            region.pointee.why = "this kernel takes no faults on it, so all is read before the run"
        }
    }

    /// Takes a restored region back to what it was, before anything was served.
    static func detach(_ memory: MemoryPointer, _ region: RegionPointer) {
        guard region.pointee.source.kind == .file else { return }
        region.pointee.source.close()
        region.pointee.source = .none
        region.pointee.sourceMap?.deinitialize(count: 1)
        region.pointee.sourceMap?.deallocate()
        region.pointee.sourceMap = nil
        let userfault = region.pointee.flags & UInt32(GUESTRAM_REGION_USERFAULT) != 0
        if !userfault { memory.pointee.events.locked { Registration.release(region) } }
        region.pointee.pages.fill(
            0..<region.pointee.count, with: userfault ? PageState.zero : PageState.present)
        region.pointee.absent.store(0, ordering: .releasing)
        region.pointee.fill = UInt32(GUESTRAM_FILL_NONE)
    }

    private static func prepareLazy(
        _ memory: MemoryPointer, _ region: RegionPointer
    ) throws(Errno) {
        try mapHelpers(region)
        if !region.pointee.isRegistered { try Registration.register(memory, region) }
        region.pointee.fill = UInt32(GUESTRAM_FILL_LAZY)
        region.pointee.why =
            region.pointee.type.continue != nil
            ? "userfaultfd takes MISSING and MINOR faults on it" : "userfaultfd takes MISSING faults on it"
    }

    /// What filling will need besides a staging buffer, mapped now because a worker may not.
    static func mapHelpers(_ region: RegionPointer) throws(Errno) {
        let length = Int(region.pointee.length)
        let granule = region.pointee.granule
        if region.pointee.zeros == nil {
            region.pointee.zeros = try map(
                Int(granule), PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
            // Of the kernel's shared zero page: no memory of our own.
            _ = cl_madvise(region.pointee.zeros, Int(granule), CL_MADV_POPULATE_READ)
        }
        // Neither hugetlbfs nor guest_memfd takes pwrite().
        let needsAlias = region.pointee.file >= 0 && !region.pointee.isPrivate
            && (granule > 4096 || region.pointee.type.copy == nil)
        if needsAlias && region.pointee.alias == nil {
            region.pointee.alias = try map(
                length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, region.pointee.file,
                region.pointee.fileOffset)
            _ = cl_madvise(region.pointee.alias, length, MADV_DONTFORK)
        }
        // What is verified is read first, into a buffer where it fits one.
        let fromMap = region.pointee.source.checksums == nil || granule > UInt64(Limits.staging)
        if region.pointee.source.kind == .file && region.pointee.type.copy != nil
            && region.pointee.sourceMap == nil && fromMap
        {
            let map = UnsafeMutablePointer<SourceMap>.allocate(capacity: 1)
            do throws(Errno) {
                map.initialize(
                    to: try SourceMap(region.pointee.source, length: region.pointee.length))
                region.pointee.sourceMap = map
            } catch {
                map.deallocate()
                // A file system without mmap: small granules can be read instead.
                guard granule <= UInt64(Limits.staging) else { throw error }
            }
        }
    }

    private static func map(
        _ length: Int, _ protection: Int32, _ flags: Int32, _ file: Int32, _ offset: UInt64
    ) throws(Errno) -> UnsafeMutableRawPointer {
        var address: UnsafeMutableRawPointer?
        let result = cl_mmap(&address, nil, length, protection, flags, file, off_t(offset))
        guard result == 0, let address else {
            throw fail(-result, "mapping \(length) bytes: \(Errno(-result))")
        }
        return address
    }

    /// Where the file has data the granules are absent.
    private static func markData(
        _ region: RegionPointer, of file: Int32, from start: UInt64
    ) throws(Errno) {
        let granule = region.pointee.granule
        var extents = DataExtents(file, start..<start + region.pointee.length)
        var marked = 0
        var absent = 0
        while let extent = extents.nextExtent() {
            // Two extents can share a granule.
            let first = max(marked, Int((extent.lowerBound - start) / granule))
            let end = Int((extent.upperBound - start + granule - 1) / granule)
            guard first < end else { continue }
            region.pointee.pages.fill(first..<end, with: PageState.absent)
            absent += end - first
            marked = end
        }
        region.pointee.absent.store(absent, ordering: .releasing)
    }

    /// A page that was saved and is a hole by now was lost: it is absent, and will be found different.
    private static func attachChecksums(
        _ region: RegionPointer, _ file: borrowing Descriptor, from start: UInt64
    ) throws(Errno) {
        var lost = 0
        region.pointee.source.checksums = try PageChecksums(
            file, start..<start + region.pointee.length
        ) { page in
            let granule = Int((page * PageChecksums.page) >> region.pointee.granuleShift)
            guard region.pointee.pages[granule] == PageState.zero else { return }
            region.pointee.pages.fill(granule..<granule + 1, with: PageState.absent)
            lost += 1
        }
        region.pointee.absent.wrappingAdd(lost, ordering: .releasing)
    }
}
