/*
 * Eight memories in one process, each made, restored, served, tried in random ways, saved and
 * destroyed over and over by a thread of its own. What every page must hold is known. After each
 * round all are gone: then the process is as it was after the first one.
 *
 * SOAK_SECONDS=N   in all (600), in rounds of at most 20
 * SOAK_SEED=N      of the random numbers (1)
 */
#include "support.h"

#include <ftw.h>

enum { MEMORIES = 8, PAGES = 1024, SNAPSHOT_PAGES = PAGES };
#define LENGTH (PAGES * PAGE)

static const variant_t *const variants[] = {&ANON, &SHMEM, &SHMEM_PRIVATE};
static guestram_pool_t *pool; /* of every second memory; the others have their own */
static atomic_ulong faults, discards, saves, memories, operations;
static atomic_bool round_over;

typedef struct worker {
    pthread_t thread;
    unsigned number;
    uint64_t random;
    vm_t vm;
    char from[128], to[128]; /* snapshots: the next memory's, and where it is saved */
    uint64_t (*expected)[2]; /* of each page: the seed of its pattern, 0 zero; its first word, if
                                written */
} worker_t;

static uint64_t next(worker_t *worker) {
    worker->random = worker->random * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return worker->random >> 33;
}

static uint64_t expected_word(const worker_t *worker, unsigned page, unsigned index) {
    const uint64_t *is = worker->expected[page];
    return index == 0 && is[1] ? is[1]
           : is[0]             ? pattern_word(page * PAGE + index * 8, PAGE, is[0])
                               : 0;
}

static bool same(const worker_t *worker, unsigned page, const uint8_t *at, const char *when) {
    const uint64_t *words = (const uint64_t *)(const void *)at;
    for (unsigned i = 0; i < PAGE / 8; i++) {
        if (words[i] == expected_word(worker, page, i))
            continue;
        printf("%s: memory %u (%s) page %u word %u: %#llx, not %#llx\n", when, worker->number,
               worker->vm.variant->name, page, i, (unsigned long long)words[i],
               (unsigned long long)expected_word(worker, page, i));
        harness_fail(__FILE__, __LINE__, "a wrong byte");
        return false;
    }
    return true;
}

static void expect(int result, const char *call) {
    if (result < 0)
        harness_fail(__FILE__, __LINE__, "%s: %d %s", call, result, guestram_error());
}
#define EXPECT(call) expect((call), #call)

static void make(worker_t *worker) {
    guestram_options_t options = {.size = sizeof options, .pool = worker->number & 1 ? pool : NULL};
    options.window = next(worker) & 1 ? 4096 : 0;
    const variant_t *variant = variants[next(worker) % 3];
    guestram_t *memory = NULL;
    EXPECT(guestram_create(&options, &memory));
    REQUIRE(memory);
    worker->vm = vm_add(memory, variant, LENGTH, next(worker) & 1 ? GUESTRAM_REGION_USERFAULT : 0);
    restore(memory, worker->from, GUESTRAM_RESTORE_LAZY);
    EXPECT(guestram_start(memory));
    atomic_fetch_add(&memories, 1);
}

static void touch_one(worker_t *worker) {
    unsigned page = next(worker) % PAGES;
    uint8_t *at = worker->vm.address + page * PAGE;
    if (next(worker) & 1) {
        uint64_t value = next(worker) + 1;
        *(volatile uint64_t *)(void *)at = value;
        worker->expected[page][1] = value;
    }
    same(worker, page, at, "touched");
}

static void discard_some(worker_t *worker) {
    unsigned page = next(worker) % PAGES, count = 1 + next(worker) % 16;
    if (page + count > PAGES)
        count = PAGES - page;
    EXPECT(guestram_discard(worker->vm.memory, worker->vm.region, page * PAGE, count * PAGE));
    for (unsigned i = page; i < page + count; i++)
        worker->expected[i][0] = worker->expected[i][1] = 0;
    atomic_fetch_add(&discards, 1);
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *where) {
    (void)info, (void)type, (void)where;
    return remove(path);
}
static void remove_all(const char *path) { nftw(path, remove_entry, 8, FTW_DEPTH | FTW_PHYS); }

/* What is saved is what the next memory is restored from. */
static void save(worker_t *worker) {
    char before[sizeof worker->from];
    EXPECT(guestram_save(worker->vm.memory, worker->to, NULL));
    memcpy(before, worker->from, sizeof before);
    memcpy(worker->from, worker->to, sizeof before);
    memcpy(worker->to, before, sizeof before);
    remove_all(worker->to);
    atomic_fetch_add(&saves, 1);
}

/* Only what the kernel may refuse at that moment. */
static void ask(worker_t *worker) {
    guestram_t *memory = worker->vm.memory;
    int result = 0;
    switch (next(worker) % 4) {
    case 0:
        EXPECT(guestram_background_fill(memory, next(worker) & 1 ? UINT64_MAX : next(worker) << 8));
        break;
    case 1:
        result = guestram_prefetch(memory, worker->vm.region, next(worker) % (PAGES / 2) * PAGE,
                                   64 * PAGE);
        CHECK(result == 0 || result == -EAGAIN || result == -ENOTCONN);
        break;
    case 2:
        result = guestram_writeprotect(memory, worker->vm.region, 0, LENGTH / 4, 1);
        CHECK(result == 0 || result == -EOPNOTSUPP || result == -ENOTCONN);
        break;
    default:
        result = guestram_wait_resident(memory, (int)(next(worker) % 4));
        CHECK(result == 0 || result == -ETIMEDOUT);
    }
}

