/* A source that fails, three ways to answer: never zeros, never a hang, always an event. */
#include "support.h"

#define GRANULES(variant) ((variant)->granule == PAGE ? 64u : 7u)

/* A memory whose snapshot loses all but its first granule after restore. */
static vm_t broken(const variant_t *variant, uint32_t on_error) {
    need_variant(variant);
    guestram_options_t options = {.size = sizeof options, .on_error = on_error, .retries = 2, .window = 4096};
    static char name[16];
    static unsigned count;
    snprintf(name, sizeof name, "broken%u", count++);
    const char *directory = scratch(name);
    uint64_t length = GRANULES(variant) * variant->granule;
    guestram_t *memory = NULL;
    save_pattern(directory, length, variant->granule, VM_SEED);
    REQUIRE(guestram_create(&options, &memory) == 0);
    vm_t vm = vm_add(memory, variant, length, 0);
    restore(memory, directory, GUESTRAM_RESTORE_LAZY);
    cut_memory_file(directory, variant->granule);
    REQUIRE(guestram_start(memory) == 0);
    return vm;
}

static void next_error(vm_t *vm, uint64_t offset) {
    guestram_event_t event = {.size = sizeof event};
    EVENTUALLY(guestram_next_event(vm->memory, &event) == 0);
    CHECK_EQ(event.type, GUESTRAM_EVENT_PAGE_ERROR);
    CHECK_EQ(event.region, vm->region);
    CHECK(event.offset <= offset && offset < event.offset + event.length);
    CHECK(event.error > 0);
}

/* Before Linux 6.6: as with _ASK, and then no access. */
static void waits_without_poison(vm_t *vm) {
    toucher_t toucher;
    toucher_start(&toucher, vm->address + 2 * vm->granule, false, 0);
    next_error(vm, 2 * vm->granule);
    CHECK(!toucher_join(&toucher, 100));
    CHECK_EQ(vm_info(vm).poisoned, 0);
    CHECK_FAILS(guestram_poison(vm->memory, vm->region, 2 * vm->granule, vm->granule, NULL), EOPNOTSUPP, "kernel");
    CHECK_EQ(guestram_stop(vm->memory, 0), 0);
    REQUIRE(toucher_join(&toucher, 5000));
    CHECK_EQ(toucher.result, UNSERVED);
    vm_destroy(vm);
}

static void failing_source_poisons(const variant_t *variant) {
    vm_t vm = broken(variant, GUESTRAM_ON_ERROR_POISON);
    uint64_t g = vm.granule, value = 1;
    if (!kernel_poisons()) {
        waits_without_poison(&vm);
        return;
    }
    CHECK_EQ(touch_read(vm.address + 2 * g, &value), SIGBUS);
    CHECK_EQ(touch_write(vm.address + 2 * g + 8, 3), SIGBUS);
    CHECK(vm_info(&vm).poisoned >= 1);
    CHECK(vm_stats(&vm).source_errors >= 1);
    next_error(&vm, 2 * g);
    /* A hole needs no source. */
    CHECK_EQ(touch_read(vm.address + 3 * g, &value), 0);
    CHECK_EQ(value, 0);
    CHECK_FAILS(guestram_save(vm.memory, scratch("poisoned"), NULL), EIO, "ram"); /* granule 1 is unreadable, 2 poisoned */
    CHECK(access(scratch("poisoned"), F_OK) < 0);
    vm_destroy(&vm);
}
TEST_EVERY_VARIANT(failing_source_poisons)

static void failing_source_is_read_again(const variant_t *variant) {
    vm_t vm = broken(variant, GUESTRAM_ON_ERROR_RETRY);
    uint64_t value = 1;
    if (!kernel_poisons()) {
        waits_without_poison(&vm);
        return;
    }
    CHECK_EQ(touch_read(vm.address + 5 * vm.granule, &value), SIGBUS);
    CHECK(vm_stats(&vm).source_errors >= 3); /* once, and `retries` times */
    next_error(&vm, 5 * vm.granule);
    vm_destroy(&vm);
}
TEST_EVERY_VARIANT(failing_source_is_read_again)

/* The fault waits for the VMM's answer, and each of the answers ends it. */
static void failing_source_asks(const variant_t *variant) {
    vm_t vm = broken(variant, GUESTRAM_ON_ERROR_ASK);
    uint64_t g = vm.granule;
    toucher_t touchers[3];
    static const uint64_t at[] = {1, 2, 4};
    for (unsigned i = 0; i < 3; i++) {
        toucher_start(&touchers[i], vm.address + at[i] * g + 16, false, 0);
        next_error(&vm, at[i] * g);
        CHECK(!toucher_join(&touchers[i], 50));
    }
    uint8_t *bytes = malloc(g);
    REQUIRE(bytes);
    memset(bytes, 0x5a, g);
    CHECK_EQ(guestram_copy(vm.memory, vm.region, 1 * g, bytes, g, NULL), 0);
    CHECK(toucher_join(&touchers[0], 1000));
    CHECK_EQ(touchers[0].result, 0);
    CHECK_EQ(touchers[0].value, UINT64_C(0x5a5a5a5a5a5a5a5a));

    if (kernel_poisons()) {
        CHECK_EQ(guestram_poison(vm.memory, vm.region, 2 * g, g, NULL), 0);
        CHECK(toucher_join(&touchers[1], 1000));
        CHECK_EQ(touchers[1].result, SIGBUS);
    } else {
        CHECK_EQ(guestram_copy(vm.memory, vm.region, 2 * g, bytes, g, NULL), 0);
        CHECK(toucher_join(&touchers[1], 1000));
        CHECK_EQ(touchers[1].result, 0);
    }

    if (vm_info(&vm).operations & 1u << GUESTRAM_OP_ZEROPAGE) {
        CHECK_EQ(guestram_zeropage(vm.memory, vm.region, 4 * g, g, NULL), 0);
    } else {
        memset(bytes, 0, g);
        CHECK_EQ(guestram_copy(vm.memory, vm.region, 4 * g, bytes, g, NULL), 0);
    }
    CHECK(toucher_join(&touchers[2], 1000));
    CHECK_EQ(touchers[2].result, 0);
    CHECK_EQ(touchers[2].value, 0);
    free(bytes);
    vm_destroy(&vm);
}
TEST_EVERY_VARIANT(failing_source_asks)

