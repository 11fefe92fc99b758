/* Bad arguments to everything but regions and ranges: -errno, and a message that names them. */
#include "support.h"

/* A larger struct than the library's: `tail` is its last byte. */
#define LARGER(type, name, tail_)                     \
    struct {                                          \
        type o;                                       \
        uint8_t tail[64];                             \
    } name = {.o = {.size = sizeof name}, .tail = {[63] = (tail_)}}

static guestram_t *memory_of(const guestram_options_t *options) {
    guestram_t *memory = NULL;
    CHECK_EQ(guestram_create(options, &memory), 0);
    return memory;
}

TEST(error_is_empty_before_the_first_failure) {
    CHECK(guestram_error() != NULL);
    CHECK_EQ(strcmp(guestram_error(), ""), 0);
}

static void *other_thread(void *message) {
    CHECK_EQ(strcmp(guestram_error(), ""), 0);
    CHECK_EQ(guestram_create(NULL, NULL), -EINVAL);
    snprintf(message, 512, "%s", guestram_error());
    return NULL;
}

TEST(error_belongs_to_the_thread) {
    char other[512] = "", own[512];
    pthread_t thread;
    CHECK_EQ(guestram_probe(NULL), -EINVAL);
    snprintf(own, sizeof own, "%s", guestram_error());
    REQUIRE(pthread_create(&thread, NULL, other_thread, other) == 0);
    pthread_join(thread, NULL);
    check_says(other, "memory", "guestram_create in the other thread");
    CHECK_EQ(strcmp(own, guestram_error()), 0);
}

TEST(version_is_the_headers) {
    CHECK_EQ(guestram_version(),
             (uint32_t)(GUESTRAM_VERSION_MAJOR << 16 | GUESTRAM_VERSION_MINOR << 8 | GUESTRAM_VERSION_PATCH));
}

TEST(null_is_accepted_by_destroy_and_close) {
    guestram_destroy(NULL);
    guestram_snapshot_close(NULL);
    CHECK_EQ(guestram_pool_destroy(NULL), 0);
}

TEST(null_memory_is_refused_by_every_call) {
    uint32_t id;
    uint64_t done, bits = 0;
    guestram_region_options_t region = region_options(&ANON, MIB);
    guestram_region_info_t info = {.size = sizeof info};
    guestram_slot_t slot = {.size = sizeof slot};
    guestram_event_t event = {.size = sizeof event};
    guestram_stats_t stats = {.size = sizeof stats};
    guestram_latency_t latency = {.size = sizeof latency};
#define REFUSED(call) CHECK_FAILS(call, EINVAL, "memory")
    REFUSED(guestram_region_add(NULL, &region, &id));
    REFUSED(guestram_region_remove(NULL, 1));
    REFUSED(guestram_region_find(NULL, "ram", &id));
    REFUSED(guestram_region_next(NULL, 0, &id));
    REFUSED(guestram_region_info(NULL, 1, &info));
    REFUSED(guestram_slot_add(NULL, &slot));
    REFUSED(guestram_slot_remove(NULL, 0));
    REFUSED(guestram_slot_next(NULL, 0, &slot));
    REFUSED(guestram_save(NULL, scratch("nothing"), NULL));
    REFUSED(guestram_restore(NULL, NULL, NULL));
    REFUSED(guestram_start(NULL));
    REFUSED(guestram_stop(NULL, 0));
    REFUSED(guestram_background_fill(NULL, 0));
    REFUSED(guestram_prefetch(NULL, 1, 0, PAGE));
    REFUSED(guestram_wait_resident(NULL, 0));
    REFUSED(guestram_discard(NULL, 1, 0, PAGE));
    REFUSED(guestram_collapse(NULL, 1, 0, PAGE));
    REFUSED(guestram_copy(NULL, 1, 0, &bits, PAGE, &done));
    REFUSED(guestram_zeropage(NULL, 1, 0, PAGE, &done));
    REFUSED(guestram_continue(NULL, 1, 0, PAGE, &done));
    REFUSED(guestram_poison(NULL, 1, 0, PAGE, &done));
    REFUSED(guestram_move(NULL, 1, 0, 1, PAGE, PAGE, &done));
    REFUSED(guestram_writeprotect(NULL, 1, 0, PAGE, 1));
    REFUSED(guestram_dirty_merge(NULL, 1, 0, PAGE, &bits));
    REFUSED(guestram_dirty_read(NULL, 1, 0, PAGE, &bits, 0));
    REFUSED(guestram_event_fd(NULL));
    REFUSED(guestram_next_event(NULL, &event));
    REFUSED(guestram_stats(NULL, &stats));
    REFUSED(guestram_latency(NULL, GUESTRAM_LATENCY_ALL, &latency));
    CHECK(access(scratch("nothing"), F_OK) < 0);
}

