/* A source that takes its time: what goes on meanwhile, and what must not be done twice. */
#include "support.h"
#include "support_slow.h"

#define GRANULES 256u

/* A memory restored from the slow file system, whose reads are held from the start. */
static vm_t held(const variant_t *variant, guestram_options_t options) {
    uint64_t length = GRANULES * PAGE;
    options.size = sizeof options;
    if (options.window == 0) options.window = 4096;
    save_pattern(scratch("snapshot"), length, PAGE, VM_SEED);
    const char *place = slow_mount(scratch("snapshot"));
    guestram_t *memory = NULL;
    REQUIRE(guestram_create(&options, &memory) == 0);
    vm_t vm = vm_add(memory, variant, length, 0);
    restore(memory, place, GUESTRAM_RESTORE_LAZY);
    REQUIRE(guestram_start(memory) == 0);
    slow_hold(true);
    return vm;
}

static void released(vm_t *vm) {
    vm_destroy(vm);
    slow_unmount();
}

static uint64_t data(uint64_t page) { return pattern_word(page * PAGE, PAGE, VM_SEED); }

/* Waits in a fault on the page, whose bytes are being read. */
static void start_held(toucher_t *toucher, vm_t *vm, uint64_t page) {
    unsigned before = slow_waiting();
    toucher_start(toucher, vm->address + page * PAGE, false, 0);
    EVENTUALLY(slow_waiting() == before + 1);
}

static void one_fetch_for_sixteen(const variant_t *variant) {
    vm_t vm = held(variant, (guestram_options_t){0});
    toucher_t touchers[16];
    for (unsigned i = 0; i < 16; i++) toucher_start(&touchers[i], vm.address + 4 * PAGE + 8 * i, false, 0);
    EVENTUALLY(slow_waiting() == 1);
    EVENTUALLY(vm_stats(&vm).faults_waited >= 1);
    usleep(50000);
    CHECK_EQ(slow_waiting(), 1);
    slow_hold(false);
    for (unsigned i = 0; i < 16; i++) {
        REQUIRE(toucher_join(&touchers[i], 1000));
        CHECK_EQ(touchers[i].value, pattern_word(4 * PAGE + 8 * i, PAGE, VM_SEED));
    }
    guestram_stats_t stats = vm_stats(&vm);
    CHECK_EQ(stats.pages_loaded, 1);
    CHECK_EQ(stats.bytes_read, PAGE);
    CHECK_EQ(stats.reads_blocked, 1);
    released(&vm);
}
TEST_SMALL_VARIANTS(one_fetch_for_sixteen)

static void discard_while_being_read(const variant_t *variant, bool own) {
    vm_t vm = held(variant, (guestram_options_t){0});
    bool shared = variant->type == GUESTRAM_SHMEM && !(variant->flags & GUESTRAM_REGION_PRIVATE);
    toucher_t toucher;
    uint64_t value = 1, begin = now_ns();
    start_held(&toucher, &vm, 5);
    int error = own ? guestram_discard(vm.memory, vm.region, 5 * PAGE, PAGE)
                    : madvise(vm.address + 5 * PAGE, PAGE, shared ? MADV_REMOVE : MADV_DONTNEED);
    CHECK_EQ(error, 0);
    CHECK(now_ns() - begin < 1000000000); /* it does not wait for the source */
    slow_hold(false);
    REQUIRE(toucher_join(&toucher, 1000));
    CHECK_EQ(toucher.value, 0);
    CHECK_EQ(touch_read(vm.address + 5 * PAGE, &value), 0);
    CHECK_EQ(value, 0);
    CHECK_EQ(vm_info(&vm).poisoned, 0);
    released(&vm);
}
static void own_discard_while_being_read(const variant_t *variant) { discard_while_being_read(variant, true); }
static void advised_discard_while_being_read(const variant_t *variant) { discard_while_being_read(variant, false); }
TEST_SMALL_VARIANTS(own_discard_while_being_read)
TEST_SMALL_VARIANTS(advised_discard_while_being_read)

