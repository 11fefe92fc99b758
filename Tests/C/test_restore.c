/* Save, open, restore: the contents byte by byte, and what was loaded for them. */
#include "support.h"

/* What the region must hold: the pattern, and what the test did since. */
static uint8_t *shadow_of(const vm_t *vm) {
    uint8_t *shadow = calloc(1, vm->length);
    REQUIRE(shadow);
    pattern_fill(shadow, vm->length, vm->granule, vm->seed);
    return shadow;
}

static uint64_t data_granules(uint64_t granules) { return granules - granules / 4; }

/* An odd number of granules: no multiple of any window. */
static uint64_t odd(const variant_t *variant) { return variant->granule == PAGE ? 1333 : 5; }

static void check_counts(const vm_t *vm) {
    guestram_stats_t stats = vm_stats(vm);
    guestram_region_info_t info = vm_info(vm);
    CHECK_EQ(info.granule, vm->granule);
    CHECK_EQ(info.granules, vm->length / vm->granule);
    CHECK_EQ(info.present + info.absent + info.zero + info.poisoned, info.granules);
    CHECK_EQ(stats.pages_total, info.granules);
    CHECK_EQ(stats.pages_present, info.present);
    CHECK_EQ(stats.pages_absent, info.absent);
    CHECK_EQ(stats.missing + stats.minor + stats.wp, stats.faults);
    CHECK(stats.pages_loaded <= info.granules);
    CHECK(stats.bytes_read <= vm->length);
    CHECK(stats.own_memory > 0);
    CHECK_EQ(stats.source_errors, 0);
}

static void lazy(const variant_t *variant) {
    vm_t vm = vm_restored(variant, odd(variant), NULL);
    CHECK_EQ(vm_info(&vm).fill, GUESTRAM_FILL_LAZY);
    CHECK(strlen(vm_info(&vm).why) > 0);
    CHECK_EQ(vm_stats(&vm).bytes_read, 0);
    CHECK_EQ(vm_info(&vm).present, 0);
    CHECK_EQ(vm_mismatch(&vm), -1);
    check_counts(&vm);
    guestram_stats_t stats = vm_stats(&vm);
    CHECK(stats.faults > 0);
    CHECK_EQ(stats.pages_absent, 0);
    CHECK(stats.pages_loaded >= data_granules(odd(variant)));
    CHECK(stats.bytes_read >= data_granules(odd(variant)) * vm.granule);
    guestram_latency_t latency = {.size = sizeof latency};
    CHECK_EQ(guestram_latency(vm.memory, GUESTRAM_LATENCY_ALL, &latency), 0);
    CHECK(latency.count > 0);
    CHECK(latency.count <= stats.faults);
    CHECK(latency.p50_ns > 0 && latency.p50_ns <= latency.p99_ns);
    CHECK(latency.sum_ns >= latency.max_ns);
    vm_destroy(&vm);
}
TEST_EVERY_VARIANT(lazy)

static void one_touch_loads_one_granule(const variant_t *variant) {
    guestram_options_t options = {.size = sizeof options, .window = 4096};
    vm_t vm = vm_restored(variant, 7, &options);
    uint64_t value = 0;
    CHECK_EQ(touch_read(vm.address + 4 * vm.granule + 24, &value), 0);
    CHECK_EQ(value, pattern_word(4 * vm.granule + 24, vm.granule, vm.seed));
    CHECK_EQ(vm_stats(&vm).pages_loaded, 1);
    CHECK_EQ(vm_stats(&vm).bytes_read, vm.granule);
    CHECK_EQ(vm_info(&vm).present, 1);
    CHECK_EQ(touch_read(vm.address + 3 * vm.granule, &value), 0); /* a hole */
    CHECK_EQ(value, 0);
    CHECK_EQ(vm_stats(&vm).bytes_read, vm.granule);
    check_counts(&vm);
    vm_destroy(&vm);
}
TEST_EVERY_VARIANT(one_touch_loads_one_granule)

static void writes_before_reads(const variant_t *variant) {
    vm_t vm = vm_restored(variant, odd(variant), NULL);
    uint8_t *shadow = shadow_of(&vm);
    for (uint64_t at = 0; at < vm.length; at += 3 * vm.granule) {
        CHECK_EQ(touch_write(vm.address + at + 512, at + 1), 0);
        memcpy(shadow + at + 512, &(uint64_t){at + 1}, 8);
    }
    CHECK_EQ(memcmp(vm.address, shadow, vm.length), 0);
    free(shadow);
    vm_destroy(&vm);
}
TEST_EVERY_VARIANT(writes_before_reads)

