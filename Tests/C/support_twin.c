/* Raw userfaultfd: what the kernel itself answers. Constants newer than Debian 12's headers are
 * written down here once more, so that a wrong one in the library cannot hide. */
#include "support.h"

#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif
#ifndef UFFDIO_POISON
#define _UFFDIO_POISON 0x08
struct uffdio_poison {
    struct uffdio_range range;
    __u64 mode;
    __s64 updated;
};
#define UFFDIO_POISON _IOWR(UFFDIO, _UFFDIO_POISON, struct uffdio_poison)
#endif
#ifndef UFFDIO_MOVE
#define _UFFDIO_MOVE 0x05
struct uffdio_move {
    __u64 dst, src, len, mode;
    __s64 move;
};
#define UFFDIO_MOVE _IOWR(UFFDIO, _UFFDIO_MOVE, struct uffdio_move)
#endif
#define FEATURE_POISON (UINT64_C(1) << 14)
#define FEATURE_WP_ASYNC (UINT64_C(1) << 15)
#define FEATURE_MOVE (UINT64_C(1) << 16)
#define FEATURES_KNOWN ((UINT64_C(1) << 17) - 1)
#define FEATURES_UNWANTED                                                                  \
    (UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE |      \
     UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_SIGBUS | FEATURE_WP_ASYNC)

static int new_userfaultfd(void) {
    int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    int uffd = -1;
    if (device >= 0) {
        uffd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
        close(device);
    }
    if (uffd < 0) uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    return uffd < 0 ? -errno : uffd;
}

int raw_userfaultfd(uint64_t *features) {
    int uffd = new_userfaultfd();
    if (uffd < 0) return uffd;
    struct uffdio_api api = {.api = UFFD_API};
    if (ioctl(uffd, UFFDIO_API, &api) < 0) goto failed;
    close(uffd);
    /* UFFDIO_API works once per descriptor. */
    uffd = new_userfaultfd();
    if (uffd < 0) return uffd;
    uint64_t wanted = api.features & FEATURES_KNOWN & ~(uint64_t)FEATURES_UNWANTED;
    api = (struct uffdio_api){.api = UFFD_API, .features = wanted};
    if (ioctl(uffd, UFFDIO_API, &api) < 0) goto failed;
    *features = wanted;
    return uffd;
failed:;
    int error = -errno;
    close(uffd);
    return error;
}

static uint64_t kernel_features(void) {
    uint64_t features = 0;
    int uffd = raw_userfaultfd(&features);
    if (uffd >= 0) close(uffd);
    return features;
}

bool kernel_poisons(void) { return kernel_features() & FEATURE_POISON; }

uint32_t kernel_modes(const variant_t *variant) {
    uint64_t features = kernel_features();
    bool anon = variant->type == GUESTRAM_ANON, huge = variant->type == GUESTRAM_HUGETLB;
    uint64_t minor = anon ? 0 : huge ? UFFD_FEATURE_MINOR_HUGETLBFS : UFFD_FEATURE_MINOR_SHMEM;
    uint64_t wp = anon ? UFFD_FEATURE_PAGEFAULT_FLAG_WP : UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
    return GUESTRAM_MODE_MISSING | (features & minor ? GUESTRAM_MODE_MINOR : 0) | (features & wp ? GUESTRAM_MODE_WP : 0);
}

uint32_t kernel_operations(const variant_t *variant) {
    uint64_t features = kernel_features();
    uint32_t modes = kernel_modes(variant), operations = 1u << GUESTRAM_OP_COPY;
    if (variant->type != GUESTRAM_HUGETLB) operations |= 1u << GUESTRAM_OP_ZEROPAGE;
    if (modes & GUESTRAM_MODE_MINOR) operations |= 1u << GUESTRAM_OP_CONTINUE;
    if (features & FEATURE_POISON) operations |= 1u << GUESTRAM_OP_POISON;
    if (features & FEATURE_MOVE && variant->type == GUESTRAM_ANON) operations |= 1u << GUESTRAM_OP_MOVE;
    if (modes & GUESTRAM_MODE_WP) operations |= 1u << GUESTRAM_OP_WRITEPROTECT;
    return operations;
}