/* What is being read cannot be filled by the VMM meanwhile: it is told so, and may try again. */
static void copy_while_being_read(const variant_t *variant) {
    vm_t vm = held(variant, (guestram_options_t){0});
    toucher_t toucher;
    uint8_t bytes[PAGE];
    uint64_t done = 1;
    memset(bytes, 0x22, sizeof bytes);
    start_held(&toucher, &vm, 6);
    CHECK_FAILS(guestram_copy(vm.memory, vm.region, 6 * PAGE, bytes, PAGE, &done), EAGAIN, "offset");
    CHECK_EQ(done, 0);
    CHECK_EQ(guestram_copy(vm.memory, vm.region, 5 * PAGE, bytes, 2 * PAGE, &done), -EAGAIN);
    CHECK_EQ(done, PAGE);
    slow_hold(false);
    REQUIRE(toucher_join(&toucher, 1000));
    CHECK_EQ(toucher.value, data(6));
    CHECK_EQ(guestram_copy(vm.memory, vm.region, 6 * PAGE, bytes, PAGE, NULL), -EEXIST);
    CHECK_EQ(memcmp(vm.address + 5 * PAGE, bytes, PAGE), 0);
    released(&vm);
}
TEST_SMALL_VARIANTS(copy_while_being_read)

/* Whoever faults on what the filler is bringing waits for that, and is woken by it. */
static void fault_on_what_is_being_prefetched(const variant_t *variant) {
    vm_t vm = held(variant, (guestram_options_t){0});
    toucher_t toucher;
    CHECK_EQ(guestram_prefetch(vm.memory, vm.region, 0, 2 * PAGE), 0);
    EVENTUALLY(slow_waiting() == 1);
    toucher_start(&toucher, vm.address + PAGE, false, 0);
    CHECK(!toucher_join(&toucher, 50));
    slow_hold(false);
    REQUIRE(toucher_join(&toucher, 1000));
    CHECK_EQ(toucher.value, data(1));
    CHECK_EQ(vm_stats(&vm).bytes_read, 2 * PAGE);
    released(&vm);
}
TEST_SMALL_VARIANTS(fault_on_what_is_being_prefetched)

/* Page 0 cannot be read; what was to be read with it is given back, and who waits there is woken. */
static void fault_on_what_a_failed_prefetch_gives_back(const variant_t *variant) {
    vm_t vm = held(variant, (guestram_options_t){0});
    toucher_t toucher;
    CHECK_EQ(guestram_prefetch(vm.memory, vm.region, 0, 3 * PAGE), 0);
    EVENTUALLY(slow_waiting() == 1);
    toucher_start(&toucher, vm.address + 2 * PAGE, false, 0);
    EVENTUALLY(vm_stats(&vm).faults_waited == 1);
    slow_fail(1);
    slow_hold(false);
    REQUIRE(toucher_join(&toucher, 1000));
    CHECK_EQ(toucher.result, 0);
    CHECK_EQ(toucher.value, data(2));
    released(&vm);
}
TEST_SMALL_VARIANTS(fault_on_what_a_failed_prefetch_gives_back)

