/* Prefetch, background fill, waiting until resident, events, and the end of serving. */
#include "support.h"

#include <poll.h>

static bool readable(int fd) { return poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 0) == 1; }

static guestram_options_t small_windows = {.size = sizeof(guestram_options_t), .window = 4096};

static uint64_t many(const variant_t *variant) { return variant->granule == PAGE ? 2048 : 7; }

static void background_fill_until_resident(const variant_t *variant) {
    vm_t vm = vm_restored(variant, many(variant), &small_windows);
    int events = guestram_event_fd(vm.memory);
    guestram_event_t event = {.size = sizeof event};
    CHECK(events >= 0);
    CHECK(!readable(events));
    CHECK_EQ(guestram_wait_resident(vm.memory, 20), -ETIMEDOUT);
    CHECK_EQ(guestram_background_fill(vm.memory, UINT64_MAX), 0);
    CHECK_EQ(guestram_wait_resident(vm.memory, 10000), 0);
    CHECK_EQ(vm_info(&vm).absent, 0);
    EVENTUALLY(readable(events));
    CHECK_EQ(guestram_next_event(vm.memory, &event), 0);
    CHECK_EQ(event.type, GUESTRAM_EVENT_RESIDENT);
    CHECK_EQ(event.dropped, 0);
    CHECK_EQ(guestram_next_event(vm.memory, &event), -EAGAIN);
    CHECK(!readable(events));

    uint64_t faults = vm_stats(&vm).faults;
    CHECK_EQ(vm_mismatch(&vm), -1);
    /* Unregistered: faults cost nothing. Private mappings of a file stay registered for life. */
    if (!(variant->flags & GUESTRAM_REGION_PRIVATE)) {
        EVENTUALLY(vm_info(&vm).modes == 0);
        CHECK_EQ(vm_stats(&vm).faults, faults);
    }
    CHECK_EQ(guestram_background_fill(vm.memory, UINT64_MAX), 0);
    CHECK_EQ(guestram_stop(vm.memory, GUESTRAM_STOP_IF_RESIDENT), 0);
    CHECK_EQ(guestram_next_event(vm.memory, &event), -EAGAIN); /* sent once */
    CHECK_EQ(vm_mismatch(&vm), -1);
    vm_destroy(&vm);
}
TEST_EVERY_VARIANT(background_fill_until_resident)

static void resident_by_faults_alone(const variant_t *variant) {
    vm_t vm = vm_restored(variant, many(variant), NULL);
    guestram_event_t event = {.size = sizeof event};
    CHECK_EQ(vm_mismatch(&vm), -1);
    CHECK_EQ(guestram_wait_resident(vm.memory, 1000), 0);
    EVENTUALLY(guestram_next_event(vm.memory, &event) == 0);
    CHECK_EQ(event.type, GUESTRAM_EVENT_RESIDENT);
    vm_destroy(&vm);
}
TEST_EVERY_VARIANT(resident_by_faults_alone)

/* A page discarded after all is present reads zero: not the file's old data. */
static void discard_after_resident(const variant_t *variant) {
    vm_t vm = vm_restored(variant, many(variant), NULL);
    uint64_t g = vm.granule;
    CHECK_EQ(guestram_background_fill(vm.memory, UINT64_MAX), 0);
    CHECK_EQ(guestram_wait_resident(vm.memory, 10000), 0);
    CHECK_EQ(touch_write(vm.address + g, 1), 0);
    CHECK_EQ(guestram_discard(vm.memory, vm.region, 0, 2 * g), 0);
    CHECK(is_zero(vm.address, 2 * g));
    CHECK_EQ(touch_write(vm.address, 9), 0);
    CHECK_EQ(*(volatile uint64_t *)(void *)vm.address, 9);
    CHECK_EQ(*(uint64_t *)(void *)(vm.address + 2 * g), pattern_word(2 * g, g, vm.seed));
    vm_destroy(&vm);
}
TEST_EVERY_VARIANT(discard_after_resident)

