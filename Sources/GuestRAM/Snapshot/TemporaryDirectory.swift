import CLinux
import Synchronization

/// A directory under a temporary name beside its final one, `NAME.tmp-PID-NONCE`, that becomes the
/// final one all at once or goes away with everything in it.
struct TemporaryDirectory: ~Copyable {
    let descriptor: Descriptor
    private let parent: Descriptor
    private let path: SnapshotPath
    private var isPublished = false
    /// What killed saves to the same path had left and is gone now, in bytes on disk; nil: nothing.
    let removed: UInt64?

    /// The files that there may be in it.
    private static func forEachFile(_ body: (StaticString) -> Void) {
        body("memory")
        body("checksums")
        body("state")
        body("manifest")
    }

    init(for finalPath: UnsafePointer<CChar>) throws(Errno) {
        let path = try SnapshotPath(finalPath)
        let opened = cl_open(path.parent, O_RDONLY | O_DIRECTORY, 0)
        guard opened >= 0 else {
            throw fail(-opened, "directory \(path.parent) to save a snapshot in: \(Errno(-opened))")
        }
        let parent = Descriptor(owning: opened)
        var status = cl_stat()
        let found = cl_fstatat(parent.raw, path.name, &status, AT_SYMLINK_NOFOLLOW)
        guard found == -ENOENT else {
            let code = found == 0 ? EEXIST : -found
            throw fail(code, "directory \(path.name): \(Errno(code)); save under a new name")
        }
        let removed = Self.removeStale(path, in: parent)
        // Guest memory holds secrets: nobody but the owner reads it.
        let made = cl_mkdirat(parent.raw, path.temporary, 0o700)
        guard made == 0 else {
            throw fail(-made, "making the temporary directory \(path.temporary): \(Errno(-made))")
        }
        let directory = cl_openat(
            parent.raw, path.temporary, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0)
        guard directory >= 0 else {
            _ = cl_unlinkat(parent.raw, path.temporary, AT_REMOVEDIR)
            throw fail(
                -directory, "opening the temporary directory \(path.temporary): \(Errno(-directory))")
        }
        descriptor = Descriptor(owning: directory)
        self.parent = parent
        self.removed = removed
        self.path = path
    }

    deinit {
        if !isPublished { Self.remove(path.temporary, opened: descriptor.raw, in: parent.raw) }
    }

    /// A new file in it.
    func create(_ name: StaticString) throws(Errno) -> Descriptor {
        let opened = cl_openat(
            descriptor.raw, name.cString, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600)
        guard opened >= 0 else {
            throw fail(-opened, "making snapshot file \(name): \(Errno(-opened))")
        }
        return Descriptor(owning: opened)
    }

    /// Its files must be synced already.
    mutating func publish() throws(Errno) {
        try descriptor.sync("the temporary directory")
        var result = cl_renameat2(
            parent.raw, path.temporary, parent.raw, path.name, CL_RENAME_NOREPLACE)
        if result == -EINVAL {
            // NFS and others do not know the flag. Without it a directory replaces nothing but an
            // empty directory.
            result = cl_renameat2(parent.raw, path.temporary, parent.raw, path.name, 0)
        }
        guard result == 0 else {
            let code = result == -ENOTEMPTY || result == -ENOTDIR ? EEXIST : -result
            throw fail(code, "renaming \(path.temporary) to \(path.name): \(Errno(code))")
        }
        isPublished = true
        do throws(Errno) {
            try parent.sync("the directory that holds the snapshot")
        } catch {
            Self.remove(path.name, opened: descriptor.raw, in: parent.raw)
            throw error
        }
    }

    /// The bytes that it took on disk; nil when it is still there.
    @discardableResult
    private static func remove(
        _ name: UnsafePointer<CChar>, opened directory: Int32, in parent: Int32
    ) -> UInt64? {
        var bytes: UInt64 = 0
        forEachFile {
            var status = cl_stat()
            let found = cl_fstatat(directory, $0.cString, &status, AT_SYMLINK_NOFOLLOW) == 0
            guard cl_unlinkat(directory, $0.cString, 0) == 0, found else { return }
            bytes += UInt64(status.blocks) * 512
        }
        return cl_unlinkat(parent, name, AT_REMOVEDIR) == 0 ? bytes : nil
    }

    /// Removes what saves to the same path left that were killed. Only files of our own names are
    /// removed, so at worst a directory of this name that is not ours stays as it is, less those.
    private static func removeStale(
        _ path: borrowing SnapshotPath, in parent: borrowing Descriptor
    ) -> UInt64? {
        let listing = cl_openat(parent.raw, StaticString(".").cString, O_RDONLY | O_DIRECTORY, 0)
        guard listing >= 0, let entries = cl_fdopendir(listing) else { return nil }
        var removed: UInt64?
        while let entry = cl_readdir(entries) {
            guard let process = path.processOfTemporary(entry), !process.isAlive else { continue }
            let stale = cl_openat(parent.raw, entry, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0)
            guard stale >= 0 else { continue }
            if let bytes = remove(entry, opened: stale, in: parent.raw) {
                removed = (removed ?? 0) + bytes
            }
            _ = cl_close(stale)
        }
        closedir(entries)
        return removed
    }
}

/// Tells a process from an earlier one with the same number: in containers the number is often
/// always the same.
struct ProcessMark: Equatable {
    let pid: UInt64
    let nonce: UInt64

    private static let ownNonce = Atomic<UInt64>(0)

    static var own: ProcessMark {
        let (_, nonce) = ownNonce.compareExchange(
            expected: 0, desired: cl_now_ns() | 1, ordering: .relaxed)
        return ProcessMark(
            pid: UInt64(getpid()), nonce: nonce == 0 ? ownNonce.load(ordering: .relaxed) : nonce)
    }

    var isAlive: Bool {
        let own = Self.own
        if pid == own.pid { return nonce == own.nonce }
        guard pid > 0, let number = Int32(exactly: pid) else { return true }
        return getpgid(number) >= 0
    }
}