TEST(stuck_worker_does_not_stop_the_others) {
    guestram_pool_options_t pool_options = {.size = sizeof pool_options, .workers = 2};
    guestram_options_t options = {.size = sizeof options};
    save_pattern(scratch("fast"), MIB, PAGE, 9);
    uint64_t value = 1, begin;
    vm_t vm = held(&SHMEM, (guestram_options_t){.pool = NULL});
    REQUIRE(guestram_pool_create(&pool_options, &options.pool) == 0);
    guestram_t *both[2] = {NULL, NULL};
    for (unsigned i = 0; i < 2; i++) REQUIRE(guestram_create(&options, &both[i]) == 0);
    vm_t slow = vm_add(both[0], &SHMEM, GRANULES * PAGE, 0), fast = vm_add(both[1], &ANON, MIB, 0);
    restore(both[0], scratch("slow"), GUESTRAM_RESTORE_LAZY);
    restore(both[1], scratch("fast"), GUESTRAM_RESTORE_LAZY);
    REQUIRE(guestram_start(both[0]) == 0 && guestram_start(both[1]) == 0);
    toucher_t toucher;
    start_held(&toucher, &slow, 9);
    begin = now_ns();
    CHECK_EQ(pattern_mismatch(fast.address, MIB, PAGE, 9), -1);            /* another memory */
    CHECK_EQ(touch_read(slow.address + 3 * PAGE, &value), 0);             /* a hole of the same */
    CHECK_EQ(value, 0);
    CHECK(now_ns() - begin < 1000000000);
    CHECK(!toucher_join(&toucher, 0));
    slow_hold(false);
    REQUIRE(toucher_join(&toucher, 1000));
    CHECK_EQ(toucher.value, data(9));
    vm_destroy(&slow);
    vm_destroy(&fast);
    CHECK_EQ(guestram_pool_destroy(options.pool), 0);
    released(&vm);
}

TEST(stalled_source_is_an_event) {
    vm_t vm = held(&ANON, (guestram_options_t){.stall_ms = 100});
    toucher_t toucher;
    guestram_event_t event = {.size = sizeof event};
    start_held(&toucher, &vm, 12);
    EVENTUALLY(guestram_next_event(vm.memory, &event) == 0);
    CHECK_EQ(event.type, GUESTRAM_EVENT_STALLED);
    CHECK_EQ(event.region, vm.region);
    CHECK(event.offset <= 12 * PAGE && 12 * PAGE < event.offset + event.length);
    CHECK_EQ(guestram_wait_resident(vm.memory, 50), -ETIMEDOUT);
    CHECK_EQ(guestram_background_fill(vm.memory, 0), 0);
    slow_hold(false);
    REQUIRE(toucher_join(&toucher, 1000));
    CHECK_EQ(toucher.value, data(12));
    released(&vm);
}

TEST(retries_that_succeed_are_no_error) {
    vm_t vm = held(&SHMEM, (guestram_options_t){.on_error = GUESTRAM_ON_ERROR_RETRY, .retries = 3});
    guestram_event_t event = {.size = sizeof event};
    uint64_t value = 0;
    slow_hold(false);
    slow_fail(2);
    CHECK_EQ(touch_read(vm.address + PAGE, &value), 0);
    CHECK_EQ(value, data(1));
    CHECK_EQ(vm_stats(&vm).source_errors, 2);
    CHECK_EQ(vm_info(&vm).poisoned, 0);
    CHECK_EQ(guestram_next_event(vm.memory, &event), -EAGAIN);
    CHECK_EQ(vm_mismatch(&vm), -1);
    CHECK_EQ(guestram_wait_resident(vm.memory, 1000), 0);
    released(&vm);
}

TEST(retries_that_do_not_succeed_poison) {
    if (!kernel_poisons()) SKIP("no POISON before Linux 6.6");
    vm_t vm = held(&SHMEM, (guestram_options_t){.on_error = GUESTRAM_ON_ERROR_RETRY, .retries = 3});
    uint64_t value = 0;
    slow_hold(false);
    slow_fail(4);
    CHECK_EQ(touch_read(vm.address + 2 * PAGE, &value), SIGBUS);
    CHECK_EQ(vm_info(&vm).poisoned, 1);
    CHECK_EQ(touch_read(vm.address + 4 * PAGE, &value), 0);
    CHECK_EQ(value, data(4));
    released(&vm);
}