TEST(background_fill_keeps_to_its_rate_and_pauses) {
    vm_t vm = vm_restored(&SHMEM, 4096, &small_windows); /* 12 MiB of data */
    uint64_t begin = now_ns();
    CHECK_EQ(guestram_background_fill(vm.memory, 16 * MIB), 0);
    usleep(200000);
    CHECK_EQ(guestram_background_fill(vm.memory, 0), 0);
    usleep(50000); /* what was under way */
    uint64_t read = vm_stats(&vm).bytes_read;
    double seconds = (double)(now_ns() - begin) / 1e9;
    CHECK(read > 0);
    CHECK((double)read <= 16.0 * (double)MIB * seconds + 2.0 * (double)MIB);
    usleep(200000);
    CHECK_EQ(vm_stats(&vm).bytes_read, read);
    uint64_t value; /* paused, and yet faults are served */
    CHECK_EQ(touch_read(vm.address + vm.length - 2 * PAGE, &value), 0);
    CHECK_EQ(guestram_background_fill(vm.memory, UINT64_MAX), 0);
    CHECK_EQ(guestram_wait_resident(vm.memory, 10000), 0);
    CHECK_EQ(vm_mismatch(&vm), -1);
    vm_destroy(&vm);
}

static void prefetch_brings_the_range_alone(const variant_t *variant) {
    vm_t vm = vm_restored(variant, many(variant), &small_windows);
    uint64_t g = vm.granule;
    CHECK_EQ(guestram_prefetch(vm.memory, vm.region, 4 * g, 3 * g), 0);
    EVENTUALLY(vm_info(&vm).present >= 3);
    usleep(20000);
    CHECK_EQ(vm_stats(&vm).pages_loaded, 3);
    CHECK_EQ(vm_stats(&vm).bytes_read, 3 * g);
    uint64_t faults = vm_stats(&vm).faults, value;
    CHECK_EQ(touch_read(vm.address + 5 * g, &value), 0);
    CHECK_EQ(value, pattern_word(5 * g, g, vm.seed));
    CHECK_EQ(vm_stats(&vm).faults, faults);
    vm_destroy(&vm);
}
TEST_EVERY_VARIANT(prefetch_brings_the_range_alone)

TEST(prefetch_of_too_much_is_refused_not_lost) {
    vm_t vm = vm_restored(&ANON, 2048, &small_windows);
    uint64_t asked = 0;
    bool refused = false;
    for (uint64_t at = 0; at < vm.length; at += PAGE) {
        int error = guestram_prefetch(vm.memory, vm.region, at, PAGE);
        CHECK(error == 0 || error == -EAGAIN);
        refused |= error == -EAGAIN;
        if (error == 0 && !pattern_is_hole(at, PAGE)) asked++;
    }
    EVENTUALLY(vm_stats(&vm).pages_loaded >= asked);
    if (!refused) CHECK_EQ(asked, 2048 - 2048 / 4);
    CHECK_EQ(vm_mismatch(&vm), -1);
    vm_destroy(&vm);
}

/* A pool serves several memories; each has its own events and statistics. */
TEST(several_memories_share_a_pool) {
    guestram_pool_options_t options = {.size = sizeof options, .workers = 2, .fillers = 1};
    guestram_pool_t *pool = NULL;
    REQUIRE(guestram_pool_create(&options, &pool) == 0);
    guestram_sandbox_info_t info = {.size = sizeof info};
    CHECK_EQ(guestram_sandbox_info(pool, &info), 0);
    CHECK_EQ(info.mode, GUESTRAM_SANDBOX_ENFORCE);
    uint32_t base = GUESTRAM_SANDBOX_SIGNALS | GUESTRAM_SANDBOX_NO_NEW_PRIVS | GUESTRAM_SANDBOX_CAPABILITIES |
                    GUESTRAM_SANDBOX_SECCOMP;
    CHECK_EQ(info.layers & base, base);
    CHECK_EQ(info.layers & info.missing, 0);
    guestram_options_t with = {.size = sizeof with, .pool = pool};
    static const variant_t *const variants[] = {&ANON, &SHMEM, &SHMEM_PRIVATE};
    vm_t vms[12];
    for (unsigned i = 0; i < 12; i++) vms[i] = vm_restored(variants[i % 3], 96, &with);
    for (unsigned i = 0; i < 12; i += 2) vm_destroy(&vms[i]);
    for (unsigned i = 1; i < 12; i += 2) {
        CHECK_EQ(vm_mismatch(&vms[i]), -1);
        CHECK(vm_stats(&vms[i]).faults > 0);
        vm_destroy(&vms[i]);
    }
    CHECK_EQ(guestram_pool_destroy(pool), 0);
}

