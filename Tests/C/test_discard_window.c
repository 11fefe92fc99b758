/* A page discarded while its whole window is being filled: the moment between looking at the page's
 * state and the end of the ioctl is long there, and a fill without the event lock brings the
 * discarded page back. */
#include "support.h"

#define WINDOW (64 * PAGE)
#define WINDOWS 256u
#define LENGTH (WINDOWS * WINDOW)
/* Which page of a window is discarded: with half a window present behind it, the next fault is still
 * taken for sequential access, and brings a whole window again. */
#define DISCARDED (30 * PAGE)

struct game {
    vm_t vm;
    bool own;
    atomic_uint turn, ready; /* the window that both play */
};

static void *discards(void *argument) {
    struct game *game = argument;
    bool shared = game->vm.variant->type != GUESTRAM_ANON && !(game->vm.variant->flags & GUESTRAM_REGION_PRIVATE);
    for (unsigned window = 1; window < WINDOWS; window++) {
        uint64_t page = window * WINDOW + DISCARDED;
        while (atomic_load(&game->turn) <= window) {}
        for (uint64_t until = now_ns() + window % 64 * 3000; now_ns() < until;) {} /* up to 189 us */
        if (game->own)
            CHECK_EQ(guestram_discard(game->vm.memory, game->vm.region, page, PAGE), 0);
        else
            CHECK_EQ(madvise(game->vm.address + page, PAGE, shared ? MADV_REMOVE : MADV_DONTNEED), 0);
        atomic_store(&game->ready, window + 1);
    }
    return NULL;
}

/* Every page has data, so that a window is one fill. */
static void save_dense(const char *directory) {
    guestram_t *memory = NULL;
    REQUIRE(guestram_create(NULL, &memory) == 0);
    vm_t vm = vm_add(memory, &ANON, LENGTH, 0);
    for (uint64_t at = 0; at < LENGTH; at += PAGE) *(uint64_t *)(void *)(vm.address + at) = at + 1;
    REQUIRE(guestram_save(memory, directory, NULL) == 0);
    vm_destroy(&vm);
}

static void play(const variant_t *variant, bool own) {
    guestram_options_t options = {.size = sizeof options, .window = WINDOW};
    struct game game = {.own = own};
    unsigned old = 0, lost = 0;
    pthread_t thread;
    need_variant(variant);
    save_dense(scratch("dense"));
    for (unsigned round = 0; round < (is_quick() ? 2u : 8u); round++) {
        guestram_t *memory = NULL;
        REQUIRE(guestram_create(&options, &memory) == 0);
        game.vm = vm_add(memory, variant, LENGTH, GUESTRAM_REGION_USERFAULT);
        restore(memory, scratch("dense"), GUESTRAM_RESTORE_LAZY);
        REQUIRE(guestram_start(memory) == 0);
        atomic_store(&game.turn, 0);
        atomic_store(&game.ready, 0);
        REQUIRE(pthread_create(&thread, NULL, discards, &game) == 0);
        uint64_t value = 0;
        for (uint64_t at = 0; at < WINDOW; at += PAGE) CHECK_EQ(touch_read(game.vm.address + at, &value), 0);
        uint64_t faults = vm_stats(&game.vm).faults;
        for (unsigned window = 1; window < WINDOWS; window++) {
            uint8_t *first = game.vm.address + window * WINDOW;
            atomic_store(&game.turn, window + 1);
            CHECK_EQ(touch_read(first, &value), 0);
            lost += value != window * WINDOW + 1;
            while (atomic_load(&game.ready) <= window) {}
            CHECK_EQ(touch_read(first + DISCARDED, &value), 0);
            old += value != 0;
            for (uint64_t at = DISCARDED + PAGE; at < WINDOW; at += PAGE) {
                CHECK_EQ(touch_read(first + at, &value), 0);
                lost += value != window * WINDOW + at + 1;
            }
        }
        /* Whole windows, or this tries nothing. */
        CHECK(vm_stats(&game.vm).faults - faults < 8 * WINDOWS);
        pthread_join(thread, NULL);
        vm_destroy(&game.vm);
    }
    CHECK_EQ(old, 0);
    CHECK_EQ(lost, 0);
}

static void own_discard_in_a_window(const variant_t *variant) { play(variant, true); }
static void advised_discard_in_a_window(const variant_t *variant) { play(variant, false); }
TEST_SMALL_VARIANTS(own_discard_in_a_window)
TEST_SMALL_VARIANTS(advised_discard_in_a_window)