TEST(null_results_are_refused) {
    guestram_t *memory = memory_of(NULL);
    guestram_region_options_t region = region_options(&ANON, MIB);
    CHECK_FAILS(guestram_create(NULL, NULL), EINVAL, "memory");
    CHECK_FAILS(guestram_pool_create(NULL, NULL), EINVAL, "pool");
    CHECK_FAILS(guestram_probe(NULL), EINVAL, "probe");
    CHECK_FAILS(guestram_probe_text(NULL, 8), EINVAL, "text");
    CHECK_FAILS(guestram_sandbox_text(NULL, 8), EINVAL, "text");
    uint32_t id;
    CHECK_FAILS(guestram_region_add(memory, NULL, &id), EINVAL, "options");
    CHECK_FAILS(guestram_region_add(memory, &region, NULL), EINVAL, "region");
    CHECK_FAILS(guestram_region_find(memory, NULL, NULL), EINVAL, "name");
    CHECK_FAILS(guestram_region_find(memory, "ram", NULL), EINVAL, "region");
    CHECK_FAILS(guestram_region_next(memory, 0, NULL), EINVAL, "region");
    CHECK_FAILS(guestram_region_info(memory, 1, NULL), EINVAL, "info");
    CHECK_FAILS(guestram_slot_add(memory, NULL), EINVAL, "slot");
    CHECK_FAILS(guestram_slot_next(memory, 0, NULL), EINVAL, "slot");
    CHECK_FAILS(guestram_save(memory, NULL, NULL), EINVAL, "directory");
    CHECK_FAILS(guestram_restore(memory, NULL, NULL), EINVAL, "snapshot");
    CHECK_FAILS(guestram_next_event(memory, NULL), EINVAL, "event");
    CHECK_FAILS(guestram_stats(memory, NULL), EINVAL, "stats");
    CHECK_FAILS(guestram_latency(memory, 0, NULL), EINVAL, "latency");
    guestram_destroy(memory);
}

TEST(struct_size_is_checked) {
    guestram_t *memory = NULL;
    for (size_t size = 0; size < sizeof size; size++) {
        guestram_options_t options = {.size = size};
        CHECK_FAILS(guestram_create(&options, &memory), EINVAL, "size");
    }
    /* Half a pointer is not followed. */
    for (size_t size = sizeof size + 1; size < 2 * sizeof size; size++) {
        guestram_options_t options = {.size = size, .pool = (void *)~(uintptr_t)0xff};
        CHECK_FAILS(guestram_create(&options, &memory), EINVAL, "size");
    }
    LARGER(guestram_options_t, strange, 1);
    CHECK_FAILS(guestram_create(&strange.o, &memory), E2BIG, "size");
    CHECK(memory == NULL);

    LARGER(guestram_options_t, newer, 0);
    guestram_destroy(memory_of(&newer.o));
    /* An older caller's: what follows its end is not read. */
    guestram_options_t older = {.size = offsetof(guestram_options_t, flags), .flags = UINT32_MAX, .retries = 101};
    guestram_destroy(memory_of(&older));
}

TEST(absurd_struct_size_is_not_read_to_its_end) {
    uint8_t *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(pages != MAP_FAILED);
    REQUIRE(mprotect(pages + PAGE, PAGE, PROT_NONE) == 0);
    guestram_options_t *options = (void *)(pages + PAGE - sizeof *options);
    options->size = SIZE_MAX;
    guestram_t *memory = NULL;
    CHECK_FAILS(guestram_create(options, &memory), E2BIG, "size");
    munmap(pages, 2 * PAGE);
}

