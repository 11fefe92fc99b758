// guest_memfd, and the few KVM calls that the library makes on a VM fd it is handed.
#ifndef CLINUX_UAPI_KVM_H
#define CLINUX_UAPI_KVM_H

#include <linux/kvm.h>

#ifndef KVM_MEM_GUEST_MEMFD
#define KVM_MEM_GUEST_MEMFD (1UL << 2)
#endif
#ifndef KVM_SET_USER_MEMORY_REGION2
struct kvm_userspace_memory_region2 {
    __u32 slot;
    __u32 flags;
    __u64 guest_phys_addr;
    __u64 memory_size;
    __u64 userspace_addr;
    __u64 guest_memfd_offset;
    __u32 guest_memfd;
    __u32 pad1;
    __u64 pad2[14];
};
#define KVM_SET_USER_MEMORY_REGION2 _IOW(KVMIO, 0x49, struct kvm_userspace_memory_region2)
#endif
#ifndef KVM_CREATE_GUEST_MEMFD
struct kvm_create_guest_memfd {
    __u64 size;
    __u64 flags;
    __u64 reserved[6];
};
#define KVM_CREATE_GUEST_MEMFD _IOWR(KVMIO, 0xd4, struct kvm_create_guest_memfd)
#endif
#ifndef GUEST_MEMFD_FLAG_MMAP
#define GUEST_MEMFD_FLAG_MMAP (1ULL << 0)
#endif
#ifndef GUEST_MEMFD_FLAG_INIT_SHARED
#define GUEST_MEMFD_FLAG_INIT_SHARED (1ULL << 1)
#endif
#ifndef KVM_CAP_USER_MEMORY2
#define KVM_CAP_USER_MEMORY2 231
#endif
#ifndef KVM_CAP_GUEST_MEMFD
#define KVM_CAP_GUEST_MEMFD 234
#endif
#ifndef KVM_CAP_GUEST_MEMFD_FLAGS
#define KVM_CAP_GUEST_MEMFD_FLAGS 244
#endif

#define CL_KVM(name, number)                                       \
    _Static_assert((name) == (number), #name);                     \
    static const unsigned long CL_##name = (name)
CL_KVM(KVM_GET_API_VERSION, 0xae00);
CL_KVM(KVM_CREATE_VM, 0xae01);
CL_KVM(KVM_CHECK_EXTENSION, 0xae03);
CL_KVM(KVM_SET_USER_MEMORY_REGION, 0x4020ae46);
CL_KVM(KVM_SET_USER_MEMORY_REGION2, 0x40a0ae49);
CL_KVM(KVM_CREATE_GUEST_MEMFD, 0xc040aed4);
#undef CL_KVM
_Static_assert(sizeof(struct kvm_userspace_memory_region) == 32, "kvm_userspace_memory_region");
_Static_assert(sizeof(struct kvm_userspace_memory_region2) == 160, "kvm_userspace_memory_region2");
_Static_assert(sizeof(struct kvm_create_guest_memfd) == 64, "kvm_create_guest_memfd");

CL_CONST(uint64_t, GUEST_MEMFD_FLAG_MMAP);
CL_CONST(uint64_t, GUEST_MEMFD_FLAG_INIT_SHARED);

#endif