int variant_map(const variant_t *variant, uint64_t length, int *fd, uint8_t **address) {
    bool huge = variant->type == GUESTRAM_HUGETLB;
    bool private = variant->type == GUESTRAM_ANON || (variant->flags & GUESTRAM_REGION_PRIVATE);
    int flags = private ? MAP_PRIVATE : MAP_SHARED;
    *fd = -1;
    if (variant->type == GUESTRAM_ANON || strcmp(variant->name, HUGETLB_ANON.name) == 0) {
        flags |= MAP_ANONYMOUS | (huge ? MAP_HUGETLB | (21 << MAP_HUGE_SHIFT) : 0);
    } else {
        *fd = memfd_create("twin", MFD_CLOEXEC | (huge ? MFD_HUGETLB | (21 << MAP_HUGE_SHIFT) : MFD_ALLOW_SEALING));
        if (*fd < 0) return -errno;
        if (ftruncate(*fd, (off_t)length) < 0) goto failed;
    }
    void *mapped = mmap(NULL, length, PROT_READ | PROT_WRITE, flags, *fd, 0);
    if (mapped == MAP_FAILED) goto failed;
    *address = mapped;
    return 0;
failed:;
    int error = -errno;
    if (*fd >= 0) close(*fd);
    return error;
}

int raw_register(twin_t *twin, uint32_t modes) {
    uint64_t features;
    twin->uffd = raw_userfaultfd(&features);
    if (twin->uffd < 0) return twin->uffd;
    struct uffdio_register range = {.range = {(uintptr_t)twin->address, twin->length}, .mode = modes};
    return ioctl(twin->uffd, UFFDIO_REGISTER, &range) < 0 ? -errno : 0;
}

int twin_open(twin_t *twin, const variant_t *variant, uint64_t length, uint32_t modes) {
    *twin = (twin_t){.uffd = -1, .fd = -1, .length = length};
    int error = variant_map(variant, length, &twin->fd, &twin->address);
    if (error < 0) return error;
    if (twin->fd >= 0) {
        void *alias = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, twin->fd, 0);
        if (alias == MAP_FAILED) error = -errno;
        else twin->alias = alias;
    }
    if (error == 0) error = raw_register(twin, modes);
    if (error < 0) twin_close(twin);
    return error;
}

void twin_close(twin_t *twin) {
    if (twin->uffd >= 0) close(twin->uffd);
    if (twin->address) munmap(twin->address, twin->length);
    if (twin->alias) munmap(twin->alias, twin->length);
    if (twin->fd >= 0) close(twin->fd);
    *twin = (twin_t){.uffd = -1, .fd = -1};
}

int raw_operation(int uffd, uint32_t operation, void *address, const void *source, uint64_t length) {
    uint64_t at = (uintptr_t)address, from = (uintptr_t)source;
    switch (operation) {
    case GUESTRAM_OP_COPY: {
        struct uffdio_copy op = {.dst = at, .src = from, .len = length};
        return ioctl(uffd, UFFDIO_COPY, &op) < 0 ? -errno : 0;
    }
    case GUESTRAM_OP_ZEROPAGE: {
        struct uffdio_zeropage op = {.range = {at, length}};
        return ioctl(uffd, UFFDIO_ZEROPAGE, &op) < 0 ? -errno : 0;
    }
    case GUESTRAM_OP_CONTINUE: {
        struct uffdio_continue op = {.range = {at, length}};
        return ioctl(uffd, UFFDIO_CONTINUE, &op) < 0 ? -errno : 0;
    }
    case GUESTRAM_OP_POISON: {
        struct uffdio_poison op = {.range = {at, length}};
        return ioctl(uffd, UFFDIO_POISON, &op) < 0 ? -errno : 0;
    }
    case GUESTRAM_OP_MOVE: {
        struct uffdio_move op = {.dst = at, .src = from, .len = length};
        return ioctl(uffd, UFFDIO_MOVE, &op) < 0 ? -errno : 0;
    }
    case GUESTRAM_OP_WRITEPROTECT: return raw_writeprotect(uffd, address, length, true);
    default: return -ENOSYS;
    }
}

int raw_writeprotect(int uffd, void *address, uint64_t length, bool protect) {
    struct uffdio_writeprotect op = {.range = {(uintptr_t)address, length},
                                     .mode = protect ? UFFDIO_WRITEPROTECT_MODE_WP : 0};
    return ioctl(uffd, UFFDIO_WRITEPROTECT, &op) < 0 ? -errno : 0;
}