/* Before each touch the leader has gone to sleep on what there was to wait for. */
static void touch_sleeping(const vm_t *vm, uint64_t granule) {
    usleep(20000);
    toucher_t toucher;
    toucher_start(&toucher, vm->address + granule * vm->granule, false, 0);
    CHECK(toucher_join(&toucher, 2000));
    CHECK_EQ(toucher.result, 0);
}

TEST(memories_come_and_go_while_the_leader_sleeps) {
    guestram_pool_options_t options = {.size = sizeof options};
    guestram_pool_t *pool = NULL;
    CHECK_EQ(guestram_pool_create(&options, &pool), 0);
    guestram_options_t in_pool = {.size = sizeof in_pool, .pool = pool, .window = PAGE};

    vm_t first = vm_restored(&SHMEM, 64, &in_pool); /* alone */
    touch_sleeping(&first, 0);
    vm_t second = vm_restored(&ANON, 64, &in_pool); /* joins */
    touch_sleeping(&second, 0);
    touch_sleeping(&first, 1);
    vm_destroy(&first); /* leaves the other behind */
    touch_sleeping(&second, 1);
    vm_t third = vm_restored(&SHMEM, 64, &in_pool);
    touch_sleeping(&third, 0);
    touch_sleeping(&second, 2);
    vm_destroy(&second);
    touch_sleeping(&third, 1);
    vm_destroy(&third); /* nobody is left */
    vm_t fourth = vm_restored(&ANON, 64, &in_pool);
    touch_sleeping(&fourth, 0);
    usleep(20000);
    vm_destroy(&fourth); /* while it is slept on, alone */
    CHECK_EQ(guestram_pool_destroy(pool), 0);
}

/* Absent granules cannot be touched once serving is over: never zeros, and nobody waits. */
static void after_stop_absent_granules_are_refused(const variant_t *variant) {
    vm_t vm = vm_restored(variant, many(variant), &small_windows);
    uint64_t g = vm.granule, value = 0;
    CHECK_EQ(touch_read(vm.address, &value), 0);
    CHECK_EQ(guestram_stop(vm.memory, 0), 0);
    CHECK_EQ(touch_read(vm.address, &value), 0);
    CHECK_EQ(value, pattern_word(0, g, vm.seed));
    for (uint64_t at = g; at < vm.length; at += g) {
        value = 1;
        int result = touch_read(vm.address + at, &value);
        if (pattern_is_hole(at, g))
            CHECK(result == UNSERVED || value == 0);
        else
            CHECK_EQ(result, UNSERVED);
    }
    CHECK_EQ(touch_write(vm.address + g, 1), UNSERVED);
    CHECK_EQ(guestram_wait_resident(vm.memory, -1), -ESHUTDOWN);
    vm_destroy(&vm);
}
TEST_EVERY_VARIANT(after_stop_absent_granules_are_refused)

/* Their write-protect markers stand where the poison must go. */
static void after_stop_protected_granules_are_refused(const variant_t *variant) {
    vm_t vm = vm_tracked(variant, many(variant), &small_windows);
    uint64_t g = vm.granule, value;
    REQUIRE(guestram_writeprotect(vm.memory, vm.region, g, vm.length - g, 1) == 0);
    CHECK_EQ(guestram_stop(vm.memory, 0), 0);
    for (uint64_t at = 0; at < vm.length; at += g)
        if (!pattern_is_hole(at, g)) CHECK_EQ(touch_read(vm.address + at, &value), UNSERVED);
    vm_destroy(&vm);
}
TEST_EVERY_VARIANT(after_stop_protected_granules_are_refused)

static void *waits_for_resident(void *memory) { return (void *)(intptr_t)guestram_wait_resident(memory, -1); }

TEST(stop_ends_waiting_for_resident) {
    vm_t vm = vm_restored(&SHMEM, 64, NULL);
    pthread_t thread;
    void *result = NULL;
    REQUIRE(pthread_create(&thread, NULL, waits_for_resident, vm.memory) == 0);
    usleep(30000);
    CHECK_EQ(guestram_stop(vm.memory, 0), 0);
    pthread_join(thread, &result);
    CHECK_EQ((intptr_t)result, -ESHUTDOWN);
    vm_destroy(&vm);
}

