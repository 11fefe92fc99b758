import CLinux

extension MemoryType {
    /// KVM's guest_memfd, made mappable and shared. Its one entry is CONTINUE, on kernels where
    /// UFFDIO_REGISTER takes it (found by trying); contents are written through a second mapping.
    /// Such a kernel offers COPY and ZEROPAGE too, but the type has no way to allocate for them.
    static let guestMemfd = MemoryType(
        number: UInt32(GUESTRAM_GUEST_MEMFD), name: "guest_memfd",
        modes: CL_UFFDIO_REGISTER_MODE_MISSING | CL_UFFDIO_REGISTER_MODE_MINOR,
        pageSize: 4096, largestPageSize: 4096,
        hasFile: true, fileSystem: 0, needsVM: true, existsMayMeanExhausted: false,
        copy: nil, zeropage: nil, continue: standardContinue,
        poison: nil, move: nil, writeprotect: nil,
        makeFile: makeGuestMemfd, mapFlags: { _ in 0 })
}

private func makeGuestMemfd(_ plan: borrowing RegionPlan) throws(Errno) -> Int32 {
    var arguments = kvm_create_guest_memfd()
    arguments.size = plan.length
    arguments.flags = CL_GUEST_MEMFD_FLAG_MMAP | CL_GUEST_MEMFD_FLAG_INIT_SHARED
    let descriptor = cl_ioctl(plan.vm, CL_KVM_CREATE_GUEST_MEMFD, &arguments)
    guard descriptor >= 0 else {
        throw fail(
            // ENOTTY is an ioctl's way to say that an argument is of the wrong kind.
            descriptor == -ENOTTY ? EINVAL : -descriptor,
            "vm_fd \(plan.vm): KVM_CREATE_GUEST_MEMFD with MMAP and INIT_SHARED answered \(Errno(-descriptor)); it needs a KVM VM descriptor and KVM_CAP_GUEST_MEMFD_FLAGS (Linux 6.18)"
        )
    }
    return descriptor
}
