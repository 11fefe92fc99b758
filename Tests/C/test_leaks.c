/* Nothing is left of a memory that was destroyed, nor of a call that failed. */
#include "support.h"

struct count {
    size_t fds, threads, mappings, rss_kib;
};

static struct count count(void) {
    return (struct count){harness_fds(), harness_threads(), harness_mappings(), harness_rss_kib()};
}

static void check_as_before(struct count before, size_t rss_slack_kib) {
    struct count after = count();
    CHECK_EQ(after.fds, before.fds);
    CHECK_EQ(after.threads, before.threads);
    CHECK(after.mappings <= before.mappings);
    CHECK(after.rss_kib <= before.rss_kib + rss_slack_kib);
    if (after.mappings > before.mappings || after.rss_kib > before.rss_kib + rss_slack_kib)
        printf("%zu -> %zu mappings, %zu -> %zu KiB\n", before.mappings, after.mappings, before.rss_kib, after.rss_kib);
}

static void one_round(unsigned round, const guestram_options_t *options) {
    static const variant_t *const variants[] = {&ANON, &SHMEM, &SHMEM_PRIVATE};
    guestram_t *memory = NULL;
    REQUIRE(guestram_create(options, &memory) == 0);
    vm_t vm = vm_add(memory, variants[round % 3], 24 * PAGE, 0);
    restore(memory, scratch("snapshot"), round % 5 == 4 ? GUESTRAM_RESTORE_EAGER : GUESTRAM_RESTORE_LAZY);
    if (round % 7 != 6) { /* also without ever serving */
        REQUIRE(guestram_start(memory) == 0);
        uint64_t value, at = round % 24 * PAGE;
        CHECK_EQ(touch_read(vm.address + at, &value), 0);
        CHECK_EQ(value, pattern_word(at, PAGE, VM_SEED));
    }
    vm_destroy(&vm);
}

static void rounds(unsigned rounds, const guestram_options_t *options) {
    for (unsigned round = 0; round < rounds; round++) one_round(round, options);
}

TEST(a_thousand_rounds_leave_nothing, .seconds = 120) {
    save_pattern(scratch("snapshot"), 24 * PAGE, PAGE, VM_SEED);
    rounds(50, NULL); /* the allocator's own growth, thread stacks kept by libc */
    struct count before = count();
    rounds(1000, NULL);
    check_as_before(before, 1024);
}

TEST(a_thousand_rounds_on_one_pool, .seconds = 120) {
    guestram_pool_options_t pool_options = {.size = sizeof pool_options, .workers = 2};
    guestram_options_t options = {.size = sizeof options};
    save_pattern(scratch("snapshot"), 24 * PAGE, PAGE, VM_SEED);
    struct count without = count();
    REQUIRE(guestram_pool_create(&pool_options, &options.pool) == 0);
    rounds(50, &options);
    struct count before = count();
    rounds(1000, &options);
    check_as_before(before, 1024);
    CHECK_EQ(guestram_pool_destroy(options.pool), 0);
    CHECK_EQ(count().fds, without.fds);
    CHECK_EQ(count().threads, without.threads);
}

TEST(hotplug_rounds_leave_nothing) {
    vm_t vm = vm_restored(&SHMEM, 64, NULL);
    struct count before = {0};
    for (unsigned round = 0; round < 550; round++) {
        if (round == 50) before = count();
        guestram_region_options_t o = region_options(round % 2 ? &ANON : &SHMEM, 64 * PAGE);
        uint32_t id = 0;
        o.name = "dimm";
        o.flags |= GUESTRAM_REGION_USERFAULT;
        CHECK_EQ(guestram_region_add(vm.memory, &o, &id), 0);
        guestram_region_info_t info = {.size = sizeof info};
        CHECK_EQ(guestram_region_info(vm.memory, id, &info), 0);
        CHECK_EQ(touch_write((uint8_t *)info.host_address + round % 64 * PAGE, 1), 0);
        CHECK_EQ(guestram_region_remove(vm.memory, id), 0);
    }
    check_as_before(before, 512);
    vm_destroy(&vm);
}

TEST(failed_calls_leave_nothing) {
    save_pattern(scratch("snapshot"), 24 * PAGE, PAGE, VM_SEED);
    guestram_snapshot_t *snapshot = opened(scratch("snapshot"));
    int closed = memfd_create("closed", MFD_CLOEXEC), small = memfd_create("small", MFD_CLOEXEC);
    close(closed);
    struct count before = {0};
    for (unsigned round = 0; round < 550; round++) {
        if (round == 50) before = count();
        guestram_t *memory = NULL;
        guestram_snapshot_t *none = NULL;
        uint32_t id = 0;
        guestram_options_t bad = {.size = sizeof bad, .retries = 1000};
        CHECK(guestram_create(&bad, &memory) < 0);
        REQUIRE(guestram_create(NULL, &memory) == 0);
        guestram_region_options_t o = region_options(&SHMEM, MIB);
        o.flags = GUESTRAM_REGION_FD;
        o.fd = closed == small ? -1 : closed;
        CHECK(guestram_region_add(memory, &o, &id) < 0);
        o.fd = small;
        CHECK(guestram_region_add(memory, &o, &id) < 0);
        o.flags = 0;
        o.length = UINT64_C(1) << 62;
        CHECK(guestram_region_add(memory, &o, &id) < 0);
        o.length = MIB; /* not the snapshot's */
        CHECK_EQ(guestram_region_add(memory, &o, &id), 0);
        CHECK(guestram_restore(memory, snapshot, NULL) < 0);
        CHECK(guestram_snapshot_open(scratch("none"), &none) < 0);
        CHECK(guestram_save(memory, scratch("snapshot"), NULL) < 0);
        CHECK(guestram_save(memory, "/proc/no", NULL) < 0);
        guestram_destroy(memory);
    }
    check_as_before(before, 512);
    guestram_snapshot_close(snapshot);
    close(small);
}

TEST(snapshots_opened_and_closed_leave_nothing) {
    save_pattern(scratch("snapshot"), 24 * PAGE, PAGE, VM_SEED);
    struct count before = {0};
    for (unsigned round = 0; round < 1050; round++) {
        if (round == 50) before = count();
        guestram_snapshot_close(opened(scratch("snapshot")));
    }
    check_as_before(before, 512);
}