TEST(prefetches_beyond_the_queue_are_refused) {
    vm_t vm = held(&SHMEM, (guestram_options_t){0});
    unsigned taken = 0;
    /* Until the fillers wait as well: before, they may take one more. */
    for (int refused = 0; taken < 200 && refused < 3; usleep(refused ? 50000 : 0)) {
        if (guestram_prefetch(vm.memory, vm.region, (uint64_t)taken * PAGE, PAGE) == 0)
            taken++, refused = 0;
        else
            refused++;
    }
    CHECK(taken >= 64 && taken < 200);
    CHECK_FAILS(guestram_prefetch(vm.memory, vm.region, 200 * PAGE, PAGE), EAGAIN, "prefetch");
    slow_hold(false);
    EVENTUALLY(vm_stats(&vm).pages_loaded >= taken - (taken + 3) / 4);
    CHECK_EQ(vm_mismatch(&vm), -1);
    released(&vm);
}

static void *stops(void *memory) { return (void *)(intptr_t)guestram_stop(memory, 0); }

/* The waiter is refused though its bytes are still being read. */
TEST(stop_while_being_read) {
    vm_t vm = held(&SHMEM, (guestram_options_t){0});
    toucher_t toucher;
    pthread_t thread;
    void *result;
    start_held(&toucher, &vm, 13);
    REQUIRE(pthread_create(&thread, NULL, stops, vm.memory) == 0);
    CHECK(toucher_join(&toucher, 2000));
    CHECK_EQ(toucher.result, UNSERVED);
    slow_hold(false);
    pthread_join(thread, &result);
    CHECK_EQ((intptr_t)result, 0);
    released(&vm);
}

/* The only worker is kept busy, so that nobody reads the faults of the others: UNREGISTER alone wakes
 * MISSING ones. */
TEST(stop_wakes_waiters_of_every_mode) {
    if (!(kernel_operations(&SHMEM) & 1u << GUESTRAM_OP_WRITEPROTECT)) SKIP("no write-protect of files before Linux 5.19");
    guestram_pool_t *pool = NULL;
    REQUIRE(guestram_pool_create(&(guestram_pool_options_t){.size = sizeof(guestram_pool_options_t), .workers = 1}, &pool) == 0);
    vm_t vm = held(&SHMEM, (guestram_options_t){.pool = pool});
    guestram_region_options_t o = region_options(&SHMEM, 2 * PAGE);
    guestram_region_info_t info = {.size = sizeof info};
    toucher_t missing, minor, wp;
    pthread_t thread;
    uint64_t value;
    void *result;
    o.name = "filled";
    o.flags |= GUESTRAM_REGION_FD | GUESTRAM_REGION_FILLED | GUESTRAM_REGION_USERFAULT;
    o.fd = memfd_create("filled", 0);
    REQUIRE(o.fd >= 0 && ftruncate(o.fd, 2 * PAGE) == 0);
    REQUIRE(pwrite(o.fd, "a", 1, 0) == 1 && pwrite(o.fd, "b", 1, PAGE) == 1);
    REQUIRE(guestram_region_add(vm.memory, &o, &vm.region) == 0);
    REQUIRE(guestram_region_info(vm.memory, vm.region, &info) == 0);
    uint8_t *filled = info.host_address;
    CHECK_EQ(touch_read(filled, &value), 0);
    CHECK_EQ(value, 'a');
    REQUIRE(guestram_writeprotect(vm.memory, vm.region, 0, PAGE, 1) == 0);

    start_held(&missing, &vm, 13);
    toucher_start(&minor, filled + PAGE, false, 0);
    toucher_start(&wp, filled, true, 4711);
    CHECK(!toucher_join(&minor, 50) && !toucher_join(&wp, 50));
    REQUIRE(pthread_create(&thread, NULL, stops, vm.memory) == 0);
    REQUIRE(toucher_join(&missing, 2000) && toucher_join(&minor, 2000) && toucher_join(&wp, 2000));
    CHECK_EQ(missing.result, UNSERVED);
    CHECK_EQ(minor.result, UNSERVED);
    CHECK_EQ(wp.result, 0); /* it is there, and written to */
    CHECK_EQ(*(uint64_t *)(void *)filled, 4711);
    slow_hold(false);
    pthread_join(thread, &result);
    CHECK_EQ((intptr_t)result, 0);
    released(&vm);
    CHECK_EQ(guestram_pool_destroy(pool), 0);
    close(o.fd);
}
