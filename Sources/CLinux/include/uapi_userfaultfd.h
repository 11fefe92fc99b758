// userfaultfd up to Linux 7.3. What the installed headers (6.1 on Debian 12) lack is defined here;
// every ioctl number and struct size is asserted, because a wrong one fails only at run time.
#ifndef CLINUX_UAPI_USERFAULTFD_H
#define CLINUX_UAPI_USERFAULTFD_H

#include <linux/ioctl.h>
#include <linux/types.h>
#include <linux/userfaultfd.h>

#ifndef USERFAULTFD_IOC
#define USERFAULTFD_IOC 0xAA
#define USERFAULTFD_IOC_NEW _IO(USERFAULTFD_IOC, 0x00)
#endif

// features
#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif
#ifndef UFFD_FEATURE_POISON
#define UFFD_FEATURE_POISON (1 << 14)
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif
#ifndef UFFD_FEATURE_MOVE
#define UFFD_FEATURE_MOVE (1 << 16)
#endif
#ifndef UFFD_FEATURE_RWP
#define UFFD_FEATURE_RWP (1 << 17)
#endif
#ifndef UFFD_FEATURE_RWP_ASYNC
#define UFFD_FEATURE_RWP_ASYNC (1 << 18)
#endif

// modes and flags
#ifndef UFFDIO_REGISTER_MODE_RWP
#define UFFDIO_REGISTER_MODE_RWP ((__u64)1 << 3)
#endif
#ifndef UFFD_PAGEFAULT_FLAG_RWP
#define UFFD_PAGEFAULT_FLAG_RWP (1 << 3)
#endif
#ifndef UFFDIO_CONTINUE_MODE_WP
#define UFFDIO_CONTINUE_MODE_WP ((__u64)1 << 1)
#endif

// operations
#ifndef UFFDIO_POISON
#define _UFFDIO_POISON 0x08
struct uffdio_poison {
    struct uffdio_range range;
#define UFFDIO_POISON_MODE_DONTWAKE ((__u64)1 << 0)
    __u64 mode;
    __s64 updated;
};
#define UFFDIO_POISON _IOWR(UFFDIO, _UFFDIO_POISON, struct uffdio_poison)
#endif

#ifndef UFFDIO_MOVE
#define _UFFDIO_MOVE 0x05
struct uffdio_move {
    __u64 dst;
    __u64 src;
    __u64 len;
#define UFFDIO_MOVE_MODE_DONTWAKE ((__u64)1 << 0)
#define UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES ((__u64)1 << 1)
    __u64 mode;
    __s64 move;
};
#define UFFDIO_MOVE _IOWR(UFFDIO, _UFFDIO_MOVE, struct uffdio_move)
#endif

#ifndef UFFDIO_RWPROTECT
#define _UFFDIO_RWPROTECT 0x09
struct uffdio_rwprotect {
    struct uffdio_range range;
#define UFFDIO_RWPROTECT_MODE_RWP ((__u64)1 << 0)
#define UFFDIO_RWPROTECT_MODE_DONTWAKE ((__u64)1 << 1)
    __u64 mode;
};
#define UFFDIO_RWPROTECT _IOWR(UFFDIO, _UFFDIO_RWPROTECT, struct uffdio_rwprotect)
#endif

#ifndef UFFDIO_SET_MODE
#define _UFFDIO_SET_MODE 0x0A
struct uffdio_set_mode {
    __u64 enable;
    __u64 disable;
};
#define UFFDIO_SET_MODE _IOW(UFFDIO, _UFFDIO_SET_MODE, struct uffdio_set_mode)
#endif

// struct uffd_msg without the packed attribute, which Swift would not honour; same layout.
struct cl_uffd_msg {
    uint8_t event;
    uint8_t reserved1;
    uint16_t reserved2;
    uint32_t reserved3;
    union {
        struct { uint64_t flags, address; uint32_t ptid; } pagefault;
        struct { uint32_t ufd; } fork;
        struct { uint64_t from, to, len; } remap;
        struct { uint64_t start, end; } remove;
    } arg;
};

