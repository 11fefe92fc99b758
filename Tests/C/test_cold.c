/* Faults on a snapshot that is on the disk and not in the page cache, from several threads at once: then
 * a worker asks for the bytes of one and serves others meanwhile. */
#include "support.h"

#define FAULTERS 4u
#define PAGES 6007u /* prime: every step visits all */

struct cold {
    vm_t vm;
    uint64_t readable; /* bytes of the snapshot that its file has */
    bool stops;        /* in the middle */
    atomic_uint touched, refused;
    atomic_bool discarding[PAGES];
};

struct faulter {
    pthread_t thread;
    struct cold *cold;
    unsigned index;
};

/* Out of the page cache, or skips. */
static void make_cold(const char *directory) {
    char path[512];
    struct stat info;
    snprintf(path, sizeof path, "%s/memory", directory);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    REQUIRE(file >= 0 && fstat(file, &info) == 0 && fsync(file) == 0);
    REQUIRE(posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED) == 0);
    size_t pages = (size_t)info.st_size / PAGE, cached = 0;
    unsigned char *in_memory = malloc(pages);
    void *mapped = mmap(NULL, pages * PAGE, PROT_READ, MAP_SHARED, file, 0);
    REQUIRE(in_memory && mapped != MAP_FAILED && mincore(mapped, pages * PAGE, in_memory) == 0);
    for (size_t i = 0; i < pages; i++) cached += in_memory[i] & 1;
    munmap(mapped, pages * PAGE);
    free(in_memory);
    close(file);
    if (cached > pages / 10) SKIP("files of the test's directory (TMPDIR) stay in memory");
}

static void *faults(void *argument) {
    const struct faulter *f = argument;
    struct cold *cold = f->cold;
    for (uint64_t i = 0, page = f->index; i < PAGES; i++, page = (page + 17 + 2 * f->index) % PAGES) {
        uint64_t offset = page * PAGE, value = 0, expected = pattern_word(offset, PAGE, cold->vm.seed);
        int signal = touch_read(cold->vm.address + offset, &value);
        atomic_fetch_add(&cold->touched, 1);
        if (signal) {
            CHECK_EQ(signal, UNSERVED);
            CHECK(cold->stops || offset >= cold->readable);
            atomic_fetch_add(&cold->refused, 1);
        } else if (value == 0 && !pattern_is_hole(offset, PAGE)) {
            CHECK(atomic_load(&cold->discarding[page]));
        } else {
            CHECK_EQ(value, expected);
            CHECK(offset < cold->readable || pattern_is_hole(offset, PAGE));
        }
    }
    return NULL;
}

static struct cold *prepare(const variant_t *variant, uint64_t cut) {
    struct cold *cold = calloc(1, sizeof *cold);
    guestram_options_t options = {.size = sizeof options, .window = PAGE};
    guestram_t *memory = NULL;
    need_variant(variant);
    REQUIRE(cold);
    save_pattern(scratch("cold"), PAGES * PAGE, PAGE, VM_SEED);
    make_cold(scratch("cold"));
    REQUIRE(guestram_create(&options, &memory) == 0);
    cold->vm = vm_add(memory, variant, PAGES * PAGE, GUESTRAM_REGION_USERFAULT);
    restore(memory, scratch("cold"), GUESTRAM_RESTORE_LAZY);
    REQUIRE(guestram_start(memory) == 0);
    cold->readable = PAGES * PAGE;
    if (cut) {
        cut_memory_file(scratch("cold"), cut);
        cold->readable = cut;
    }
    return cold;
}

static void start(struct cold *cold, struct faulter faulters[FAULTERS]) {
    for (unsigned i = 0; i < FAULTERS; i++) {
        faulters[i] = (struct faulter){.cold = cold, .index = i};
        REQUIRE(pthread_create(&faulters[i].thread, NULL, faults, &faulters[i]) == 0);
    }
}

static void join(struct faulter faulters[FAULTERS]) {
    for (unsigned i = 0; i < FAULTERS; i++) pthread_join(faulters[i].thread, NULL);
}

static void many_read_from_the_disk(const variant_t *variant) {
    struct cold *cold = prepare(variant, 0);
    struct faulter faulters[FAULTERS];
    start(cold, faulters);
    join(faulters);
    guestram_stats_t stats = vm_stats(&cold->vm);
    CHECK_EQ(atomic_load(&cold->touched), FAULTERS * PAGES);
    CHECK_EQ(atomic_load(&cold->refused), 0);
    CHECK(stats.reads_blocked > 0);
    CHECK_EQ(stats.pages_loaded, PAGES - PAGES / 4); /* the rest is holes */
    CHECK_EQ(stats.source_errors, 0);
    CHECK_EQ(vm_mismatch(&cold->vm), -1);
    vm_destroy(&cold->vm);
    free(cold);
}
TEST_SMALL_VARIANTS(many_read_from_the_disk)

static void discards_meet_reads_under_way(const variant_t *variant) {
    struct cold *cold = prepare(variant, 0);
    struct faulter faulters[FAULTERS];
    uint64_t value = 1;
    start(cold, faulters);
    for (uint64_t i = 0, page = 3; i < PAGES / 5; i++, page = (page + 5 * 17) % PAGES) {
        atomic_store(&cold->discarding[page], true);
        CHECK_EQ(guestram_discard(cold->vm.memory, cold->vm.region, page * PAGE, PAGE), 0);
    }
    join(faulters);
    CHECK_EQ(atomic_load(&cold->refused), 0);
    for (uint64_t page = 0; page < PAGES; page++) {
        if (!atomic_load(&cold->discarding[page])) continue;
        CHECK_EQ(touch_read(cold->vm.address + page * PAGE, &value), 0);
        CHECK_EQ(value, 0);
    }
    vm_destroy(&cold->vm);
    free(cold);
}
TEST_SMALL_VARIANTS(discards_meet_reads_under_way)

static void stop_ends_reads_under_way(const variant_t *variant) {
    struct cold *cold = prepare(variant, 0);
    struct faulter faulters[FAULTERS];
    cold->stops = true;
    start(cold, faulters);
    while (atomic_load(&cold->touched) < 1000) usleep(100);
    CHECK_EQ(guestram_stop(cold->vm.memory, 0), 0);
    join(faulters);
    CHECK(atomic_load(&cold->refused) > 0);
    CHECK(atomic_load(&cold->refused) < FAULTERS * PAGES - 1000);
    vm_destroy(&cold->vm);
    free(cold);
}
TEST_SMALL_VARIANTS(stop_ends_reads_under_way)

static void what_the_file_lost_is_refused(const variant_t *variant) {
    if (!kernel_poisons()) SKIP("without UFFDIO_POISON whoever touches it waits");
    struct cold *cold = prepare(variant, PAGES / 2 * PAGE);
    struct faulter faulters[FAULTERS];
    start(cold, faulters);
    join(faulters);
    CHECK(atomic_load(&cold->refused) > FAULTERS * PAGES / 3);
    CHECK(vm_stats(&cold->vm).pages_poisoned > PAGES / 3);
    vm_destroy(&cold->vm);
    free(cold);
}
TEST_SMALL_VARIANTS(what_the_file_lost_is_refused)
