/* fill.*: how long until all of a GiB is there. */
#include "bench.h"

#include <CLinux.h> /* guest_memfd, which Debian 12's kernel headers do not have */
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

struct fill {
    unsigned threads;
    bool cold;
};

static void run_ours(const void *argument, double metrics[MAX_METRICS]) {
    const struct fill *fill = argument;
    if (fill->cold)
        snapshot_cold();
    memory_warm(snapshot()->length);
    struct ours ours;
    struct ours_options options = {
        .type = GUESTRAM_SHMEM, .workers = fill->threads, .fillers = fill->threads};
    ours_prepare(&ours, &options);
    ours_start(&ours);
    uint64_t before = now_ns();
    call(guestram_background_fill(ours.memory, UINT64_MAX));
    call(guestram_wait_resident(ours.memory, -1));
    metrics[0] = (double)(now_ns() - before) / 1e6;
    pattern_verify_all(ours.address, ours.length);
    ours_stop(&ours);
}

struct copy {
    int uffd;
    struct mapping mapping;
    const uint8_t *source;
};

static void *copy_main(void *argument) {
    struct copy *copy = argument;
    floor_copy(copy->uffd, copy->mapping.address, copy->source, copy->mapping.length, HUGE_PAGE);
    return NULL;
}

/* In a thread of its own, as ours: one that the scheduler puts where it likes. */
static void run_floor(const void *argument, double metrics[MAX_METRICS]) {
    const struct fill *fill = argument;
    if (fill->cold)
        snapshot_cold();
    memory_warm(snapshot()->length);
    struct mapping mapping = mapping_create(KIND_SHMEM, snapshot()->length, -1);
    struct copy copy = {uffd_register(&mapping), mapping, snapshot_map()};
    pthread_t thread;
    uint64_t before = now_ns();
    check(pthread_create(&thread, NULL, copy_main, &copy) == 0);
    check(pthread_join(thread, NULL) == 0);
    metrics[0] = (double)(now_ns() - before) / 1e6;
    pattern_verify_all(mapping.address, mapping.length);
    snapshot_unmap(copy.source);
    close(copy.uffd);
    mapping_destroy(&mapping);
}

static void run_direct(const void *argument, double metrics[MAX_METRICS]) {
    (void)argument;
    snapshot_cold();
    uint64_t before = now_ns();
    floor_read_direct(snapshot()->memory, snapshot()->offset, snapshot()->length);
    metrics[0] = (double)(now_ns() - before) / 1e6;
}

/* ------------------------------------------------------------------------------ guest_memfd -- */

static int vm_fd = -1;

static int gmem_create(void) {
    struct kvm_create_guest_memfd create = {
        .size = snapshot()->length, .flags = GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED};
    return ioctl(vm_fd, KVM_CREATE_GUEST_MEMFD, &create);
}

static const char *no_guest_memfd(void) {
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (kvm < 0)
        return "/dev/kvm cannot be opened";
    vm_fd = ioctl(kvm, KVM_CREATE_VM, 0);
    close(kvm);
    int both = vm_fd < 0 ? 0 : ioctl(vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_GUEST_MEMFD_FLAGS);
    if (both >= 3)
        return NULL;
    close(vm_fd);
    return "this KVM has no guest_memfd that can be mapped and is shared at first";
}

static void close_vm(void) { close(vm_fd); }

static void run_ours_gmem(const void *argument, double metrics[MAX_METRICS]) {
    (void)argument;
    memory_warm(snapshot()->length);
    struct ours ours;
    struct ours_options options = {
        .type = GUESTRAM_GUEST_MEMFD, .vm_fd = vm_fd, .mode = GUESTRAM_RESTORE_EAGER};
    ours_prepare(&ours, &options);
    uint64_t before = now_ns();
    ours_start(&ours);
    metrics[0] = (double)(now_ns() - before) / 1e6;
    pattern_verify_all(ours.address, ours.length);
    ours_stop(&ours);
}

static void run_memcpy_gmem(const void *argument, double metrics[MAX_METRICS]) {
    (void)argument;
    memory_warm(snapshot()->length);
    int fd = gmem_create();
    check(fd >= 0);
    uint8_t *memory = mmap(NULL, snapshot()->length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    check(memory != MAP_FAILED);
    const uint8_t *source = snapshot_map();
    uint64_t before = now_ns();
    floor_memcpy(memory, source, snapshot()->length);
    metrics[0] = (double)(now_ns() - before) / 1e6;
    pattern_verify_all(memory, snapshot()->length);
    snapshot_unmap(source);
    check(munmap(memory, snapshot()->length) == 0);
    close(fd);
}

/* ---------------------------------------------------------------------------------- cases -- */

static const struct fill one = {.threads = 1}, two = {.threads = 2};
static const struct fill cold = {.threads = 2, .cold = true};

const struct bench_case case_fill_shmem = {
    .name = "fill.shmem",
    .prepare = snapshot_warm,
    .sides =
        {
            {"floor, COPY of 2 MiB", run_floor, &one},
            {"floor, COPY of 2 MiB", run_floor, &one},
            {"ours", run_ours, &one},
            {"ours", run_ours, &two},
        },
    .rows =
        {
            {"fill.shmem.aa", "ms", 1, 0, 0, 0, true},
            {"fill.shmem.one", "ms", 2, 0, 0, 1.1, false},
            {"fill.shmem.two", "ms", 3, 0, 0, 0.7, false},
        },
    .rounds = 15,
    .quick_rounds = 2,
};

const struct bench_case case_fill_gmem = {
    .name = "fill.gmem",
    .missing = no_guest_memfd,
    .prepare = snapshot_warm,
    .finish = close_vm,
    .sides =
        {
            {"floor, memcpy", run_memcpy_gmem, NULL},
            {"floor, memcpy", run_memcpy_gmem, NULL},
            {"ours", run_ours_gmem, NULL},
        },
    .rows =
        {
            {"fill.gmem.aa", "ms", 1, 0, 0, 0, true},
            {"fill.gmem", "ms", 2, 0, 0, 0.7, false},
        },
    .rounds = 15,
    .quick_rounds = 3,
};

const struct bench_case case_fill_cold = {
    .name = "fill.cold",
    .sides =
        {
            {"floor, O_DIRECT read", run_direct, NULL},
            {"floor, O_DIRECT read", run_direct, NULL},
            {"ours", run_ours, &cold},
            {"floor, COPY of 2 MiB", run_floor, &cold},
            {"floor, COPY of 2 MiB", run_floor, &cold},
        },
    .rows =
        {
            {"fill.cold.direct.aa", "ms", 1, 0, 0, 0, true},
            {"fill.cold.direct", "ms", 2, 0, 0, 0, false},
            {"fill.cold.copy.aa", "ms", 4, 3, 0, 0, true},
            {"fill.cold.copy", "ms", 2, 3, 0, 0, false},
        },
    .rounds = 3,
    .quick_rounds = 1,
};