/* What was discarded reads zero after the stop, what is written then is saved. */
static void after_stop_a_save_sees_what_the_memory_holds(const variant_t *variant) {
    vm_t vm = vm_tracked(variant, many(variant), &small_windows);
    uint64_t g = vm.granule, value = 1;
    for (uint64_t at = 0; at < vm.length; at += g) CHECK_EQ(touch_read(vm.address + at, &value), 0);
    CHECK_EQ(guestram_discard(vm.memory, vm.region, 0, 4 * g), 0);
    CHECK_EQ(guestram_stop(vm.memory, 0), 0);
    CHECK_EQ(touch_read(vm.address + g, &value), 0);
    CHECK_EQ(value, 0);
    CHECK_EQ(touch_write(vm.address + 2 * g, 4711), 0);
    CHECK_EQ(guestram_save(vm.memory, scratch("stopped"), NULL), 0);
    vm_destroy(&vm);

    guestram_t *memory = NULL;
    REQUIRE(guestram_create(NULL, &memory) == 0);
    vm = vm_add(memory, variant, vm.length, 0);
    restore(memory, scratch("stopped"), GUESTRAM_RESTORE_EAGER);
    REQUIRE(guestram_start(memory) == 0);
    CHECK(is_zero(vm.address, 2 * g));
    CHECK_EQ(*(uint64_t *)(void *)(vm.address + 2 * g), 4711);
    CHECK(is_zero(vm.address + 3 * g, g));
    CHECK_EQ(*(uint64_t *)(void *)(vm.address + 4 * g), pattern_word(4 * g, g, vm.seed));
    vm_destroy(&vm);
}
TEST_EVERY_VARIANT(after_stop_a_save_sees_what_the_memory_holds)

/* A private clone's discarded page does not show the template's. */
static void after_stop_a_clone_reads_zero_where_it_discarded(const variant_t *variant) {
    need_variant(variant);
    uint64_t g = variant->granule, value = 1;
    int file = memfd_create("template", variant->type == GUESTRAM_HUGETLB ? MFD_HUGETLB : 0);
    REQUIRE(file >= 0 && ftruncate(file, (off_t)(4 * g)) == 0);
    uint64_t *template = mmap(NULL, 4 * g, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    REQUIRE(template != MAP_FAILED);
    for (uint64_t at = 0; at < 4 * g; at += g) template[at / 8] = at + 1;
    guestram_t *memory = NULL;
    uint32_t region = 0;
    guestram_region_info_t info = {.size = sizeof info};
    guestram_region_options_t o = region_options(variant, 4 * g);
    o.flags |= GUESTRAM_REGION_FD | GUESTRAM_REGION_FILLED;
    o.fd = file;
    REQUIRE(guestram_create(NULL, &memory) == 0);
    REQUIRE(guestram_region_add(memory, &o, &region) == 0 && guestram_start(memory) == 0);
    REQUIRE(guestram_region_info(memory, region, &info) == 0);
    CHECK_EQ(touch_read(info.host_address, &value), 0);
    CHECK_EQ(value, 1);
    CHECK_EQ(guestram_discard(memory, region, 0, 2 * g), 0);
    CHECK_EQ(guestram_stop(memory, 0), 0);
    CHECK_EQ(touch_read(info.host_address, &value), 0);
    CHECK_EQ(value, 0);
    CHECK_EQ(touch_read((uint8_t *)info.host_address + g, &value), 0);
    CHECK_EQ(value, 0);
    CHECK_EQ(template[0], 1);
    guestram_destroy(memory);
    munmap(template, 4 * g);
    close(file);
}
TEST(after_stop_a_clone_reads_zero_where_it_discarded_shmem) { after_stop_a_clone_reads_zero_where_it_discarded(&SHMEM_PRIVATE); }
TEST(after_stop_a_clone_reads_zero_where_it_discarded_hugetlb, .hugepages = 12) {
    after_stop_a_clone_reads_zero_where_it_discarded(&HUGETLB_PRIVATE);
}
