import CLinux

/// Opening a userfaultfd and what it answers about itself.
enum Userfault {
    /// What we ask for where the kernel has it. Not WP_ASYNC and SIGBUS, which change what faults
    /// mean; not EXACT_ADDRESS, since a granule is all we need.
    static let wanted: UInt64 =
        CL_UFFD_FEATURE_PAGEFAULT_FLAG_WP | CL_UFFD_FEATURE_EVENT_REMAP
        | CL_UFFD_FEATURE_EVENT_REMOVE | CL_UFFD_FEATURE_EVENT_UNMAP
        | CL_UFFD_FEATURE_MISSING_HUGETLBFS | CL_UFFD_FEATURE_MISSING_SHMEM
        | CL_UFFD_FEATURE_MINOR_HUGETLBFS | CL_UFFD_FEATURE_MINOR_SHMEM
        | CL_UFFD_FEATURE_WP_HUGETLBFS_SHMEM | CL_UFFD_FEATURE_WP_UNPOPULATED
        | CL_UFFD_FEATURE_POISON | CL_UFFD_FEATURE_MOVE

    struct Opened: ~Copyable {
        let descriptor: Descriptor
        /// Features in force.
        let features: UInt64
        /// KVM's and the kernel's own faults are delivered too.
        let servesKernel: Bool
    }

    /// A userfaultfd of this process, past UFFDIO_API, non-blocking.
    static func open() throws(Errno) -> Opened {
        // UFFDIO_API answers once per descriptor, and refuses an unknown bit: ask a throw-away one.
        let offered = try features()
        var features = wanted & offered
        // Without this capability the kernel refuses the feature, and then nobody can need it.
        if cl_cap_effective(CAP_SYS_PTRACE) == 1 {
            features |= offered & CL_UFFD_FEATURE_EVENT_FORK
        }
        let (descriptor, servesKernel) = try create()
        let owner = Descriptor(owning: descriptor)
        var api = uffdio_api()
        api.api = CL_UFFD_API
        api.features = features
        let result = cl_ioctl(descriptor, CL_UFFDIO_API, &api)
        guard result == 0 else {
            throw fail(-result, "UFFDIO_API refused features \(hex: features): \(Errno(-result))")
        }
        return Opened(descriptor: owner, features: features, servesKernel: servesKernel)
    }

    /// The kernel's feature bits.
    static func features() throws(Errno) -> UInt64 {
        let owner = Descriptor(owning: try create().descriptor)
        var api = uffdio_api()
        api.api = CL_UFFD_API
        let result = cl_ioctl(owner.raw, CL_UFFDIO_API, &api)
        guard result == 0 else { throw fail(-result, "UFFDIO_API: \(Errno(-result))") }
        return api.features
    }

    /// /dev/userfaultfd first: file permissions alone decide there. Never USER_MODE_ONLY: then a
    /// guest's fault would make KVM_RUN fail.
    private static func create() throws(Errno) -> (descriptor: Int32, servesKernel: Bool) {
        let flags = O_CLOEXEC | O_NONBLOCK
        let device = cl_open("/dev/userfaultfd", O_RDWR, 0)
        if device >= 0 {
            let descriptor = cl_ioctl_value(device, CL_USERFAULTFD_IOC_NEW, UInt(flags))
            _ = cl_close(device)
            if descriptor >= 0 { return (descriptor, true) }
        }
        let descriptor = cl_userfaultfd(flags)
        guard descriptor < 0 else { return (descriptor, true) }
        if descriptor == -ENOSYS {
            throw fail(ENOSYS, "this kernel has no userfaultfd: CONFIG_USERFAULTFD is needed")
        }
        throw fail(
            -descriptor,
            "no userfaultfd: \(Errno(-descriptor)). Give this user access to /dev/userfaultfd (\(Errno(device < 0 ? -device : EPERM))), or CAP_SYS_PTRACE, or set the sysctl vm.unprivileged_userfaultfd to 1"
        )
    }
}
