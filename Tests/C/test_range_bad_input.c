/* Ranges that are refused, calls at the wrong time, and what is said without the right to serve. */
#include "support.h"

#include <sys/prctl.h>

/* Outside the region: the header leaves the number open between these two. */
static void check_outside(int error, const char *call) {
    CHECK(error == -EINVAL || error == -ERANGE);
    if (!strcasestr(guestram_error(), "offset")) check_says(guestram_error(), "length", call);
}

static void every_range(vm_t *vm, uint64_t offset, uint64_t length, void (*check)(int, const char *)) {
    static uint8_t bytes[MIB];
    uint64_t done;
    guestram_t *m = vm->memory;
    uint32_t r = vm->region;
#define RANGE(call) check(call, #call)
    RANGE(guestram_prefetch(m, r, offset, length));
    RANGE(guestram_discard(m, r, offset, length));
    RANGE(guestram_collapse(m, r, offset, length));
    RANGE(guestram_copy(m, r, offset, bytes, length, &done));
    RANGE(guestram_zeropage(m, r, offset, length, &done));
    RANGE(guestram_continue(m, r, offset, length, &done));
    RANGE(guestram_poison(m, r, offset, length, &done));
    RANGE(guestram_writeprotect(m, r, offset, length, 1));
    RANGE(guestram_dirty_merge(m, r, offset, length, (uint64_t *)(void *)bytes));
    RANGE(guestram_dirty_read(m, r, offset, length, (uint64_t *)(void *)bytes, 0));
}

static void check_offset(int error, const char *call) {
    CHECK_EQ(error, -EINVAL);
    check_says(guestram_error(), "offset", call);
}

static void check_length(int error, const char *call) {
    CHECK_EQ(error, -EINVAL);
    check_says(guestram_error(), "length", call);
}

static void check_region(int error, const char *call) {
    CHECK_EQ(error, -ENOENT);
    check_says(guestram_error(), "region", call);
}

TEST(ranges_unaligned_outside_and_overflowing) {
    vm_t vm = vm_empty(&SHMEM, 64);
    every_range(&vm, 1, PAGE, check_offset);
    every_range(&vm, PAGE / 2, PAGE, check_offset);
    every_range(&vm, 0, PAGE + 1, check_length);
    every_range(&vm, 0, 8, check_length);
    every_range(&vm, vm.length, PAGE, check_outside);
    every_range(&vm, vm.length - PAGE, 2 * PAGE, check_outside);
    every_range(&vm, PAGE, UINT64_MAX - PAGE + 1, check_outside);
    every_range(&vm, UINT64_MAX - PAGE + 1, PAGE, check_outside);
    every_range(&vm, UINT64_MAX - PAGE + 1, 2 * PAGE, check_outside);
    CHECK_EQ(vm_info(&vm).present, 0);
    vm.region += 7;
    every_range(&vm, 0, PAGE, check_region);
    vm_destroy(&vm);
}

TEST(ranges_by_guest_physical_address_must_be_covered) {
    vm_t vm = vm_empty(&SHMEM, 64);
    static const uint8_t bytes[4 * PAGE] = {1, 2, 3};
    guestram_slot_t slot = {.size = sizeof slot, .guest_physical = 4 * GIB, .length = 32 * PAGE, .offset = 8 * PAGE,
                            .region = vm.region};
    uint64_t done = 1;
    REQUIRE(guestram_slot_add(vm.memory, &slot) == 0);
    CHECK(guestram_copy(vm.memory, GUESTRAM_GUEST_PHYSICAL, 0, bytes, PAGE, &done) < 0);
    check_says(guestram_error(), "slot", "guestram_copy below the slot");
    CHECK_EQ(done, 0);
    CHECK(guestram_copy(vm.memory, GUESTRAM_GUEST_PHYSICAL, 4 * GIB + 30 * PAGE, bytes, 4 * PAGE, &done) < 0);
    CHECK_EQ(guestram_copy(vm.memory, GUESTRAM_GUEST_PHYSICAL, 4 * GIB + PAGE, bytes, PAGE, &done), 0);
    CHECK_EQ(done, PAGE);
    CHECK_EQ(memcmp(vm.address + 9 * PAGE, bytes, PAGE), 0);
    vm_destroy(&vm);
}

