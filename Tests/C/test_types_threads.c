/* Several threads on the same granules: one fetch, one fill, and nobody left behind. */
#include "support.h"

#include <sched.h>

static guestram_options_t small_windows = {.size = sizeof(guestram_options_t), .window = 4096};
static uint64_t few(const variant_t *variant) { return variant->granule == PAGE ? (is_quick() ? 16 : 64) : is_quick() ? 4 : 7; }

/* How long a thread may wait for a page. */
static int second_ms(void) {
    const char *factor = getenv("TEST_TIME_FACTOR");
    return 1000 * (factor ? atoi(factor) : 1);
}

struct group {
    pthread_barrier_t barrier;
    vm_t *vm;
    uint64_t offset;
};

struct member {
    struct group *group;
    pthread_t thread;
    unsigned index;
    uint64_t value;
};

static void *reads_one_word(void *argument) {
    struct member *member = argument;
    struct group *group = member->group;
    pthread_barrier_wait(&group->barrier);
    CHECK_EQ(touch_read(group->vm->address + group->offset + 8 * member->index, &member->value), 0);
    return NULL;
}

static void *writes_one_word(void *argument) {
    struct member *member = argument;
    struct group *group = member->group;
    pthread_barrier_wait(&group->barrier);
    CHECK_EQ(touch_write(group->vm->address + group->offset + 8 * member->index, member->index + 1), 0);
    return NULL;
}

static void together(struct group *group, struct member *members, unsigned count, void *(*run)(void *)) {
    pthread_barrier_init(&group->barrier, NULL, count);
    for (unsigned i = 0; i < count; i++) {
        members[i] = (struct member){.group = group, .index = i};
        REQUIRE(pthread_create(&members[i].thread, NULL, run, &members[i]) == 0);
    }
    for (unsigned i = 0; i < count; i++) pthread_join(members[i].thread, NULL);
    pthread_barrier_destroy(&group->barrier);
}

static void sixteen_readers_one_fetch(const variant_t *variant) {
    vm_t vm = vm_restored(variant, few(variant), &small_windows);
    struct group group = {.vm = &vm};
    struct member members[16];
    uint64_t loaded = 0;
    for (uint64_t granule = 0; granule < few(variant); granule++) {
        group.offset = granule * vm.granule;
        together(&group, members, 16, reads_one_word);
        for (unsigned i = 0; i < 16; i++)
            CHECK_EQ(members[i].value, pattern_word(group.offset + 8 * i, vm.granule, vm.seed));
        loaded += !pattern_is_hole(group.offset, vm.granule);
        guestram_stats_t stats = vm_stats(&vm);
        CHECK_EQ(stats.bytes_read, loaded * vm.granule);
        CHECK_EQ(stats.pages_loaded, loaded);
        CHECK_EQ(stats.missing + stats.minor, stats.faults);
    }
    CHECK_EQ(vm_mismatch(&vm), -1);
    vm_destroy(&vm);
}
TEST_EVERY_VARIANT(sixteen_readers_one_fetch)

/* A late MISSING message for a page that was filled and written must change nothing. */
static void stale_messages_change_nothing(const variant_t *variant) {
    vm_t vm = vm_restored(variant, few(variant), &small_windows);
    struct group group = {.vm = &vm};
    struct member members[16];
    for (uint64_t granule = 0; granule < few(variant); granule++) {
        group.offset = granule * vm.granule;
        together(&group, members, 16, writes_one_word);
    }
    usleep(20000); /* the last messages */
    for (uint64_t at = 0; at < vm.length; at += 8) {
        uint64_t within = at % vm.granule;
        uint64_t expected = within < 16 * 8 ? within / 8 + 1 : pattern_word(at, vm.granule, vm.seed);
        uint64_t seen = *(uint64_t *)(void *)(vm.address + at);
        if (seen != expected) printf("at %#llx: %#llx\n", (unsigned long long)at, (unsigned long long)seen);
        REQUIRE(seen == expected);
    }
    vm_destroy(&vm);
}
TEST_EVERY_VARIANT(stale_messages_change_nothing)

/* The VMM's own copies against faults on the same granules: EEXIST for the loser, nobody waits. */
static void copies_race_faults(const variant_t *variant) {
    vm_t vm = vm_tracked(variant, few(variant), &small_windows);
    uint8_t *bytes = malloc(vm.granule);
    memset(bytes, 0x11, vm.granule);
    for (uint64_t at = 0; at < vm.length; at += vm.granule) {
        toucher_t touchers[2];
        toucher_start(&touchers[0], vm.address + at, false, 0);
        toucher_start(&touchers[1], vm.address + at, false, 0);
        int error = guestram_copy(vm.memory, vm.region, at, bytes, vm.granule, NULL);
        CHECK(error == 0 || error == -EEXIST);
        for (unsigned i = 0; i < 2; i++) {
            REQUIRE(toucher_join(&touchers[i], second_ms()));
            CHECK_EQ(touchers[i].value, error == 0 ? UINT64_C(0x1111111111111111) : pattern_word(at, vm.granule, vm.seed));
        }
    }
    free(bytes);
    vm_destroy(&vm);
}
TEST_EVERY_VARIANT(copies_race_faults)

static atomic_bool over;

