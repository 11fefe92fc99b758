import CLinux

/// Writing a memory's regions into a snapshot. The vCPUs are stopped; workers may still be bringing
/// pages. Under the memory's configuration lock.
enum Save {
    static func run(
        _ memory: MemoryPointer, _ path: UnsafePointer<CChar>, state: UnsafeRawBufferPointer
    ) throws(Errno) {
        // A thread runs on from its fault a moment before its page's state is settled, in the same
        // hold of this lock: whoever ran before the VM was stopped is settled after this.
        memory.pointee.events.locked {}
        var writer = try SnapshotWriter(directory: path)
        if let bytes = writer.removed {
            memory.pointee.queue.push(
                EventQueue.Entry(type: UInt32(GUESTRAM_EVENT_STALE_REMOVED), length: bytes),
                signal: memory.pointee.queue.descriptor.raw)
        }
        let buffer = try Mapping(anonymous: SaveRegion.bufferSize)
        var id: UInt32 = 0
        while let region = memory.pointee.regions.next(after: id) {
            id = region.pointee.id
            let index = try writer.add(
                region: region.pointee.name, type: region.pointee.type.number,
                isPrivate: region.pointee.isPrivate, length: region.pointee.length,
                pageSize: region.pointee.granule)
            try SaveRegion(region: region, index: index, buffer: buffer.base).run(&writer)
        }
        for place in 0..<memory.pointee.slots.count {
            try writer.add(slot(memory, memory.pointee.slots[place]))
        }
        if state.count > 0 { try writer.writeState(state) }
        try writer.commit()
    }

    private static func slot(_ memory: MemoryPointer, _ slot: Slot) -> SnapshotSlot {
        // Regions were added in the order of their ids.
        var index = 0
        var id: UInt32 = 0
        while let region = memory.pointee.regions.next(after: id), region.pointee.id != slot.region {
            id = region.pointee.id
            index += 1
        }
        return SnapshotSlot(
            regionIndex: index, guestPhysical: slot.guestPhysical, offset: slot.offset,
            length: slot.length)
    }
}

/// Writing one region. What is absent comes from its source, what reads zero stays a hole.
struct SaveRegion {
    static let bufferSize = 1 << 20
    private static let page = 4096

    let region: RegionPointer
    let index: Int
    let buffer: UnsafeMutableRawPointer

    func run(_ writer: inout SnapshotWriter) throws(Errno) {
        var granule = 0
        while granule < region.pointee.count {
            let state = kind(granule)
            var end = granule + 1
            while end < region.pointee.count, kind(end) == state { end += 1 }
            switch state {
            case PageState.absent: try fromSource(granule..<end, &writer)
            case PageState.present: try fromMemory(granule..<end, &writer)
            case PageState.zero: break
            default: throw unreadable(granule, state)
            }
            granule = end
        }
    }

    private func kind(_ granule: Int) -> UInt8 {
        let byte = region.pointee.pages[granule]
        let state = byte & PageState.mask
        guard state == PageState.filling else { return state }
        // What is being brought is not there yet, and will not be if it was discarded meanwhile.
        return byte & PageState.discarded != 0 ? PageState.zero : PageState.absent
    }

    private func unreadable(_ granule: Int, _ state: UInt8) -> Errno {
        fail(
            EIO,
            "region \(region.pointee.name) at offset \(hex: region.pointee.offset(of: granule)) is \(state == PageState.poisoned ? "poisoned" : "unmapped"): its contents are lost, so there is nothing to save"
        )
    }

    private func fromSource(_ run: Range<Int>, _ writer: inout SnapshotWriter) throws(Errno) {
        var offset = region.pointee.offset(of: run.lowerBound)
        let end = region.pointee.offset(of: run.upperBound)
        while offset < end {
            let length = Int(min(UInt64(Self.bufferSize), end - offset))
            try write(absentContents(offset, length), length, at: offset, &writer)
            offset += UInt64(length)
        }
    }

    private func absentContents(
        _ offset: UInt64, _ length: Int
    ) throws(Errno) -> UnsafeMutableRawPointer {
        guard region.pointee.source.kind == .ownFile else {
            try read(region.pointee.source, region.pointee.source.descriptor, offset, length)
            return buffer
        }
        // guest_memfd cannot be read, only looked at.
        if region.pointee.type.copy == nil, let alias = region.pointee.alias {
            return alias + Int(offset)
        }
        try readFile(offset, length)
        return buffer
    }