/* One memory's life. */
static void live(worker_t *worker) {
    make(worker);
    unsigned steps = 50 + next(worker) % 2000;
    for (unsigned i = 0; i < steps && !atomic_load(&round_over); i++) {
        unsigned choice = next(worker) % 100;
        if (choice < 85)
            touch_one(worker);
        else if (choice < 96)
            discard_some(worker);
        else
            ask(worker);
        atomic_fetch_add(&operations, 1);
    }
    save(worker);
    for (unsigned page = 0; next(worker) & 1 && page < PAGES; page++)
        if (!same(worker, page, worker->vm.address + page * PAGE, "at the end"))
            break;
    guestram_stats_t stats = {.size = sizeof stats};
    EXPECT(guestram_stats(worker->vm.memory, &stats));
    CHECK_EQ(stats.pages_poisoned, 0);
    atomic_fetch_add(&faults, stats.faults);
    vm_destroy(&worker->vm);
}

static void *work(void *argument) {
    while (!atomic_load(&round_over))
        live(argument);
    return NULL;
}

static void prepare(worker_t *worker, unsigned number, uint64_t seed) {
    *worker = (worker_t){.number = number, .random = seed * 1000 + number};
    snprintf(worker->from, sizeof worker->from, "%s/a%u", harness_dir(), number);
    snprintf(worker->to, sizeof worker->to, "%s/b%u", harness_dir(), number);
    save_pattern(worker->from, LENGTH, PAGE, seed + number);
    worker->expected = calloc(PAGES, sizeof *worker->expected);
    REQUIRE(worker->expected);
    for (unsigned page = 0; page < PAGES; page++)
        worker->expected[page][0] = pattern_is_hole(page * PAGE, PAGE) ? 0 : seed + number;
}

typedef struct figures {
    size_t fds, threads, mappings, rss;
} figures_t;

/* At rest; a thread that has been joined is still listed for a moment. */
static figures_t figures(size_t threads) {
    for (unsigned i = 0; i < 1000 && harness_threads() > threads; i++)
        usleep(1000);
    return (figures_t){harness_fds(), harness_threads(), harness_mappings(), harness_rss_kib()};
}

static unsigned number_of(const char *variable, unsigned otherwise) {
    const char *text = getenv(variable);
    return text ? (unsigned)strtoul(text, NULL, 10) : otherwise;
}

static void run_round(worker_t *workers, uint64_t nanoseconds) {
    atomic_store(&round_over, false);
    for (unsigned i = 0; i < MEMORIES; i++)
        REQUIRE(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0);
    for (uint64_t until = now_ns() + nanoseconds; now_ns() < until;)
        usleep(20000);
    atomic_store(&round_over, true);
    for (unsigned i = 0; i < MEMORIES; i++)
        pthread_join(workers[i].thread, NULL);
}

TEST(soak, .seconds = 7200) {
    static worker_t workers[MEMORIES];
    unsigned seconds = number_of("SOAK_SECONDS", 600), rounds = seconds / 20 < 5 ? 5 : seconds / 20;
    uint64_t seed = number_of("SOAK_SEED", 1), slice = seconds * UINT64_C(1000000000) / rounds;
    guestram_pool_options_t options = {.size = sizeof options, .workers = 2, .descriptors = 128};
    for (unsigned i = 0; i < MEMORIES; i++)
        need_variant(variants[i % 3]);
    EXPECT(guestram_pool_create(&options, &pool));
    for (unsigned i = 0; i < MEMORIES; i++)
        prepare(&workers[i], i, seed);
    size_t threads = harness_threads();
    figures_t first = {0}, now = {0};
    printf("# %u rounds of %.1f s, %d memories of %d pages, seed %llu\n", rounds,
           (double)slice / 1e9, MEMORIES, PAGES, (unsigned long long)seed);
    for (unsigned round = 0; round < rounds; round++) {
        run_round(workers, slice);
        now = figures(threads);
        printf("# round %u: %lu memories, %lu operations, %lu faults, %lu discards, %lu saves; "
               "%zu fds, %zu threads, %zu mappings, RSS %zu KiB\n",
               round + 1, atomic_load(&memories), atomic_load(&operations), atomic_load(&faults),
               atomic_load(&discards), atomic_load(&saves), now.fds, now.threads, now.mappings,
               now.rss);
        if (round == 0)
            first = now;
        CHECK_EQ(now.fds, first.fds);
        CHECK_EQ(now.threads, first.threads);
    }
    /* The allocator's arenas and thread stacks settle in the first rounds. */
    CHECK(now.mappings <= first.mappings + 32);
    CHECK(now.rss <= first.rss + 4096);
    CHECK(atomic_load(&saves) >= MEMORIES && atomic_load(&discards) > 0 &&
          atomic_load(&faults) > 0);
    for (unsigned i = 0; i < MEMORIES; i++)
        free(workers[i].expected);
    CHECK_EQ(guestram_pool_destroy(pool), 0);
}
