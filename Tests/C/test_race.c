/* Everything at once for GUESTRAM_RACE_SECONDS (5; 1 with TEST_QUICK): four threads fault, one prefetches, one
 * discards, one write-protects. Even granules are never discarded, and always exact. Odd ones are:
 * after that they hold zeros and what was written since. */
#include "support.h"

#define FAULTERS 4u
#define MOST 4096u
#define FIRST_FREE_WORD 64u /* of a granule: above the words that the faulters write */

struct race {
    vm_t vm;
    uint64_t granules;
    atomic_bool over;
    atomic_uint started[MOST], completed[MOST]; /* discards of the granule */
    atomic_uint_fast64_t longest_ns, touches;
};

struct faulter {
    struct race *race;
    unsigned index;
    uint64_t written[MOST];     /* the last value; 0: none */
    unsigned completed[MOST];   /* discards that were over before it was written */
};

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13, *state ^= *state >> 7, *state ^= *state << 17;
    return *state;
}

static uint64_t *word_of(const struct race *race, uint64_t granule, uint64_t word) {
    return (uint64_t *)(void *)(race->vm.address + granule * race->vm.granule) + word;
}

static uint64_t snapshot_word(const struct race *race, uint64_t granule, uint64_t word) {
    return pattern_word(granule * race->vm.granule + word * 8, race->vm.granule, race->vm.seed);
}

static void check_value(const struct race *race, uint64_t granule, uint64_t word, uint64_t value, unsigned completed) {
    bool discarded = atomic_load(&race->started[granule]) > 0;
    if (value == snapshot_word(race, granule, word) && completed == 0) return;
    if (value == 0 && discarded) return;
    printf("granule %llu word %llu: %#llx after %u discards\n", (unsigned long long)granule, (unsigned long long)word,
           (unsigned long long)value, completed);
    CHECK(!"a value that is neither the snapshot's nor zero after a discard");
}

static void *faults(void *argument) {
    struct faulter *f = argument;
    struct race *race = f->race;
    uint64_t random = 0x1234567 + f->index * 7919, words = race->vm.granule / 8;
    while (!atomic_load(&race->over)) {
        uint64_t r = next_random(&random), granule = (r >> 8) % race->granules, value;
        uint64_t begin = now_ns();
        if (r % 4 == 0) {
            unsigned completed = atomic_load(&race->completed[granule]);
            CHECK_EQ(touch_write(word_of(race, granule, f->index), r | 1), 0);
            f->written[granule] = r | 1;
            f->completed[granule] = completed;
        } else {
            uint64_t word = FIRST_FREE_WORD + (r >> 32) % (words - FIRST_FREE_WORD);
            unsigned completed = atomic_load(&race->completed[granule]);
            CHECK_EQ(touch_read(word_of(race, granule, word), &value), 0);
            check_value(race, granule, word, value, completed);
        }
        uint64_t took = now_ns() - begin, longest = atomic_load(&race->longest_ns);
        while (took > longest && !atomic_compare_exchange_weak(&race->longest_ns, &longest, took)) {}
        atomic_fetch_add(&race->touches, 1);
    }
    return NULL;
}

static void *prefetches(void *argument) {
    struct race *race = argument;
    for (uint64_t random = 99, r; !atomic_load(&race->over); usleep(500)) {
        r = next_random(&random);
        uint64_t first = r % race->granules, count = 1 + (r >> 32) % 16;
        if (count > race->granules - first) count = race->granules - first;
        int error = guestram_prefetch(race->vm.memory, race->vm.region, first * race->vm.granule, count * race->vm.granule);
        CHECK(error == 0 || error == -EAGAIN);
    }
    return NULL;
}

static void *discards(void *argument) {
    struct race *race = argument;
    const variant_t *variant = race->vm.variant;
    bool shared = variant->type != GUESTRAM_ANON && !(variant->flags & GUESTRAM_REGION_PRIVATE);
    for (uint64_t random = 5, r; !atomic_load(&race->over); usleep(r % 300)) {
        r = next_random(&random);
        uint64_t granule = (r >> 8) % race->granules | 1, g = race->vm.granule;
        if (granule >= race->granules) continue;
        atomic_fetch_add(&race->started[granule], 1);
        if (r % 2)
            CHECK_EQ(guestram_discard(race->vm.memory, race->vm.region, granule * g, g), 0);
        else
            CHECK_EQ(madvise(race->vm.address + granule * g, g, shared ? MADV_REMOVE : MADV_DONTNEED) < 0 ? -errno : 0, 0);
        atomic_fetch_add(&race->completed[granule], 1);
    }
    return NULL;
}

