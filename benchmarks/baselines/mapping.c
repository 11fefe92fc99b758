/* What the baselines have in common: memory, and a userfaultfd on it. */
#include "baseline.h"
#include "../bench.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

struct mapping mapping_create(enum kind kind, size_t length, int fd) {
    struct mapping mapping = {.length = length, .fd = fd};
    mapping.page = kind == KIND_HUGETLB ? HUGE_PAGE : PAGE;
    if (kind != KIND_ANON) {
        mapping.fd = fd >= 0 ? dup(fd)
                             : memfd_create("baseline",
                                            MFD_CLOEXEC | (kind == KIND_HUGETLB ? MFD_HUGETLB : 0));
        check(mapping.fd >= 0);
        check(fd >= 0 || ftruncate(mapping.fd, (off_t)length) == 0);
    }
    int flags = kind == KIND_ANON ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE : MAP_SHARED;
    mapping.address = mmap(NULL, length, PROT_READ | PROT_WRITE, flags, mapping.fd, 0);
    check(mapping.address != MAP_FAILED);
    return mapping;
}

void mapping_destroy(struct mapping *mapping) {
    check(munmap(mapping->address, mapping->length) == 0);
    if (mapping->fd >= 0)
        close(mapping->fd);
}

int uffd_register(const struct mapping *mapping) {
    int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    check(device >= 0);
    int uffd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
    check(uffd >= 0);
    close(device);
    struct uffdio_api api = {.api = UFFD_API};
    if (mapping->fd >= 0)
        api.features = mapping->page == PAGE
                           ? UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM
                           : UFFD_FEATURE_MISSING_HUGETLBFS | UFFD_FEATURE_MINOR_HUGETLBFS;
    check(ioctl(uffd, UFFDIO_API, &api) == 0);
    struct uffdio_register range = {
        .range = {.start = (uintptr_t)mapping->address, .len = mapping->length},
        .mode = UFFDIO_REGISTER_MODE_MISSING | (mapping->fd >= 0 ? UFFDIO_REGISTER_MODE_MINOR : 0),
    };
    check(ioctl(uffd, UFFDIO_REGISTER, &range) == 0);
    return uffd;
}

void loop_stop(struct loop *loop) {
    /* poll() is a cancellation point: no second descriptor has to be polled for each fault. */
    check(pthread_cancel(loop->thread) == 0);
    check(pthread_join(loop->thread, NULL) == 0);
    close(loop->uffd);
}