static void eager(const variant_t *variant) {
    need_variant(variant);
    save_pattern(scratch("snapshot"), odd(variant) * variant->granule, variant->granule, VM_SEED);
    guestram_t *memory = NULL;
    REQUIRE(guestram_create(NULL, &memory) == 0);
    vm_t vm = vm_add(memory, variant, odd(variant) * variant->granule, 0);
    restore(memory, scratch("snapshot"), GUESTRAM_RESTORE_EAGER);
    REQUIRE(guestram_start(memory) == 0);
    CHECK_EQ(vm_info(&vm).fill, GUESTRAM_FILL_EAGER);
    CHECK_EQ(vm_info(&vm).absent, 0);
    CHECK_EQ(guestram_wait_resident(memory, 0), 0);
    CHECK_EQ(vm_mismatch(&vm), -1);
    CHECK(vm_stats(&vm).pages_loaded >= data_granules(odd(variant)));
    check_counts(&vm);
    vm_destroy(&vm);
}
TEST_EVERY_VARIANT(eager)

static void sizes_around_windows(const variant_t *variant) {
    static const uint64_t pages[] = {1, 2, 15, 17, 63, 65, 511, 512, 513, 1025};
    char name[16];
    for (size_t i = 0; i < sizeof pages / sizeof *pages; i++) {
        snprintf(name, sizeof name, "%u", (unsigned)i);
        save_pattern(scratch(name), pages[i] * PAGE, PAGE, VM_SEED);
        guestram_t *memory = NULL;
        REQUIRE(guestram_create(NULL, &memory) == 0);
        vm_t vm = vm_add(memory, variant, pages[i] * PAGE, 0);
        restore(memory, scratch(name), GUESTRAM_RESTORE_LAZY);
        REQUIRE(guestram_start(memory) == 0);
        uint64_t last = 0; /* the last page first: its window reaches past the end */
        CHECK_EQ(touch_read(vm.address + vm.length - 8, &last), 0);
        CHECK_EQ(last, pattern_word(vm.length - 8, PAGE, VM_SEED));
        CHECK_EQ(vm_mismatch(&vm), -1);
        vm_destroy(&vm);
    }
}
TEST_SMALL_VARIANTS(sizes_around_windows)

/* The kernel's own accesses, as a device's or KVM's, are served like the program's. */
static void system_calls_see_the_contents(const variant_t *variant) {
    vm_t vm = vm_restored(variant, 8, NULL);
    uint64_t words[2] = {0, 77};
    int pipes[2];
    REQUIRE(pipe(pipes) == 0);
    CHECK_EQ(write(pipes[1], vm.address + 5 * vm.granule, 8), 8);
    CHECK_EQ(read(pipes[0], words, 8), 8);
    CHECK_EQ(words[0], pattern_word(5 * vm.granule, vm.granule, vm.seed));
    CHECK_EQ(write(pipes[1], words + 1, 8), 8);
    CHECK_EQ(read(pipes[0], vm.address + 6 * vm.granule, 8), 8);
    CHECK_EQ(memcmp(vm.address + 6 * vm.granule, words + 1, 8), 0);
    CHECK_EQ(*(uint64_t *)(void *)(vm.address + 6 * vm.granule + 8),
             pattern_word(6 * vm.granule + 8, vm.granule, vm.seed));
    close(pipes[0]), close(pipes[1]);
    vm_destroy(&vm);
}
TEST_EVERY_VARIANT(system_calls_see_the_contents)