static void *protects(void *argument) {
    struct race *race = argument;
    uint64_t bitmap[MOST / 64], g = race->vm.granule;
    for (uint64_t random = 77, r; !atomic_load(&race->over); usleep(1000)) {
        r = next_random(&random);
        uint64_t first = r % race->granules, count = 1 + (r >> 32) % 64;
        if (count > race->granules - first) count = race->granules - first;
        CHECK_EQ(guestram_writeprotect(race->vm.memory, race->vm.region, first * g, count * g, r >> 20 & 1), 0);
        CHECK_EQ(guestram_dirty_read(race->vm.memory, race->vm.region, first * g, count * g, bitmap, 1), 0);
    }
    return NULL;
}

/* Nobody runs any more: each word is what it must be. */
static void check_end(struct race *race, struct faulter *faulters) {
    for (uint64_t granule = 0; granule < race->granules; granule++) {
        unsigned discards_ = atomic_load(&race->completed[granule]);
        for (uint64_t word = 0; word < race->vm.granule / 8; word++) {
            uint64_t value = *word_of(race, granule, word), written = 0, untouched;
            untouched = discards_ ? 0 : snapshot_word(race, granule, word);
            bool certain = true;
            if (word < FAULTERS && (written = faulters[word].written[granule]))
                certain = faulters[word].completed[granule] == discards_;
            if (value == (written ? written : untouched) || (!certain && value == 0)) continue;
            printf("granule %llu word %llu: %#llx, written %#llx, %u discards\n", (unsigned long long)granule,
                   (unsigned long long)word, (unsigned long long)value, (unsigned long long)written, discards_);
            REQUIRE(!"the memory is what it must be");
        }
    }
}

static unsigned race_seconds(void) {
    const char *seconds = getenv("GUESTRAM_RACE_SECONDS");
    return seconds ? (unsigned)atoi(seconds) : is_quick() ? 1 : 5;
}

static unsigned time_factor(void) {
    const char *factor = getenv("TEST_TIME_FACTOR");
    return factor ? (unsigned)atoi(factor) : 1;
}

static void race(const variant_t *variant) {
    static struct race race;
    static struct faulter faulters[FAULTERS];
    pthread_t threads[FAULTERS + 3];
    race.granules = variant->granule == PAGE ? MOST : 7;
    race.vm = vm_tracked(variant, race.granules, NULL);
    bool wp = kernel_operations(variant) & 1u << GUESTRAM_OP_WRITEPROTECT;
    for (unsigned i = 0; i < FAULTERS; i++) {
        faulters[i] = (struct faulter){.race = &race, .index = i};
        REQUIRE(pthread_create(&threads[i], NULL, faults, &faulters[i]) == 0);
    }
    REQUIRE(pthread_create(&threads[FAULTERS], NULL, prefetches, &race) == 0);
    REQUIRE(pthread_create(&threads[FAULTERS + 1], NULL, discards, &race) == 0);
    if (wp) REQUIRE(pthread_create(&threads[FAULTERS + 2], NULL, protects, &race) == 0);
    sleep(race_seconds());
    atomic_store(&race.over, true);
    for (unsigned i = 0; i < FAULTERS + 2 + wp; i++) pthread_join(threads[i], NULL);
    printf("%s: %llu touches, the longest %llu us\n", variant->name, (unsigned long long)race.touches,
           (unsigned long long)race.longest_ns / 1000);
    check_end(&race, faulters);
    CHECK(race.longest_ns < UINT64_C(1000000000) * time_factor());
    guestram_stats_t stats = vm_stats(&race.vm);
    CHECK(stats.faults > 0 && stats.pages_discarded > 0 && stats.pages_loaded > 0);
    CHECK_EQ(stats.source_errors, 0);
    CHECK_EQ(stats.pages_poisoned, 0);
    vm_destroy(&race.vm);
}

static void race_anon(void) { race(&ANON); }
static void race_shmem(void) { race(&SHMEM); }
static void race_shmem_private(void) { race(&SHMEM_PRIVATE); }
static void race_hugetlb(void) { race(&HUGETLB); }
static void race_hugetlb_private(void) { race(&HUGETLB_PRIVATE); }
static void race_hugetlb_anon(void) { race(&HUGETLB_ANON); }

/* 25 s beyond the race: a hang shows soon. The factor, by which the harness multiplies, is not the race's. */
__attribute__((constructor)) static void register_races(void) {
    static struct harness_test races[] = {
        {.name = "race_anon", .run = race_anon},
        {.name = "race_shmem", .run = race_shmem},
        {.name = "race_shmem_private", .run = race_shmem_private},
        {.name = "race_hugetlb", .run = race_hugetlb, .hugepages = 24},
        {.name = "race_hugetlb_private", .run = race_hugetlb_private, .hugepages = 24},
        {.name = "race_hugetlb_anon", .run = race_hugetlb_anon, .hugepages = 24},
    };
    for (unsigned i = 0; i < sizeof races / sizeof races[0]; i++) {
        races[i].seconds = 25 + (race_seconds() + time_factor() - 1) / time_factor();
        harness_register(&races[i]);
    }
}