#define CL_SAME(field) \
    _Static_assert(offsetof(struct cl_uffd_msg, field) == offsetof(struct uffd_msg, field), #field)
_Static_assert(sizeof(struct cl_uffd_msg) == sizeof(struct uffd_msg), "uffd_msg");
_Static_assert(sizeof(struct cl_uffd_msg) == 32, "uffd_msg");
CL_SAME(event);
CL_SAME(arg.pagefault.flags);
CL_SAME(arg.pagefault.address);
_Static_assert(offsetof(struct cl_uffd_msg, arg.pagefault.ptid) ==
               offsetof(struct uffd_msg, arg.pagefault.feat.ptid), "ptid");
CL_SAME(arg.fork.ufd);
CL_SAME(arg.remap.from);
CL_SAME(arg.remap.to);
CL_SAME(arg.remap.len);
CL_SAME(arg.remove.start);
CL_SAME(arg.remove.end);
#undef CL_SAME

#define CL_UFFDIO(name, number, type, size)                        \
    _Static_assert((name) == (number), #name);                     \
    _Static_assert(sizeof(struct type) == (size), #type);          \
    static const unsigned long CL_##name = (name)
CL_UFFDIO(UFFDIO_API, 0xc018aa3f, uffdio_api, 24);
CL_UFFDIO(UFFDIO_REGISTER, 0xc020aa00, uffdio_register, 32);
CL_UFFDIO(UFFDIO_UNREGISTER, 0x8010aa01, uffdio_range, 16);
CL_UFFDIO(UFFDIO_WAKE, 0x8010aa02, uffdio_range, 16);
CL_UFFDIO(UFFDIO_COPY, 0xc028aa03, uffdio_copy, 40);
CL_UFFDIO(UFFDIO_ZEROPAGE, 0xc020aa04, uffdio_zeropage, 32);
CL_UFFDIO(UFFDIO_MOVE, 0xc028aa05, uffdio_move, 40);
CL_UFFDIO(UFFDIO_WRITEPROTECT, 0xc018aa06, uffdio_writeprotect, 24);
CL_UFFDIO(UFFDIO_CONTINUE, 0xc020aa07, uffdio_continue, 32);
CL_UFFDIO(UFFDIO_POISON, 0xc020aa08, uffdio_poison, 32);
CL_UFFDIO(UFFDIO_RWPROTECT, 0xc018aa09, uffdio_rwprotect, 24);
CL_UFFDIO(UFFDIO_SET_MODE, 0x4010aa0a, uffdio_set_mode, 16);
#undef CL_UFFDIO
_Static_assert(USERFAULTFD_IOC_NEW == 0xaa00, "USERFAULTFD_IOC_NEW");
CL_CONST(unsigned long, USERFAULTFD_IOC_NEW);

// The bit of an operation in the `ioctls` that UFFDIO_API and UFFDIO_REGISTER answer.
#define CL_UFFDIO_BIT(name) static const uint64_t CL_UFFDIO_BIT_##name = (uint64_t)1 << _UFFDIO_##name
CL_UFFDIO_BIT(REGISTER);
CL_UFFDIO_BIT(UNREGISTER);
CL_UFFDIO_BIT(WAKE);
CL_UFFDIO_BIT(COPY);
CL_UFFDIO_BIT(ZEROPAGE);
CL_UFFDIO_BIT(MOVE);
CL_UFFDIO_BIT(WRITEPROTECT);
CL_UFFDIO_BIT(CONTINUE);
CL_UFFDIO_BIT(POISON);
CL_UFFDIO_BIT(RWPROTECT);
CL_UFFDIO_BIT(SET_MODE);
CL_UFFDIO_BIT(API);
#undef CL_UFFDIO_BIT

CL_CONST(uint64_t, UFFD_API);

#define CL_UFFD_FEATURE(name, bit)                                 \
    _Static_assert((name) == 1 << (bit), #name);                   \
    static const uint64_t CL_##name = (uint64_t)(name)
CL_UFFD_FEATURE(UFFD_FEATURE_PAGEFAULT_FLAG_WP, 0);
CL_UFFD_FEATURE(UFFD_FEATURE_EVENT_FORK, 1);
CL_UFFD_FEATURE(UFFD_FEATURE_EVENT_REMAP, 2);
CL_UFFD_FEATURE(UFFD_FEATURE_EVENT_REMOVE, 3);
CL_UFFD_FEATURE(UFFD_FEATURE_MISSING_HUGETLBFS, 4);
CL_UFFD_FEATURE(UFFD_FEATURE_MISSING_SHMEM, 5);
CL_UFFD_FEATURE(UFFD_FEATURE_EVENT_UNMAP, 6);
CL_UFFD_FEATURE(UFFD_FEATURE_SIGBUS, 7);
CL_UFFD_FEATURE(UFFD_FEATURE_THREAD_ID, 8);
CL_UFFD_FEATURE(UFFD_FEATURE_MINOR_HUGETLBFS, 9);
CL_UFFD_FEATURE(UFFD_FEATURE_MINOR_SHMEM, 10);
CL_UFFD_FEATURE(UFFD_FEATURE_EXACT_ADDRESS, 11);
CL_UFFD_FEATURE(UFFD_FEATURE_WP_HUGETLBFS_SHMEM, 12);
CL_UFFD_FEATURE(UFFD_FEATURE_WP_UNPOPULATED, 13);
CL_UFFD_FEATURE(UFFD_FEATURE_POISON, 14);
CL_UFFD_FEATURE(UFFD_FEATURE_WP_ASYNC, 15);
CL_UFFD_FEATURE(UFFD_FEATURE_MOVE, 16);
CL_UFFD_FEATURE(UFFD_FEATURE_RWP, 17);
CL_UFFD_FEATURE(UFFD_FEATURE_RWP_ASYNC, 18);
#undef CL_UFFD_FEATURE

CL_CONST(uint8_t, UFFD_EVENT_PAGEFAULT);
CL_CONST(uint8_t, UFFD_EVENT_FORK);
CL_CONST(uint8_t, UFFD_EVENT_REMAP);
CL_CONST(uint8_t, UFFD_EVENT_REMOVE);
CL_CONST(uint8_t, UFFD_EVENT_UNMAP);

CL_CONST(uint64_t, UFFD_PAGEFAULT_FLAG_WP);
CL_CONST(uint64_t, UFFD_PAGEFAULT_FLAG_MINOR);

CL_CONST(uint64_t, UFFDIO_REGISTER_MODE_MISSING);
CL_CONST(uint64_t, UFFDIO_REGISTER_MODE_WP);
CL_CONST(uint64_t, UFFDIO_REGISTER_MODE_MINOR);
CL_CONST(uint64_t, UFFDIO_COPY_MODE_WP);
CL_CONST(uint64_t, UFFDIO_WRITEPROTECT_MODE_WP);
CL_CONST(uint64_t, UFFDIO_CONTINUE_MODE_WP);

#endif