static void save_again_while_partly_absent(const variant_t *variant) {
    uint64_t granules = variant->granule == PAGE ? 601 : 6, g = variant->granule;
    guestram_options_t options = {.size = sizeof options, .window = 4096};
    vm_t vm = vm_restored(variant, granules, &options);
    uint8_t *shadow = shadow_of(&vm);
    uint64_t value;
    CHECK_EQ(touch_read(vm.address, &value), 0);
    CHECK_EQ(touch_write(vm.address + 1 * g + 8, 4711), 0);
    memcpy(shadow + 1 * g + 8, &(uint64_t){4711}, 8);
    CHECK_EQ(touch_write(vm.address + 3 * g, 4712), 0); /* was a hole */
    memcpy(shadow + 3 * g, &(uint64_t){4712}, 8);
    CHECK_EQ(guestram_discard(vm.memory, vm.region, 4 * g, g), 0); /* was absent */
    memset(shadow + 4 * g, 0, g);
    CHECK_EQ(guestram_discard(vm.memory, vm.region, 0, g), 0); /* was present */
    memset(shadow, 0, g);
    CHECK(vm_info(&vm).absent > 0);
    CHECK_EQ(guestram_save(vm.memory, scratch("again"), NULL), 0);
    CHECK(vm_info(&vm).absent > 0); /* saving loads nothing into the guest */
    CHECK_EQ(memcmp(vm.address, shadow, vm.length), 0);
    vm_destroy(&vm);

    guestram_t *memory = NULL;
    REQUIRE(guestram_create(NULL, &memory) == 0);
    vm = vm_add(memory, variant, granules * g, 0);
    restore(memory, scratch("again"), GUESTRAM_RESTORE_LAZY);
    REQUIRE(guestram_start(memory) == 0);
    CHECK_EQ(memcmp(vm.address, shadow, vm.length), 0);
    free(shadow);
    vm_destroy(&vm);
}
TEST_EVERY_VARIANT(save_again_while_partly_absent)

TEST(state_round_trip) {
    guestram_t *memory = NULL;
    uint8_t *state = malloc(3 * MIB + 17);
    REQUIRE(state && guestram_create(NULL, &memory) == 0);
    for (size_t i = 0; i < 3 * MIB + 17; i++) state[i] = (uint8_t)(i * 31 >> 3);
    vm_t vm = vm_add(memory, &SHMEM, MIB, 0);
    guestram_save_options_t options = {.size = sizeof options, .state = state, .state_length = 3 * MIB + 17};
    CHECK_EQ(guestram_save(memory, scratch("with"), &options), 0);
    CHECK_EQ(guestram_save(memory, scratch("without"), NULL), 0);
    vm_destroy(&vm);

    const void *seen = NULL;
    size_t length = 1;
    guestram_snapshot_t *snapshot = opened(scratch("with"));
    CHECK_EQ(guestram_snapshot_state(snapshot, &seen, &length), 0);
    CHECK_EQ(length, 3 * MIB + 17);
    CHECK_EQ(memcmp(seen, state, length), 0);
    guestram_snapshot_close(snapshot);
    snapshot = opened(scratch("without"));
    CHECK_EQ(guestram_snapshot_state(snapshot, &seen, &length), 0);
    CHECK_EQ(length, 0);
    guestram_snapshot_close(snapshot);
    free(state);
}

TEST(snapshot_describes_its_regions) {
    guestram_t *memory = NULL;
    REQUIRE(guestram_create(NULL, &memory) == 0);
    guestram_region_options_t o = region_options(&SHMEM_PRIVATE, 3 * MIB);
    uint32_t id;
    o.name = "high";
    vm_t vm = vm_add(memory, &ANON, MIB, 0);
    REQUIRE(guestram_region_add(memory, &o, &id) == 0);
    memset(vm.address, 7, 2 * PAGE);
    CHECK_EQ(guestram_save(memory, scratch("two"), NULL), 0);
    vm_destroy(&vm);

    guestram_snapshot_t *snapshot = opened(scratch("two"));
    guestram_snapshot_region_t first = {.size = sizeof first}, second = {.size = sizeof second};
    CHECK_EQ(guestram_snapshot_region(snapshot, 0, &first), 0);
    CHECK_EQ(guestram_snapshot_region(snapshot, 1, &second), 0);
    CHECK_EQ(guestram_snapshot_region(snapshot, 2, &second), -ENOENT);
    CHECK_EQ(strcmp(first.name, "ram"), 0);
    CHECK_EQ(first.type, GUESTRAM_ANON);
    CHECK_EQ(first.length, MIB);
    CHECK_EQ(first.page_size, PAGE);
    CHECK_EQ(first.data, 2 * PAGE);
    CHECK_EQ(strcmp(second.name, "high"), 0);
    CHECK_EQ(second.type, GUESTRAM_SHMEM);
    CHECK_EQ(second.flags, GUESTRAM_REGION_PRIVATE);
    CHECK_EQ(second.length, 3 * MIB);
    CHECK_EQ(second.data, 0);
    CHECK(second.file_offset >= first.file_offset + first.length || first.file_offset >= second.file_offset + second.length);
    guestram_snapshot_close(snapshot);
}