TEST(result_struct_size_is_checked_and_kept_to) {
    guestram_t *memory = memory_of(NULL);
    guestram_stats_t none = {.size = 0};
    CHECK_FAILS(guestram_stats(memory, &none), EINVAL, "size");
    guestram_latency_t no_latency = {.size = 4};
    CHECK_FAILS(guestram_latency(memory, 0, &no_latency), EINVAL, "size");
    guestram_event_t no_event = {.size = 1};
    CHECK_FAILS(guestram_next_event(memory, &no_event), EINVAL, "size");
    guestram_probe_t no_probe = {.size = 2};
    CHECK_FAILS(guestram_probe(&no_probe), EINVAL, "size");

    uint64_t words[64];
    memset(words, 0xa5, sizeof words);
    guestram_stats_t *small = (void *)words;
    small->size = offsetof(guestram_stats_t, missing);
    CHECK_EQ(guestram_stats(memory, small), 0);
    CHECK_EQ(small->faults, 0);
    CHECK_EQ(small->missing, UINT64_C(0xa5a5a5a5a5a5a5a5));
    guestram_destroy(memory);
}

TEST(memory_options_out_of_range) {
    guestram_t *memory = NULL;
#define OPTION(member, value, word)                                                        \
    do {                                                                                   \
        guestram_options_t o_ = {.size = sizeof o_, .member = (value)};                    \
        CHECK_FAILS(guestram_create(&o_, &memory), EINVAL, word);                          \
        CHECK(memory == NULL);                                                             \
    } while (0)
    OPTION(flags, 1, "flags");
    OPTION(flags, 1u << 31, "flags");
    OPTION(on_error, 3, "on_error");
    OPTION(retries, 101, "retries");
    OPTION(window, 1, "window");
    OPTION(window, 2048, "window");
    OPTION(window, 12288, "window");
    OPTION(window, 4 * MIB, "window");
    OPTION(window, UINT64_MAX, "window");
}

TEST(pool_options_out_of_range) {
    guestram_pool_t *pool = NULL;
#define POOL_OPTION(member, value, word)                                                   \
    do {                                                                                   \
        guestram_pool_options_t o_ = {.size = sizeof o_, .member = (value)};               \
        CHECK_FAILS(guestram_pool_create(&o_, &pool), EINVAL, word);                       \
        CHECK(pool == NULL);                                                               \
    } while (0)
    POOL_OPTION(workers, 17, "workers");
    POOL_OPTION(workers, UINT32_MAX, "workers");
    POOL_OPTION(sandbox, 3, "sandbox");
    POOL_OPTION(descriptors, 8, "descriptors");
    POOL_OPTION(descriptors, 24, "descriptors");
    POOL_OPTION(descriptors, 2048, "descriptors");
    POOL_OPTION(fillers, 17, "fillers");
    guestram_pool_options_t none = {.size = 0};
    CHECK_FAILS(guestram_pool_create(&none, &pool), EINVAL, "size");
    LARGER(guestram_pool_options_t, strange, 1);
    CHECK_FAILS(guestram_pool_create(&strange.o, &pool), E2BIG, "size");
    guestram_sandbox_info_t info = {.size = sizeof info};
    CHECK_FAILS(guestram_sandbox_info(NULL, &info), EINVAL, "pool");
}

TEST(pool_in_use_is_not_destroyed) {
    guestram_pool_options_t options = {.size = sizeof options, .workers = 1};
    guestram_pool_t *pool = NULL;
    REQUIRE(guestram_pool_create(&options, &pool) == 0);
    CHECK_FAILS(guestram_sandbox_info(pool, NULL), EINVAL, "info");
    guestram_options_t with = {.size = sizeof with, .pool = pool};
    guestram_t *memory = memory_of(&with);
    int busy = guestram_pool_destroy(pool);
    REQUIRE(busy == -EBUSY);
    check_says(guestram_error(), "memor", "guestram_pool_destroy");
    guestram_destroy(memory);
    CHECK_EQ(guestram_pool_destroy(pool), 0);
}

