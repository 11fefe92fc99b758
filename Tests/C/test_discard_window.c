/* A page discarded while the pages around it are being filled. Every page is a VMA of its own, so that
 * the fill takes an ioctl for each; and all threads share one CPU, so that whoever discards stops the
 * fill in its middle by waking up, and is done before it goes on. Filled without the event lock, the
 * discarded page would be brought back. */
#include "support.h"

#include <sched.h>
#include <semaphore.h>

#define WINDOW (64 * PAGE)
#define WINDOWS 64u
#define LENGTH (WINDOWS * WINDOW)

/* Who fills a window: a fault at its start, which brings as much as is present before it, or the
 * background thread. */
enum filler { FAULT, PREFETCH };

struct game {
    vm_t vm;
    bool own;           /* guestram_discard(), not madvise() */
    uint64_t discarded; /* which page of a window */
    sem_t turn, ready;
    unsigned within;    /* discards in the middle of a fill */
};

static void *discards(void *argument) {
    struct game *game = argument;
    bool shared = game->vm.variant->type != GUESTRAM_ANON && !(game->vm.variant->flags & GUESTRAM_REGION_PRIVATE);
    /* Where it may not, it wakes up later, and more often too late. */
    (void)pthread_setschedparam(pthread_self(), SCHED_FIFO, &(struct sched_param){.sched_priority = 1});
    for (unsigned window = 1; window < WINDOWS; window++) {
        uint8_t *first = game->vm.address + window * WINDOW, *page = first + game->discarded * PAGE, mapped[64] = {0};
        sem_wait(&game->turn);
        while (!(mapped[0] & 1)) {
            usleep(30);
            REQUIRE(mincore(first, WINDOW, mapped) == 0);
        }
        game->within += !(mapped[game->discarded] & 1);
        if (game->own)
            CHECK_EQ(guestram_discard(game->vm.memory, game->vm.region, (uint64_t)(page - game->vm.address), PAGE), 0);
        else
            CHECK_EQ(madvise(page, PAGE, shared ? MADV_REMOVE : MADV_DONTNEED), 0);
        sem_post(&game->ready);
    }
    return NULL;
}

static void share_one_cpu(void) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    REQUIRE(sched_setaffinity(0, sizeof one, &one) == 0);
}

/* Every page has data. */
static void save_dense(const char *directory) {
    guestram_t *memory = NULL;
    REQUIRE(guestram_create(NULL, &memory) == 0);
    vm_t vm = vm_add(memory, &ANON, LENGTH, 0);
    for (uint64_t at = 0; at < LENGTH; at += PAGE) *(uint64_t *)(void *)(vm.address + at) = at + 1;
    REQUIRE(guestram_save(memory, directory, NULL) == 0);
    vm_destroy(&vm);
}

static void play(const variant_t *variant, enum filler filler, bool own) {
    guestram_options_t options = {.size = sizeof options, .window = WINDOW};
    /* A fault looks at the 32 pages before it: there nothing is discarded. It may fill 16 at a time. */
    struct game game = {.own = own, .discarded = filler == FAULT ? 15 : 63};
    guestram_t *memory = NULL;
    unsigned old = 0, lost = 0;
    uint64_t value = 0;
    pthread_t thread;
    need_variant(variant);
    save_dense(scratch("dense"));
    share_one_cpu();
    REQUIRE(guestram_create(&options, &memory) == 0);
    vm_t vm = game.vm = vm_add(memory, variant, LENGTH, GUESTRAM_REGION_USERFAULT);
    restore(memory, scratch("dense"), GUESTRAM_RESTORE_LAZY);
    REQUIRE(guestram_start(memory) == 0);
    for (uint64_t at = 0; at < WINDOW; at += PAGE) CHECK_EQ(touch_read(vm.address + at, &value), 0);
    for (uint64_t at = 0; at < LENGTH; at += 2 * PAGE) REQUIRE(mprotect(vm.address + at, PAGE, PROT_READ) == 0);
    sem_init(&game.turn, 0, 0);
    sem_init(&game.ready, 0, 0);
    REQUIRE(pthread_create(&thread, NULL, discards, &game) == 0);
    for (unsigned window = 1; window < WINDOWS; window++) {
        sem_post(&game.turn);
        if (filler == FAULT)
            CHECK_EQ(touch_read(vm.address + window * WINDOW, &value), 0);
        else
            CHECK_EQ(guestram_prefetch(memory, vm.region, window * WINDOW, WINDOW), 0);
        sem_wait(&game.ready);
        /* For the next fault; from the end, since a page with nothing before it brings no others. */
        for (uint64_t at = WINDOW - PAGE; filler == FAULT && at >= WINDOW / 2; at -= PAGE)
            CHECK_EQ(touch_read(vm.address + window * WINDOW + at, &value), 0);
    }
    pthread_join(thread, NULL);
    printf("%s: %u of %u discards within a fill\n", variant->name, game.within, WINDOWS - 1);
    CHECK(game.within > WINDOWS / 8); /* the same */
    for (uint64_t at = WINDOW; at < LENGTH; at += PAGE) {
        CHECK_EQ(touch_read(vm.address + at, &value), 0);
        if (at % WINDOW / PAGE == game.discarded)
            old += value != 0;
        else
            lost += value != at + 1;
    }
    CHECK_EQ(old, 0);
    CHECK_EQ(lost, 0);
    vm_destroy(&vm);
}

static void own_discard_in_a_prefetch(const variant_t *variant) { play(variant, PREFETCH, true); }
static void advised_discard_in_a_prefetch(const variant_t *variant) { play(variant, PREFETCH, false); }
TEST_SMALL_VARIANTS(own_discard_in_a_prefetch)
TEST_SMALL_VARIANTS(advised_discard_in_a_prefetch)
/* The others' discards are events, and who fills is who would read them. */
TEST(own_discard_in_a_faults_window_shmem) { play(&SHMEM, FAULT, true); }
