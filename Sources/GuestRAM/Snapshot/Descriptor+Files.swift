import CLinux

extension StaticString {
    /// A literal as C takes it. Passing the literal itself would make a String, and that links
    /// Unicode's tables into the archive.
    var cString: UnsafePointer<CChar> {
        UnsafeRawPointer(utf8Start).assumingMemoryBound(to: CChar.self)
    }
}

/// Reading, writing and syncing of whole files; `what` names the file in messages.
extension Descriptor {
    /// A file of a directory, which must be a regular one: no symbolic link, no device, no FIFO that
    /// would wait.
    static func openRegular(
        _ name: StaticString, in directory: borrowing Descriptor
    ) throws(Errno) -> Descriptor {
        let opened = cl_openat(
            directory.raw, name.cString, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0)
        guard opened >= 0 else {
            if opened == -ELOOP {
                throw fail(EINVAL, "snapshot file \(name): a symbolic link is not followed")
            }
            throw fail(-opened, "snapshot file \(name): \(Errno(-opened))")
        }
        let file = Descriptor(owning: opened)
        var status = try file.status(name)
        guard cl_is_regular(&status) != 0 else {
            throw fail(EINVAL, "snapshot file \(name): not a regular file")
        }
        return file
    }

    func fileSize(_ what: StaticString) throws(Errno) -> UInt64 {
        UInt64(try status(what).size)
    }

    private func status(_ what: StaticString) throws(Errno) -> cl_stat {
        var status = cl_stat()
        let result = cl_fstat(raw, &status)
        guard result == 0 else { throw fail(-result, "fstat of \(what): \(Errno(-result))") }
        return status
    }

    func readAll(
        _ buffer: UnsafeMutableRawPointer, count: Int, at offset: UInt64 = 0, of what: StaticString
    ) throws(Errno) {
        var done = 0
        while done < count {
            let result = cl_pread(raw, buffer + done, count - done, off_t(offset) + off_t(done))
            if result == -Int(EINTR) { continue }
            guard result >= 0 else {
                let error = Errno(negated: result)
                throw fail(error.code, "reading \(what) at \(offset + UInt64(done)): \(error)")
            }
            guard result > 0 else {
                throw fail(
                    EINVAL,
                    "\(what): ends at \(offset + UInt64(done)) of \(offset + UInt64(count)) bytes; it was cut")
            }
            done += result
        }
    }

    func writeAll(
        _ bytes: UnsafeRawPointer, count: Int, at offset: UInt64, of what: StaticString
    ) throws(Errno) {
        var done = 0
        while done < count {
            let result = cl_pwrite(raw, bytes + done, count - done, off_t(offset) + off_t(done))
            if result == -Int(EINTR) { continue }
            guard result > 0 else {
                let error = result == 0 ? Errno(EIO) : Errno(negated: result)
                throw fail(
                    error.code,
                    "writing \(what), \(count - done) bytes at \(offset + UInt64(done)): \(error)")
            }
            done += result
        }
    }

    func sync(_ what: StaticString) throws(Errno) {
        var result: Int32
        repeat { result = cl_fsync(raw) } while result == -EINTR
        guard result == 0 else { throw fail(-result, "fsync of \(what): \(Errno(-result))") }
    }
}