TEST(texts_are_cut_to_the_buffer) {
    char whole[16384], part[16];
    int probe = guestram_probe_text(whole, sizeof whole);
    CHECK(probe > 0 && probe < (int)sizeof whole);
    CHECK_EQ(strlen(whole), (size_t)probe);
    memset(part, 'x', sizeof part);
    CHECK_EQ(guestram_probe_text(part, 8), probe);
    CHECK_EQ(strlen(part), 7);
    CHECK_EQ(strncmp(part, whole, 7), 0);
    CHECK_EQ(part[8], 'x');
    int sandbox = guestram_sandbox_text(NULL, 0);
    CHECK(sandbox > 0);
    CHECK_EQ(guestram_sandbox_text(whole, sizeof whole), sandbox);
    CHECK_EQ(strlen(whole), (size_t)sandbox);
}

TEST(save_options_out_of_range) {
    guestram_t *memory = memory_of(NULL);
    const char *directory = scratch("refused");
#define SAVE(error, word, ...)                                                             \
    do {                                                                                   \
        guestram_save_options_t o_ = {.size = sizeof o_, __VA_ARGS__};                     \
        CHECK_FAILS(guestram_save(memory, directory, &o_), error, word);                   \
        CHECK(access(directory, F_OK) < 0);                                                \
    } while (0)
    SAVE(EINVAL, "flags", .flags = 1);
    SAVE(EINVAL, "reserved", .reserved = 1);
    SAVE(EINVAL, "state", .state = NULL, .state_length = 1);
    SAVE(EINVAL, "state_length", .state = memory, .state_length = GIB + 1);
    CHECK_FAILS(guestram_save(memory, "", NULL), EINVAL, "directory");
    CHECK_FAILS(guestram_save(memory, scratch("no/such/parent"), NULL), ENOENT, "directory");
    char long_name[5000];
    memset(long_name, 'a', sizeof long_name);
    long_name[sizeof long_name - 1] = 0;
    CHECK_FAILS(guestram_save(memory, long_name, NULL), ENAMETOOLONG, "directory");
    REQUIRE(mkdir(scratch("taken"), 0700) == 0);
    CHECK_FAILS(guestram_save(memory, scratch("taken"), NULL), EEXIST, "directory");
    guestram_destroy(memory);
}

TEST(snapshot_arguments) {
    guestram_snapshot_t *snapshot = NULL;
    CHECK_FAILS(guestram_snapshot_open(NULL, &snapshot), EINVAL, "directory");
    CHECK_FAILS(guestram_snapshot_open(scratch("none"), NULL), EINVAL, "snapshot");
    CHECK_FAILS(guestram_snapshot_open(scratch("none"), &snapshot), ENOENT, "none");
    CHECK(snapshot == NULL);

    save_pattern(scratch("one"), MIB, PAGE, 1);
    snapshot = opened(scratch("one"));
    guestram_snapshot_region_t region = {.size = sizeof region};
    size_t length;
    const void *state;
    CHECK_FAILS(guestram_snapshot_region(NULL, 0, &region), EINVAL, "snapshot");
    CHECK_FAILS(guestram_snapshot_region(snapshot, 0, NULL), EINVAL, "region");
    CHECK_FAILS(guestram_snapshot_region(snapshot, 1, &region), ENOENT, "index");
    region.size = 0;
    CHECK_FAILS(guestram_snapshot_region(snapshot, 0, &region), EINVAL, "size");
    CHECK_FAILS(guestram_snapshot_state(NULL, &state, &length), EINVAL, "snapshot");
    CHECK_FAILS(guestram_snapshot_state(snapshot, NULL, &length), EINVAL, "state");
    CHECK_FAILS(guestram_snapshot_state(snapshot, &state, NULL), EINVAL, "length");
    guestram_snapshot_close(snapshot);
}

/* The first numbers of a block taken, and later ones of it free. */
TEST(pool_is_made_whatever_descriptors_are_open, .seconds = 20) {
    for (int taken = 64; taken <= 256; taken += 64) {
        guestram_pool_t *pool = NULL;
        guestram_pool_options_t options = {.size = sizeof options};
        REQUIRE(dup2(0, taken) == taken && dup2(0, taken + 2) == taken + 2);
        CHECK_EQ(guestram_pool_create(&options, &pool), 0);
        CHECK_EQ(guestram_pool_destroy(pool), 0);
    }
}