TEST(range_arguments) {
    vm_t vm = vm_empty(&ANON, 64);
    guestram_t *m = vm.memory;
    uint64_t done, bits = 0;
    CHECK_FAILS(guestram_copy(m, vm.region, 0, NULL, PAGE, &done), EINVAL, "source");
    CHECK_FAILS(guestram_writeprotect(m, vm.region, 0, PAGE, 2), EINVAL, "protect");
    CHECK_FAILS(guestram_dirty_merge(m, vm.region, 0, PAGE, NULL), EINVAL, "bitmap");
    CHECK_FAILS(guestram_dirty_read(m, vm.region, 0, PAGE, NULL, 0), EINVAL, "bitmap");
    CHECK_FAILS(guestram_dirty_read(m, vm.region, 0, PAGE, &bits, 2), EINVAL, "clear");
    CHECK_FAILS(guestram_move(m, vm.region, 0, vm.region + 1, 0, PAGE, &done), ENOENT, "source_region");
    CHECK_FAILS(guestram_move(m, vm.region, 0, vm.region, 1, PAGE, &done), EINVAL, "source_offset");
    CHECK_FAILS(guestram_move(m, vm.region, 0, vm.region, PAGE, 2 * PAGE, &done), EINVAL, "overlap");
    CHECK_FAILS(guestram_move(m, vm.region, PAGE, vm.region, PAGE, PAGE, &done), EINVAL, "overlap");
    CHECK_FAILS(guestram_copy(m, vm.region, 0, (void *)8, PAGE, &done), EFAULT, "source");
    CHECK_FAILS(guestram_stop(m, 2), EINVAL, "flags");
    guestram_latency_t latency = {.size = sizeof latency};
    CHECK_FAILS(guestram_latency(m, 10, &latency), EINVAL, "which");
    guestram_event_t event = {.size = sizeof event};
    CHECK_EQ(guestram_next_event(m, &event), -EAGAIN);
    vm_destroy(&vm);
}

static void check_not_started(int error, const char *call) {
    CHECK_EQ(error, -ENOTCONN);
    check_says(guestram_error(), "guestram_start", call);
}

TEST(operations_before_start_are_refused) {
    guestram_t *memory = NULL;
    REQUIRE(guestram_create(NULL, &memory) == 0);
    vm_t vm = vm_add(memory, &SHMEM, MIB, GUESTRAM_REGION_USERFAULT);
    static const uint8_t bytes[PAGE];
    uint64_t done = 7;
    check_not_started(guestram_copy(memory, vm.region, 0, bytes, PAGE, &done), "guestram_copy");
    CHECK_EQ(done, 0);
    check_not_started(guestram_zeropage(memory, vm.region, 0, PAGE, NULL), "guestram_zeropage");
    check_not_started(guestram_writeprotect(memory, vm.region, 0, PAGE, 1), "guestram_writeprotect");
    check_not_started(guestram_background_fill(memory, UINT64_MAX), "guestram_background_fill");
    vm_destroy(&vm);
}

TEST(operations_without_userfault_are_refused) {
    guestram_t *memory = NULL;
    REQUIRE(guestram_create(NULL, &memory) == 0);
    vm_t vm = vm_add(memory, &SHMEM, MIB, 0);
    REQUIRE(guestram_start(memory) == 0);
    CHECK_FAILS(guestram_zeropage(memory, vm.region, 0, PAGE, NULL), ENOTCONN, "USERFAULT");
    CHECK_EQ(vm_info(&vm).fill, GUESTRAM_FILL_NONE);
    CHECK_EQ(vm_info(&vm).modes, 0);
    vm_destroy(&vm);
}

TEST(start_twice) {
    vm_t vm = vm_empty(&ANON, 16);
    CHECK_FAILS(guestram_start(vm.memory), EALREADY, "already");
    vm_destroy(&vm);
}

static void check_stopped(int error, const char *call) {
    CHECK_EQ(error, -ESHUTDOWN);
    check_says(guestram_error(), "stop", call);
}

