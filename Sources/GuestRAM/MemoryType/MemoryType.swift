import CLinux

/// What userfaultfd can do with one kind of memory: facts only. The loop that uses them is mfill().
/// An entry that is nil is an operation the type does not support; `standard…` is the shared
/// implementation. A new type is a file beside this one and a line in `all`.
struct MemoryType: Sendable {
    /// GUESTRAM_ANON, …
    let number: UInt32
    let name: StaticString
    /// UFFDIO_REGISTER_MODE_* that a region of the type needs to be served by fault.
    let modes: UInt64
    /// The page that a region has unless it asks for the largest.
    let pageSize: UInt64
    let largestPageSize: UInt64
    /// Contents live in a file that other mappings see.
    let hasFile: Bool
    /// What statfs() calls the file system of such files; 0 where it has no name of its own.
    let fileSystem: UInt64
    /// Its file is made by a KVM VM, of fixed size, and can be mapped shared only.
    let needsVM: Bool
    /// The kernel answers EEXIST also where it has no page left to give.
    let existsMayMeanExhausted: Bool

    let copy: FillEntry?
    let zeropage: FillEntry?
    let `continue`: FillEntry?
    let poison: FillEntry?
    let move: FillEntry?
    let writeprotect: FillEntry?

    /// Makes the file that a region's memory lives in, without a descriptor from the caller.
    let makeFile: @Sendable (borrowing RegionPlan) throws(Errno) -> Int32
    /// mmap() flags beside MAP_SHARED or MAP_PRIVATE.
    let mapFlags: @Sendable (borrowing RegionPlan) -> Int32

    static func numbered(_ number: UInt32) -> MemoryType? {
        switch number {
        case anon.number: anon
        case shmem.number: shmem
        case hugetlb.number: hugetlb
        case guestMemfd.number: guestMemfd
        default: nil
        }
    }

    /// The entry for an operation, nil where the type has none.
    @inline(__always)
    func entry(for operation: Operation) -> FillEntry? {
        switch operation {
        case .copy: copy
        case .zeropage: zeropage
        case .continue: `continue`
        case .poison: poison
        case .move: move
        case .writeprotect: writeprotect
        }
    }

    /// The type's operations as bits `1 << GUESTRAM_OP_*`.
    var operations: UInt32 {
        func bit(_ entry: FillEntry?, _ number: Int) -> UInt32 {
            entry == nil ? 0 : 1 << UInt32(number)
        }
        return bit(copy, GUESTRAM_OP_COPY) | bit(zeropage, GUESTRAM_OP_ZEROPAGE)
            | bit(`continue`, GUESTRAM_OP_CONTINUE) | bit(poison, GUESTRAM_OP_POISON)
            | bit(move, GUESTRAM_OP_MOVE) | bit(writeprotect, GUESTRAM_OP_WRITEPROTECT)
    }
}

/// For a type whose memory lives in no file.
func noFile(_ plan: borrowing RegionPlan) throws(Errno) -> Int32 { -1 }
