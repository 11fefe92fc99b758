import CLinux
import Synchronization

/// One bit per granule, as in KVM_GET_DIRTY_LOG. Made when first needed.
struct DirtyBitmap: @unchecked Sendable {
    private let words: UnsafeMutablePointer<Atomic<UInt64>>
    private let base: UnsafeMutableRawPointer
    let bytes: Int

    init(granules: Int) throws(Errno) {
        bytes = (granules + 63) / 64 * 8
        var address: UnsafeMutableRawPointer?
        let result = cl_mmap(
            &address, nil, bytes, PROT_READ | PROT_WRITE,
            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        guard result == 0, let address else {
            throw fail(-result, "no memory for a dirty bitmap of \(bytes) bytes")
        }
        base = address
        words = base.bindMemory(to: Atomic<UInt64>.self, capacity: bytes / 8)
    }

    func free() { _ = cl_munmap(base, bytes) }

    @inline(__always)
    func set(_ granule: Int) {
        words[granule >> 6].bitwiseOr(1 << UInt64(granule & 63), ordering: .relaxed)
    }

    /// The bit, cleared if asked.
    func take(_ granule: Int, clear: Bool) -> Bool {
        let bit: UInt64 = 1 << UInt64(granule & 63)
        let old =
            clear
            ? words[granule >> 6].bitwiseAnd(~bit, ordering: .relaxed).oldValue
            : words[granule >> 6].load(ordering: .relaxed)
        return old & bit != 0
    }
}