TEST(use_after_stop) {
    vm_t vm = vm_restored(&SHMEM, 64, NULL);
    CHECK_FAILS(guestram_stop(vm.memory, GUESTRAM_STOP_IF_RESIDENT), EBUSY, "absent");
    CHECK_EQ(guestram_stop(vm.memory, 0), 0);
    static const uint8_t bytes[PAGE];
    check_stopped(guestram_copy(vm.memory, vm.region, 0, bytes, PAGE, NULL), "guestram_copy");
    check_stopped(guestram_prefetch(vm.memory, vm.region, 0, PAGE), "guestram_prefetch");
    check_stopped(guestram_discard(vm.memory, vm.region, 0, PAGE), "guestram_discard");
    check_stopped(guestram_background_fill(vm.memory, 1), "guestram_background_fill");
    check_stopped(guestram_start(vm.memory), "guestram_start");
    CHECK_EQ(vm_info(&vm).granules, 64);
    CHECK(vm_stats(&vm).pages_total == 64);
    vm_destroy(&vm);
}

TEST(restore_arguments) {
    const char *directory = scratch("snapshot");
    save_pattern(directory, MIB, PAGE, 1);
    guestram_snapshot_t *snapshot = opened(directory);
    guestram_t *memory = NULL;
    REQUIRE(guestram_create(NULL, &memory) == 0);
    guestram_restore_options_t options = {.size = sizeof options, .mode = 2};
    CHECK_FAILS(guestram_restore(memory, snapshot, &options), EINVAL, "mode");
    options = (guestram_restore_options_t){.size = sizeof options, .flags = 2};
    CHECK_FAILS(guestram_restore(memory, snapshot, &options), EINVAL, "flags");
    options.size = 0;
    CHECK_FAILS(guestram_restore(memory, snapshot, &options), EINVAL, "size");

    vm_t vm = vm_add(memory, &ANON, 2 * MIB, 0);
    CHECK_FAILS(guestram_restore(memory, snapshot, NULL), EINVAL, "ram");
    CHECK_EQ(guestram_region_remove(memory, vm.region), 0);
    vm = vm_add(memory, &ANON, MIB, 0);
    CHECK_EQ(guestram_restore(memory, snapshot, NULL), 0);
    CHECK_FAILS(guestram_restore(memory, snapshot, NULL), EBUSY, "ram");
    CHECK_EQ(guestram_start(memory), 0);
    CHECK(guestram_restore(memory, snapshot, NULL) < 0);
    check_says(guestram_error(), "start", "guestram_restore after guestram_start");
    guestram_snapshot_close(snapshot);
    CHECK_EQ(vm_mismatch(&(vm_t){.address = vm.address, .length = MIB, .granule = PAGE, .seed = 1}), -1);
    vm_destroy(&vm);
}

/* Root's rights, and with them CAP_SYS_PTRACE and /dev/userfaultfd, are given up for good. */
TEST(without_the_right_to_open_a_userfaultfd) {
    int setting = -1, file = open("/proc/sys/vm/unprivileged_userfaultfd", O_RDONLY | O_CLOEXEC);
    char digit = '0';
    if (file >= 0 && read(file, &digit, 1) == 1) setting = digit - '0';
    close(file);
    if (setting != 0) SKIP("vm.unprivileged_userfaultfd lets everybody open one");
    if (setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0)
        SKIP("not root: there are no rights to give up");
    if (access("/dev/userfaultfd", R_OK | W_OK) == 0) SKIP("/dev/userfaultfd is open to everybody");

    guestram_t *memory = NULL;
    uint32_t id;
    guestram_region_options_t o = region_options(&SHMEM, MIB);
    o.flags = GUESTRAM_REGION_USERFAULT;
    REQUIRE(guestram_create(NULL, &memory) == 0);
    int error = guestram_region_add(memory, &o, &id);
    if (error == 0) error = guestram_start(memory);
    CHECK_EQ(error, -EPERM);
    check_says(guestram_error(), "/dev/userfaultfd", "guestram_start");
    check_says(guestram_error(), "vm.unprivileged_userfaultfd", "guestram_start");
    check_says(guestram_error(), "CAP_SYS_PTRACE", "guestram_start");

    guestram_probe_t probe = {.size = sizeof probe};
    char text[16384];
    CHECK_EQ(guestram_probe(&probe), 0);
    CHECK_EQ(probe.userfaultfd, -EPERM);
    CHECK_EQ(probe.kernel_faults, 0);
    CHECK(guestram_probe_text(text, sizeof text) > 0);
    check_says(text, "CAP_SYS_PTRACE", "guestram_probe_text");
    guestram_destroy(memory);
}