/* After the file is whole again, _prefetch reads once more what was asked about. */
TEST(prefetch_answers_what_was_asked) {
    vm_t vm = broken(&SHMEM, GUESTRAM_ON_ERROR_ASK);
    toucher_t toucher;
    toucher_start(&toucher, vm.address + 9 * PAGE, false, 0);
    next_error(&vm, 9 * PAGE);
    /* The same file (the library holds it open), its contents written again. */
    char path[512];
    guestram_snapshot_region_t region = {.size = sizeof region};
    save_pattern(scratch("whole"), vm.length, PAGE, VM_SEED);
    guestram_snapshot_t *whole = opened(scratch("whole"));
    REQUIRE(guestram_snapshot_region(whole, 0, &region) == 0);
    guestram_snapshot_close(whole);
    uint8_t *contents = calloc(1, vm.length);
    REQUIRE(contents);
    pattern_fill(contents, vm.length, PAGE, VM_SEED);
    snprintf(path, sizeof path, "%s/memory", scratch("broken0"));
    int file = open(path, O_WRONLY | O_CLOEXEC);
    CHECK_EQ(pwrite(file, contents, vm.length, (off_t)region.file_offset), (ssize_t)vm.length);
    close(file);
    free(contents);
    CHECK_EQ(guestram_prefetch(vm.memory, vm.region, 9 * PAGE, PAGE), 0);
    CHECK(toucher_join(&toucher, 2000));
    CHECK_EQ(toucher.value, pattern_word(9 * PAGE, PAGE, VM_SEED));
    CHECK_EQ(vm_mismatch(&vm), -1);
    vm_destroy(&vm);
}

/* Three wait on two granules. */
static void start_waiters(vm_t *vm, toucher_t waiters[3]) {
    toucher_start(&waiters[0], vm->address + vm->granule, false, 0);
    next_error(vm, vm->granule);
    toucher_start(&waiters[1], vm->address + vm->granule + 8, true, 1);
    toucher_start(&waiters[2], vm->address + 2 * vm->granule, true, 1);
    next_error(vm, 2 * vm->granule);
    CHECK(!toucher_join(&waiters[0], 30) && !toucher_join(&waiters[1], 10) && !toucher_join(&waiters[2], 10));
}

static void check_woken(toucher_t waiters[3]) {
    for (unsigned i = 0; i < 3; i++) {
        REQUIRE(toucher_join(&waiters[i], 1000));
        CHECK_EQ(waiters[i].result, UNSERVED);
    }
}

static void stop_refuses_waiters(const variant_t *variant) {
    vm_t vm = broken(variant, GUESTRAM_ON_ERROR_ASK);
    toucher_t waiters[3];
    start_waiters(&vm, waiters);
    CHECK_EQ(guestram_stop(vm.memory, 0), 0);
    check_woken(waiters);
    vm_destroy(&vm);
}
TEST_EVERY_VARIANT(stop_refuses_waiters)

/* The mappings are the caller's, so that they outlive region and memory. */
static void removal_and_destroy_refuse_waiters(const variant_t *variant) {
    variant_t callers = *variant;
    toucher_t waiters[3];
    callers.callers = true;
    vm_t vm = broken(&callers, GUESTRAM_ON_ERROR_ASK);
    start_waiters(&vm, waiters);
    CHECK_EQ(guestram_region_remove(vm.memory, vm.region), 0);
    check_woken(waiters);
    vm_destroy(&vm);

    vm = broken(&callers, GUESTRAM_ON_ERROR_ASK);
    start_waiters(&vm, waiters);
    guestram_destroy(vm.memory);
    check_woken(waiters);
    vm.memory = NULL;
    vm_destroy(&vm);
}
TEST_EVERY_VARIANT(removal_and_destroy_refuse_waiters)

TEST(wait_resident_reports_poisoned_granules) {
    if (!kernel_poisons()) SKIP("no POISON before Linux 6.6");
    vm_t vm = broken(&ANON, GUESTRAM_ON_ERROR_POISON);
    CHECK_EQ(guestram_background_fill(vm.memory, UINT64_MAX), 0);
    CHECK_EQ(guestram_wait_resident(vm.memory, 5000), -EIO);
    CHECK_EQ(vm_info(&vm).absent, 0);
    uint64_t value;
    CHECK_EQ(touch_read(vm.address + PAGE, &value), SIGBUS);
    vm_destroy(&vm);
}