static void *discards_elsewhere(void *argument) {
    vm_t *vm = argument;
    uint64_t half = vm->length / vm->granule / 2 * vm->granule;
    /* Two threads without a pause would leave the kernel no moment in which it takes a fill. */
    for (; !atomic_load(&over); usleep(50)) CHECK_EQ(madvise(vm->address + half, half, MADV_DONTNEED), 0);
    return NULL;
}

/* mmap_changing: while an event is unread every fill answers EAGAIN; no fault may be lost to it. */
static void fills_race_events(const variant_t *variant) {
    uint64_t granules = variant->granule != PAGE ? 14 : is_quick() ? 64 : 1024;
    vm_t vm = vm_restored(variant, granules, &small_windows);
    pthread_t threads[2];
    atomic_store(&over, false);
    for (unsigned i = 0; i < 2; i++) REQUIRE(pthread_create(&threads[i], NULL, discards_elsewhere, &vm) == 0);
    uint64_t longest = 0;
    guestram_stats_t stats = {.size = sizeof stats};
    EVENTUALLY(guestram_stats(vm.memory, &stats) == 0 && stats.events_remove > 2);
    for (uint64_t at = 0; at < vm.length / 2 / vm.granule * vm.granule; at += vm.granule) {
        uint64_t value = 0, begin = now_ns();
        CHECK_EQ(touch_read(vm.address + at, &value), 0);
        uint64_t took = now_ns() - begin;
        if (took > longest) longest = took;
        CHECK_EQ(value, pattern_word(at, vm.granule, vm.seed));
    }
    atomic_store(&over, true);
    for (unsigned i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    CHECK(longest < UINT64_C(1000000) * (uint64_t)second_ms());
    CHECK_EQ(pattern_mismatch(vm.address, vm.length / 2 / vm.granule * vm.granule, vm.granule, vm.seed), -1);
    vm_destroy(&vm);
}
TEST_EVERY_VARIANT(fills_race_events)

/* Each discard races a touch of the same page: afterwards the page must read zero, or what was
 * written after it. Old data from the snapshot would be a page fetched before and filled after. */
struct discarder {
    vm_t *vm;
    bool own;
    atomic_uint_fast64_t page; /* to be discarded; UINT64_MAX: rest */
};

static void *discards(void *argument) {
    struct discarder *d = argument;
    for (uint64_t page; !atomic_load(&over);) {
        if ((page = atomic_load(&d->page)) == UINT64_MAX) {
            sched_yield();
            continue;
        }
        uint64_t g = d->vm->granule;
        if (d->own)
            CHECK_EQ(guestram_discard(d->vm->memory, d->vm->region, page * g, g), 0);
        else
            CHECK_EQ(madvise(d->vm->address + page * g, g, MADV_DONTNEED), 0);
        atomic_store(&d->page, UINT64_MAX);
    }
    return NULL;
}

static void check_discards(const variant_t *variant, bool own) {
    uint64_t granules = variant->granule != PAGE ? 14 : is_quick() ? 512 : 4096, old = 0;
    vm_t vm = vm_restored(variant, granules, &small_windows);
    struct discarder d = {.vm = &vm, .own = own};
    pthread_t thread;
    atomic_store(&d.page, UINT64_MAX);
    atomic_store(&over, false);
    REQUIRE(pthread_create(&thread, NULL, discards, &d) == 0);
    for (uint64_t page = 0; page < granules; page++) {
        uint64_t value;
        atomic_store(&d.page, page);
        for (volatile uint64_t spin = page % 32 * 20; spin > 0; spin--) {}
        CHECK_EQ(touch_read(vm.address + page * vm.granule, &value), 0); /* before, during or after */
        while (atomic_load(&d.page) != UINT64_MAX) sched_yield();
        CHECK_EQ(touch_read(vm.address + page * vm.granule, &value), 0);
        old += value != 0;
    }
    atomic_store(&over, true);
    pthread_join(thread, NULL);
    CHECK_EQ(old, 0);
    vm_destroy(&vm);
}

static void own_discards_are_never_undone(const variant_t *variant) { check_discards(variant, true); }
static void advised_discards_are_never_undone(const variant_t *variant) { check_discards(variant, false); }
TEST_EVERY_VARIANT(own_discards_are_never_undone)
TEST(advised_discards_are_never_undone_anon) { advised_discards_are_never_undone(&ANON); }
TEST(advised_discards_are_never_undone_shmem_private) { advised_discards_are_never_undone(&SHMEM_PRIVATE); }

static void on_signal(int number) { (void)number; }

/* A signal ends the wait in the kernel; the fault comes again. */
TEST(signal_to_a_waiter) {
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGUSR1, &action, NULL);
    vm_t vm = vm_restored(&SHMEM, is_quick() ? 256 : 1024, &small_windows);
    for (uint64_t at = 0; at < vm.length; at += PAGE) {
        toucher_t toucher;
        toucher_start(&toucher, vm.address + at, false, 0);
        for (unsigned i = 0; i < 3 && !atomic_load(&toucher.done); i++) pthread_kill(toucher.thread, SIGUSR1);
        REQUIRE(toucher_join(&toucher, second_ms()));
        CHECK_EQ(toucher.value, pattern_word(at, PAGE, vm.seed));
    }
    vm_destroy(&vm);
}
