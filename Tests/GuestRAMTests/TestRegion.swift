import CLinux
import Testing

@testable import GuestRAM

/// A region for tests, freed with all that belongs to it.
final class TestRegion {
    let pointer: RegionPointer
    private var userfault: Int32 = -1

    /// Without memory behind it: for what looks at addresses and states only.
    init(
        _ type: MemoryType = .anon, granules: Int, address: UInt64 = 1 << 32, id: UInt32 = 1,
        name: String = "ram", host: UnsafeMutableRawPointer? = nil, file: Int32 = -1
    ) throws {
        let shift = UInt64(type.pageSize.trailingZeroBitCount)
        let name = try #require(RegionName(name))
        let pages = try PageMap(count: granules)
        let address = host.map { UInt64(UInt(bitPattern: $0)) } ?? address
        pointer = .allocate(capacity: 1)
        pointer.initialize(
            to: Region(
                id: id, name: name, type: type, flags: 0, length: UInt64(granules) << shift,
                granule: type.pageSize, granuleShift: shift, file: file, fileOffset: 0,
                host: UnsafeMutableRawPointer(bitPattern: UInt(address))!,
                ownsMapping: host != nil, alias: nil, address: address, pages: pages))
    }

    /// Of real memory, registered with a userfaultfd of its own.
    convenience init(registered type: MemoryType, granules: Int) throws {
        let bytes = granules * Int(type.pageSize)
        let file = type.hasFile ? try makeFile(bytes) : -1
        var host: UnsafeMutableRawPointer?
        let sharing = type.hasFile ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS
        try #require(cl_mmap(&host, nil, bytes, PROT_READ | PROT_WRITE, sharing, file, 0) == 0)
        try self.init(type, granules: granules, host: host, file: file)
        let opened = try Userfault.open()
        userfault = try checked(cl_fcntl(opened.descriptor.raw, F_DUPFD_CLOEXEC, 0))
        var arguments = uffdio_register()
        arguments.range = uffdio_range(start: pointer.pointee.address, len: pointer.pointee.length)
        arguments.mode = type.modes
        try #require(cl_ioctl(userfault, CL_UFFDIO_REGISTER, &arguments) == 0)
        pointer.pointee.operations = type.operations & Registration.operations(arguments.ioctls)
        pointer.pointee.userfault = userfault
    }

    deinit {
        // First of all: unmapping a registered range waits for somebody to read its event.
        if userfault >= 0 { _ = cl_close(userfault) }
        pointer.deinitialize(count: 1)
        pointer.deallocate()
    }

    var address: UInt64 { pointer.pointee.address }

    /// The first byte of a page that is there.
    func byte(ofPage page: Int) -> UInt8 {
        pointer.pointee.host.load(fromByteOffset: page * 4096, as: UInt8.self)
    }

    func set(_ granules: Range<Int>, to state: UInt8) {
        pointer.pointee.pages.fill(granules, with: state)
    }
}

private func makeFile(_ bytes: Int) throws -> Int32 {
    let file = try checked(cl_memfd_create("guestram-test", CL_MFD_CLOEXEC))
    try #require(cl_ftruncate(file, off_t(bytes)) == 0)
    return file
}

/// Whether a test that needs a userfaultfd is run: with CI=true also where it must then fail.
let userfaultIsToBeTried: Bool = {
    if let ci = getenv("CI"), strcmp(ci, "true") == 0 { return true }
    do { _ = try Userfault.features() } catch { return false }
    return true
}()

extension Trait where Self == ConditionTrait {
    static var needsUserfault: Self {
        .enabled(if: userfaultIsToBeTried, "no userfaultfd may be opened here")
    }
}
