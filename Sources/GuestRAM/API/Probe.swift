import CLinux

/// What this machine can do, found by trying it on memory that is thrown away at once.
enum Probe {
    static func run() -> guestram_probe_t {
        var probe = guestram_probe_t()
        do throws(Errno) {
            let opened = try Userfault.open()
            probe.uffd_features = try Userfault.features()
            probe.kernel_faults = opened.servesKernel ? 1 : 0
            tryTypes(opened.descriptor.raw, opened.features, &probe)
        } catch {
            probe.userfaultfd = -error.code
            probe.error = (-error.code, -error.code, -error.code, -error.code)
        }
        probe.landlock_abi = UInt32(max(0, cl_landlock_abi()))
        probe.seccomp = cl_prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0 ? 1 : 0
        return probe
    }

    private static func tryTypes(
        _ userfault: Int32, _ features: UInt64, _ probe: inout guestram_probe_t
    ) {
        let anon = trial(.anon, userfault, features)
        let shmem = trial(.shmem, userfault, features)
        let hugetlb = trial(.hugetlb, userfault, features)
        let guestMemfd = trial(.guestMemfd, userfault, features)
        probe.modes = (anon.modes, shmem.modes, hugetlb.modes, guestMemfd.modes)
        probe.operations = (
            anon.operations, shmem.operations, hugetlb.operations, guestMemfd.operations
        )
        probe.error = (anon.error, shmem.error, hugetlb.error, guestMemfd.error)
    }

    private struct Trial {
        var modes: UInt32 = 0
        var operations: UInt32 = 0
        var error: Int32 = 0
    }

    private static func trial(_ type: MemoryType, _ userfault: Int32, _ features: UInt64) -> Trial {
        var trial = Trial()
        var options = guestram_region_options_t()
        options.type = type.number
        options.length = type.pageSize
        // Address space only: no huge page is needed to find out.
        options.flags = UInt32(GUESTRAM_REGION_NORESERVE)
        let machine = type.needsVM ? makeMachine() : -1
        options.vm_fd = machine
        defer { if machine >= 0 { _ = cl_close(machine) } }
        do throws(Errno) {
            var name: (CChar, CChar) = (CChar(UInt8(ascii: "p")), 0)
            let region = try withUnsafeMutableBytes(of: &name) { bytes throws(Errno) in
                options.name = UnsafePointer(
                    bytes.baseAddress!.assumingMemoryBound(to: CChar.self))
                return try RegionMaker.make(RegionPlan(options), id: 1)
            }
            defer { RegionMaker.free(region) }
            try register(region, userfault, features, &trial)
        } catch {
            trial.error = -error.code
        }
        return trial
    }

    private static func makeMachine() -> Int32 {
        let kvm = cl_open("/dev/kvm", O_RDWR, 0)
        guard kvm >= 0 else { return -1 }
        defer { _ = cl_close(kvm) }
        return cl_ioctl_value(kvm, CL_KVM_CREATE_VM, 0)
    }

    private static func register(
        _ region: RegionPointer, _ userfault: Int32, _ features: UInt64, _ trial: inout Trial
    ) throws(Errno) {
        var modes = region.pointee.type.modes
        if Registration.canWriteProtect(features, region.pointee.type) {
            modes |= CL_UFFDIO_REGISTER_MODE_WP
        }
        var arguments = uffdio_register()
        arguments.range.start = region.pointee.address
        arguments.range.len = region.pointee.length
        arguments.mode = modes
        let result = cl_ioctl(userfault, CL_UFFDIO_REGISTER, &arguments)
        guard result == 0 else { throw Errno(result == -EINVAL ? EOPNOTSUPP : -result) }
        trial.modes = Regions.modes(modes)
        trial.operations =
            region.pointee.type.operations & Registration.operations(arguments.ioctls)
        var range = arguments.range
        _ = cl_ioctl(userfault, CL_UFFDIO_UNREGISTER, &range)
    }
}
