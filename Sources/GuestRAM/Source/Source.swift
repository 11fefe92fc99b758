import CLinux

/// Where the contents of absent granules come from. Holes of it are not absent: they are `zero`.
struct Source: Sendable {
    enum Kind { case none, file, ownFile }

    let kind: Kind
    /// The snapshot's memory file, ours; -1 when there is none.
    let descriptor: Int32
    /// Where the region starts in it.
    let offset: UInt64
    /// The same descriptor as the workers know it.
    var workerDescriptor: Int32 = -1
    /// What every page that is read must have; nil: nothing is compared.
    var checksums: PageChecksums?

    static let none = Source(kind: .none, descriptor: -1, offset: 0)
    /// The region's own file holds the contents already: absent granules only need to be mapped.
    static let ownFile = Source(kind: .ownFile, descriptor: -1, offset: 0)

    /// A duplicate of a snapshot's descriptor; close() releases it.
    static func file(_ descriptor: Int32, offset: UInt64) throws(Errno) -> Source {
        let kept = try checked(cl_fcntl(descriptor, F_DUPFD_CLOEXEC, 0))
        return Source(kind: .file, descriptor: kept, offset: offset)
    }

    func close() {
        if descriptor >= 0 { _ = cl_close(descriptor) }
        checksums?.free()
    }

    var ownMemory: Int { checksums?.ownMemory ?? 0 }
}

/// How far a read came: whole granules in the buffer, and why no more.
struct Fetched {
    var bytes = 0
    /// 0; EAGAIN when waiting would bring more, EOPNOTSUPP where only waiting brings anything (a file
    /// system without RWF_NOWAIT); else what the source answered, EIO past its end.
    var error: Int32 = 0
}

extension Source {
    /// Reads `length` bytes from the region's `offset` on into the buffer, through the workers'
    /// descriptor or the library's own. With `wait` false only what needs no waiting for the disk.
    /// Never leaves a part of a granule counted, and none that is not what was saved.
    func fetch(
        _ buffer: UnsafeMutableRawPointer, at regionOffset: UInt64, length: Int, granule: UInt64,
        wait: Bool, by descriptor: Int32
    ) -> Fetched {
        var fetched = Fetched()
        while fetched.bytes < length {
            let position = off_t(offset &+ regionOffset &+ UInt64(fetched.bytes))
            let result =
                wait
                ? cl_pread(descriptor, buffer + fetched.bytes, length - fetched.bytes, position)
                : cl_pread_nowait(
                    descriptor, buffer + fetched.bytes, length - fetched.bytes, position)
            if result > 0 {
                fetched.bytes += result
                // What the page cache has is had; the rest would have to be waited for.
                if !wait && fetched.bytes < length { fetched.error = EAGAIN; break }
                continue
            }
            if result == -Int(EINTR) { continue }
            // The file ends before the region does: it was cut after it was opened.
            fetched.error = result == 0 ? EIO : Int32(-result)
            break
        }
        fetched.bytes = fetched.bytes / Int(granule) * Int(granule)
        if let checksums {
            let good = checksums.firstDifference(buffer, fetched.bytes, at: regionOffset)
            if good < fetched.bytes {
                fetched = Fetched(bytes: good / Int(granule) * Int(granule), error: EBADMSG)
            }
        }
        return fetched
    }

    /// Has the disk begin to read, without waiting for it. False where it cannot.
    func ask(_ regionOffset: UInt64, _ length: Int, by descriptor: Int32) -> Bool {
        cl_fadvise_willneed(descriptor, off_t(offset &+ regionOffset), off_t(length)) == 0
    }
}