    /// Never-touched pages are not touched now: a file says where it has data, page tables say what
    /// is populated.
    private func fromMemory(_ run: Range<Int>, _ writer: inout SnapshotWriter) throws(Errno) {
        let end = region.pointee.offset(of: run.upperBound)
        var offset = region.pointee.offset(of: run.lowerBound)
        while offset < end {
            guard let data = try nextData(offset, end) else { return }
            offset = data.lowerBound
            while offset < data.upperBound {
                let length = Int(min(UInt64(Self.bufferSize), data.upperBound - offset))
                try write(contents(offset, length), length, at: offset, &writer)
                offset += UInt64(length)
            }
        }
    }

    /// What is read through the file allocates nothing where it has a hole, and takes no fault.
    private func contents(_ offset: UInt64, _ length: Int) throws(Errno) -> UnsafeMutableRawPointer {
        let mapped = region.pointee.host + Int(offset)
        guard region.pointee.file >= 0, region.pointee.type.copy != nil else { return mapped }
        try readFile(offset, length)
        guard region.pointee.isPrivate else { return buffer }
        // A private mapping's own pages shadow the file's.
        let pagemap = try PageMapFile()
        let pages = length / Self.page
        let entries = UnsafeMutablePointer<UInt64>.allocate(capacity: pages)
        defer { entries.deallocate() }
        try pagemap.read(UInt64(UInt(bitPattern: mapped)), entries, count: pages)
        for page in 0..<pages where PageMapFile.isPopulated(entries[page]) {
            _ = memcpy(buffer + page * Self.page, mapped + page * Self.page, Self.page)
        }
        return buffer
    }

    /// The region's own file.
    private func readFile(_ offset: UInt64, _ length: Int) throws(Errno) {
        let file = Source(kind: .file, descriptor: -1, offset: region.pointee.fileOffset)
        try read(file, region.pointee.file, offset, length)
    }

    private func read(
        _ source: Source, _ descriptor: Int32, _ offset: UInt64, _ length: Int
    ) throws(Errno) {
        let fetched = source.fetch(
            buffer, at: offset, length: length, granule: UInt64(Self.page), wait: true,
            by: descriptor)
        guard fetched.bytes == length else {
            throw fail(
                fetched.error,
                "region \(region.pointee.name) at offset \(hex: offset + UInt64(fetched.bytes)): \(fetched.error == EBADMSG ? "the page is not what was saved, its checksum differs" : "its contents cannot be read"): \(Errno(fetched.error))"
            )
        }
    }

    private func nextData(_ offset: UInt64, _ end: UInt64) throws(Errno) -> Range<UInt64>? {
        if region.pointee.file < 0 { return try nextPopulated(offset, end) }
        // A private mapping's own pages shadow the file: all of it is looked at.
        guard !region.pointee.isPrivate else { return offset..<end }
        let base = region.pointee.fileOffset
        let data = cl_lseek(region.pointee.file, off_t(base + offset), SEEK_DATA)
        if data == -off_t(ENXIO) { return nil }
        // guest_memfd cannot tell.
        guard data >= 0 else { return offset..<end }
        guard UInt64(data) - base < end else { return nil }
        let hole = cl_lseek(region.pointee.file, data, SEEK_HOLE)
        let stop = hole < 0 ? end : min(end, UInt64(hole) - base)
        return UInt64(data) - base..<stop
    }

    private func nextPopulated(_ offset: UInt64, _ end: UInt64) throws(Errno) -> Range<UInt64>? {
        let pagemap = try PageMapFile()
        let start = UInt64(UInt(bitPattern: region.pointee.host))
        guard let first = try pagemap.firstPopulated(start + offset, end - offset) else { return nil }
        let from = first - start
        // The buffer is free until the contents are looked at.
        let entries = buffer.assumingMemoryBound(to: UInt64.self)
        let count = Int(min(UInt64(Self.bufferSize / 8), (end - from) / UInt64(Self.page)))
        try pagemap.read(first, entries, count: count)
        var pages = 1
        while pages < count, PageMapFile.isPopulated(entries[pages]) { pages += 1 }
        return from..<from + UInt64(pages * Self.page)
    }

    /// Pages that are all zero stay holes.
    private func write(
        _ bytes: UnsafeMutableRawPointer, _ length: Int, at offset: UInt64,
        _ writer: inout SnapshotWriter
    ) throws(Errno) {
        var position = 0
        while position < length {
            if isZero(bytes + position) {
                position += Self.page
                continue
            }
            var end = position + Self.page
            while end < length, !isZero(bytes + end) { end += Self.page }
            try writer.write(
                bytes + position, count: end - position, region: index,
                at: offset + UInt64(position))
            position = end
        }
    }

    private func isZero(_ page: UnsafeMutableRawPointer) -> Bool {
        let words = page.assumingMemoryBound(to: UInt64.self)
        var all: UInt64 = 0
        for word in 0..<Self.page / 8 where words[word] != 0 {
            all = words[word]
            break
        }
        return all == 0
    }
}
