/* Pages that are not what was saved: GUESTRAM_RESTORE_VERIFY finds them, whichever way they come. */
#include "support.h"

#include <dirent.h>

#define GRANULES(variant) ((variant)->granule == PAGE ? 64u : 7u)
#define BAD 5u /* the granule in which a byte is flipped; no hole */

static const char *file_of(const char *directory, const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", strrchr(directory, '/') + 1, name);
    return scratch(path);
}

static void flip(const char *path, uint64_t offset) {
    uint8_t byte;
    int file = open(path, O_RDWR | O_CLOEXEC);
    REQUIRE(file >= 0 && pread(file, &byte, 1, (off_t)offset) == 1);
    byte ^= 0x10;
    REQUIRE(pwrite(file, &byte, 1, (off_t)offset) == 1);
    close(file);
}

/* Somewhere within the granule, behind pages that are right. */
static uint64_t bad_byte(uint64_t granule) { return BAD * granule + (granule == PAGE ? 1234 : 300 * PAGE + 17); }

static const char *saved(const variant_t *variant, bool damaged) {
    const char *directory = scratch("snapshot");
    save_pattern(directory, GRANULES(variant) * variant->granule, variant->granule, VM_SEED);
    if (damaged) flip(file_of(directory, "memory"), bad_byte(variant->granule));
    return directory;
}

static int restore_flags(guestram_t *memory, const char *directory, uint32_t mode, uint32_t flags) {
    guestram_snapshot_t *snapshot = opened(directory);
    guestram_restore_options_t options = {.size = sizeof options, .mode = mode, .flags = flags};
    int error = guestram_restore(memory, snapshot, &options);
    guestram_snapshot_close(snapshot);
    return error;
}

static vm_t vm_of(const variant_t *variant, const char *directory, const guestram_options_t *options,
                  uint32_t mode, uint32_t flags) {
    guestram_t *memory = NULL;
    need_variant(variant);
    REQUIRE(guestram_create(options, &memory) == 0);
    vm_t vm = vm_add(memory, variant, GRANULES(variant) * variant->granule, 0);
    int error = restore_flags(memory, directory, mode, flags);
    if (error < 0) printf("restore: %s\n", guestram_error());
    REQUIRE(error == 0);
    return vm;
}

/* Served lazily, verified, one byte wrong. */
static vm_t damaged(const variant_t *variant, const guestram_options_t *options) {
    vm_t vm = vm_of(variant, saved(variant, true), options, GUESTRAM_RESTORE_LAZY, GUESTRAM_RESTORE_VERIFY);
    REQUIRE(guestram_start(vm.memory) == 0);
    return vm;
}

static void need_poison(void) {
    if (!kernel_poisons()) SKIP("no POISON before Linux 6.6");
}

/* The one page error, and no other. */
static void check_event(const vm_t *vm) {
    guestram_event_t event = {.size = sizeof event};
    EVENTUALLY(guestram_next_event(vm->memory, &event) == 0);
    CHECK_EQ(event.type, GUESTRAM_EVENT_PAGE_ERROR);
    CHECK_EQ(event.region, vm->region);
    CHECK_EQ(event.offset, BAD * vm->granule);
    CHECK_EQ(event.length, vm->granule);
    CHECK_EQ(event.error, EBADMSG);
    while (guestram_next_event(vm->memory, &event) == 0) CHECK(event.type != GUESTRAM_EVENT_PAGE_ERROR);
}

static void check_page(const vm_t *vm, uint64_t offset) {
    uint64_t seen = 0, last = 0;
    CHECK_EQ(touch_read(vm->address + offset, &seen), 0);
    CHECK_EQ(seen, pattern_word(offset, vm->granule, vm->seed));
    CHECK_EQ(touch_read(vm->address + offset + PAGE - 8, &last), 0);
    CHECK_EQ(last, pattern_word(offset + PAGE - 8, vm->granule, vm->seed));
}

/* The damaged granule answers SIGBUS everywhere, every other byte is right. */
static void check_poisoned_alone(const vm_t *vm) {
    uint64_t value, bad = BAD * vm->granule;
    for (uint64_t offset = 0; offset < vm->length; offset += PAGE)
        if (offset / vm->granule != BAD) check_page(vm, offset);
    CHECK_EQ(touch_read(vm->address + bad, &value), SIGBUS);
    CHECK_EQ(touch_read(vm->address + bad + vm->granule - 8, &value), SIGBUS);
    CHECK_EQ(touch_write(vm->address + bad, 1), SIGBUS);
    CHECK_EQ(vm_info(vm).poisoned, 1);
    CHECK(vm_stats(vm).source_errors >= 1);
    check_event(vm);
}

static void flipped_byte_poisons_one_granule(const variant_t *variant) {
    need_poison();
    vm_t vm = damaged(variant, NULL);
    check_poisoned_alone(&vm);
    vm_destroy(&vm);
}
TEST_EVERY_VARIANT(flipped_byte_poisons_one_granule)

static void background_fill_finds_a_flipped_byte(const variant_t *variant) {
    need_poison();
    vm_t vm = damaged(variant, NULL);
    CHECK_EQ(guestram_background_fill(vm.memory, UINT64_MAX), 0);
    CHECK_EQ(guestram_wait_resident(vm.memory, 10000), -EIO);
    check_poisoned_alone(&vm);
    vm_destroy(&vm);
}
TEST_EVERY_VARIANT(background_fill_finds_a_flipped_byte)

static void prefetch_finds_a_flipped_byte(const variant_t *variant) {
    need_poison();
    vm_t vm = damaged(variant, NULL);
    CHECK_EQ(guestram_prefetch(vm.memory, vm.region, BAD * vm.granule, vm.granule), 0);
    EVENTUALLY(vm_info(&vm).poisoned == 1);
    check_poisoned_alone(&vm);
    vm_destroy(&vm);
}
TEST_EVERY_VARIANT(prefetch_finds_a_flipped_byte)

static void eager_start_fails_on_a_flipped_byte(const variant_t *variant) {
    vm_t vm = vm_of(variant, saved(variant, true), NULL, GUESTRAM_RESTORE_EAGER, GUESTRAM_RESTORE_VERIFY);
    CHECK_FAILS(guestram_start(vm.memory), EBADMSG, "checksum");
    check_says(guestram_error(), "ram", "guestram_start");
    vm_destroy(&vm);
}
TEST_EVERY_VARIANT(eager_start_fails_on_a_flipped_byte)

/* What is whole is restored whole, and read through a buffer of our own. */
static void whole_snapshot_verifies(const variant_t *variant) {
    const char *directory = saved(variant, false);
    for (unsigned mode = GUESTRAM_RESTORE_LAZY; mode <= GUESTRAM_RESTORE_EAGER; mode++) {
        vm_t vm = vm_of(variant, directory, NULL, mode, GUESTRAM_RESTORE_VERIFY);
        REQUIRE(guestram_start(vm.memory) == 0);
        check_page(&vm, 2 * vm.granule); /* by fault, and the rest in the background */
        CHECK_EQ(guestram_background_fill(vm.memory, UINT64_MAX), 0);
        CHECK_EQ(guestram_wait_resident(vm.memory, 10000), 0);
        CHECK_EQ(vm_mismatch(&vm), -1);
        vm_destroy(&vm);
    }
}
TEST_EVERY_VARIANT(whole_snapshot_verifies)

static void without_the_flag_nothing_is_compared(const variant_t *variant) {
    const char *directory = saved(variant, true);
    for (unsigned mode = GUESTRAM_RESTORE_LAZY; mode <= GUESTRAM_RESTORE_EAGER; mode++) {
        vm_t vm = vm_of(variant, directory, NULL, mode, 0);
        uint64_t value = 0, at = bad_byte(vm.granule) & ~UINT64_C(7);
        REQUIRE(guestram_start(vm.memory) == 0);
        CHECK_EQ(touch_read(vm.address + at, &value), 0);
        CHECK_EQ(value ^ pattern_word(at, vm.granule, VM_SEED), UINT64_C(0x10) << bad_byte(vm.granule) % 8 * 8);
        vm_destroy(&vm);
    }
}
TEST_EVERY_VARIANT(without_the_flag_nothing_is_compared)

/* Without holes, all of it in the page cache: where nothing is compared, pages are copied straight
 * from there. Each page by a fault of its own. */
static void cached_pages_are_compared_too(const variant_t *variant) {
    need_poison();
    need_variant(variant);
    const uint64_t length = 2 * MIB, bad = 300 * PAGE;
    const char *directory = scratch("snapshot");
    guestram_options_t options = {.size = sizeof options, .window = PAGE};
    guestram_t *memory = NULL;
    uint64_t value;
    REQUIRE(guestram_create(NULL, &memory) == 0);
    vm_t vm = vm_add(memory, &ANON, length, 0);
    for (uint64_t at = 0; at < length; at += 8) *(uint64_t *)(void *)(vm.address + at) = at + 1;
    REQUIRE(guestram_save(memory, directory, NULL) == 0);
    vm_destroy(&vm);
    flip(file_of(directory, "memory"), bad + 4095);
    REQUIRE(guestram_create(&options, &memory) == 0);
    vm = vm_add(memory, variant, length, 0);
    REQUIRE(restore_flags(memory, directory, GUESTRAM_RESTORE_LAZY, GUESTRAM_RESTORE_VERIFY) == 0);
    REQUIRE(guestram_start(memory) == 0);
    for (uint64_t at = 0; at < length; at += PAGE) {
        CHECK_EQ(touch_read(vm.address + at, &value), at == bad ? SIGBUS : 0);
        if (at != bad) CHECK_EQ(value, at + 1);
    }
    CHECK_EQ(vm_info(&vm).poisoned, 1);
    vm_destroy(&vm);
}
TEST_SMALL_VARIANTS(cached_pages_are_compared_too)

static void flipped_byte_is_read_again(const variant_t *variant) {
    guestram_options_t options = {.size = sizeof options, .on_error = GUESTRAM_ON_ERROR_RETRY, .retries = 100};
    vm_t vm = damaged(variant, &options);
    toucher_t toucher;
    toucher_start(&toucher, vm.address + BAD * vm.granule, false, 0);
    EVENTUALLY(vm_stats(&vm).source_errors >= 2);
    CHECK(!toucher_join(&toucher, 10));
    flip(file_of(scratch("snapshot"), "memory"), bad_byte(vm.granule)); /* back */
    CHECK(toucher_join(&toucher, 5000));
    CHECK_EQ(toucher.result, 0);
    CHECK_EQ(vm_mismatch(&vm), -1);
    CHECK_EQ(vm_info(&vm).poisoned, 0);
    vm_destroy(&vm);
}
TEST_EVERY_VARIANT(flipped_byte_is_read_again)

TEST(retries_end_and_poison) {
    need_poison();
    guestram_options_t options = {.size = sizeof options, .on_error = GUESTRAM_ON_ERROR_RETRY, .retries = 2};
    vm_t vm = damaged(&ANON, &options);
    check_poisoned_alone(&vm);
    CHECK_EQ(vm_stats(&vm).source_errors, 3);
    vm_destroy(&vm);
}

static void flipped_byte_asks(const variant_t *variant) {
    guestram_options_t options = {.size = sizeof options, .on_error = GUESTRAM_ON_ERROR_ASK};
    vm_t vm = damaged(variant, &options);
    toucher_t toucher;
    toucher_start(&toucher, vm.address + BAD * vm.granule, false, 0);
    check_event(&vm);
    CHECK(!toucher_join(&toucher, 50));
    /* Asked for again, while it is still wrong; then when it is right. */
    CHECK_EQ(guestram_prefetch(vm.memory, vm.region, BAD * vm.granule, vm.granule), 0);
    check_event(&vm);
    CHECK(!toucher_join(&toucher, 50));
    flip(file_of(scratch("snapshot"), "memory"), bad_byte(vm.granule));
    CHECK_EQ(guestram_prefetch(vm.memory, vm.region, BAD * vm.granule, vm.granule), 0);
    CHECK(toucher_join(&toucher, 5000));
    CHECK_EQ(toucher.result, 0);
    CHECK_EQ(vm_mismatch(&vm), -1);
    vm_destroy(&vm);
}
TEST_EVERY_VARIANT(flipped_byte_asks)

/* File systems give zeros for what they lost. */
static void lost_page_is_never_zeros(const variant_t *variant) {
    need_poison();
    const char *directory = saved(variant, false);
    int file = open(file_of(directory, "memory"), O_RDWR | O_CLOEXEC);
    REQUIRE(file >= 0);
    if (fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(BAD * variant->granule),
                  (off_t)variant->granule) < 0)
        SKIP("this file system punches no holes");
    close(file);
    vm_t vm = vm_of(variant, directory, NULL, GUESTRAM_RESTORE_LAZY, GUESTRAM_RESTORE_VERIFY);
    REQUIRE(guestram_start(vm.memory) == 0);
    check_poisoned_alone(&vm);
    vm_destroy(&vm);
}
TEST_EVERY_VARIANT(lost_page_is_never_zeros)

TEST(data_where_there_was_a_hole_is_found) {
    need_poison();
    const char *directory = saved(&ANON, false);
    flip(file_of(directory, "memory"), 7 * PAGE + 99);
    vm_t vm = vm_of(&ANON, directory, NULL, GUESTRAM_RESTORE_LAZY, GUESTRAM_RESTORE_VERIFY);
    uint64_t value;
    REQUIRE(guestram_start(vm.memory) == 0);
    CHECK_EQ(touch_read(vm.address + 7 * PAGE, &value), SIGBUS);
    check_page(&vm, 6 * PAGE);
    check_page(&vm, 8 * PAGE);
    vm_destroy(&vm);
}

/* They are in memory of the library's own. */
TEST(checksums_cut_while_serving_change_nothing) {
    const char *directory = saved(&SHMEM, false);
    vm_t vm = vm_of(&SHMEM, directory, NULL, GUESTRAM_RESTORE_LAZY, GUESTRAM_RESTORE_VERIFY);
    REQUIRE(guestram_start(vm.memory) == 0);
    REQUIRE(truncate(file_of(directory, "checksums"), 0) == 0);
    CHECK_EQ(vm_mismatch(&vm), -1);
    vm_destroy(&vm);
}

/* ---- saving -- */

TEST(save_of_an_absent_flipped_byte_fails_and_leaves_nothing) {
    vm_t vm = damaged(&SHMEM, NULL);
    CHECK_FAILS(guestram_save(vm.memory, scratch("again"), NULL), EBADMSG, "0x5000");
    check_says(guestram_error(), "ram", "guestram_save");
    check_says(guestram_error(), "checksum", "guestram_save");
    DIR *listing = opendir(harness_dir());
    REQUIRE(listing);
    for (struct dirent *entry; (entry = readdir(listing));) CHECK(strncmp(entry->d_name, "again", 5) != 0);
    closedir(listing);
    vm_destroy(&vm);
}

/* As docs/snapshot-format.md says it, bit by bit. */
static uint32_t page_checksum(const uint8_t *page) {
    uint32_t crc = 0;
    for (unsigned i = 0; i < PAGE; i++) {
        crc ^= page[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0x82f63b78) : 0);
    }
    return crc;
}

TEST(checksums_are_those_of_the_pages) {
    static uint8_t memory[64 * PAGE];
    static uint32_t sums[65];
    const char *directory = saved(&ANON, false);
    CHECK_EQ(read_file(file_of(directory, "memory"), memory, sizeof memory), sizeof memory);
    CHECK_EQ(read_file(file_of(directory, "checksums"), sums, sizeof sums), 64 * sizeof *sums);
    for (unsigned page = 0; page < 64; page++) {
        CHECK_EQ(sums[page], page_checksum(memory + page * PAGE));
        CHECK_EQ(sums[page] == 0, pattern_is_hole(page * PAGE, PAGE));
    }
}

/* Saved partly absent, the checksums are the same as those of the first snapshot. */
TEST(checksums_of_a_second_save_are_the_same) {
    static uint8_t first[4096], second[4096];
    const char *directory = saved(&ANON, false);
    vm_t vm = vm_of(&ANON, directory, NULL, GUESTRAM_RESTORE_LAZY, GUESTRAM_RESTORE_VERIFY);
    REQUIRE(guestram_start(vm.memory) == 0);
    check_page(&vm, 6 * PAGE);
    REQUIRE(guestram_save(vm.memory, scratch("again"), NULL) == 0);
    size_t length = read_file(file_of(directory, "checksums"), first, sizeof first);
    CHECK_EQ(read_file(file_of(scratch("again"), "checksums"), second, sizeof second), length);
    CHECK(memcmp(first, second, length) == 0);
    vm_destroy(&vm);
}

TEST(checksums_are_sparse_where_the_memory_is) {
    static const uint64_t at[] = {0, 300 * MIB, 300 * MIB + PAGE, GIB - PAGE};
    guestram_t *memory = NULL;
    struct stat info;
    uint64_t value;
    REQUIRE(guestram_create(NULL, &memory) == 0);
    vm_t vm = vm_add(memory, &ANON, GIB, GUESTRAM_REGION_NORESERVE);
    for (unsigned i = 0; i < 4; i++) *(uint64_t *)(void *)(vm.address + at[i]) = i + 1;
    REQUIRE(guestram_save(memory, scratch("sparse"), NULL) == 0);
    vm_destroy(&vm);
    REQUIRE(stat(file_of(scratch("sparse"), "checksums"), &info) == 0);
    CHECK_EQ(info.st_size, MIB);
    CHECK(info.st_blocks * 512 <= 64 * (int64_t)KIB);
    REQUIRE(guestram_create(NULL, &memory) == 0);
    vm = vm_add(memory, &ANON, GIB, GUESTRAM_REGION_NORESERVE);
    CHECK_EQ(restore_flags(memory, scratch("sparse"), GUESTRAM_RESTORE_LAZY, GUESTRAM_RESTORE_VERIFY), 0);
    REQUIRE(guestram_start(memory) == 0);
    CHECK_EQ(vm_info(&vm).absent, 4);
    for (unsigned i = 0; i < 4; i++) {
        CHECK_EQ(touch_read(vm.address + at[i], &value), 0);
        CHECK_EQ(value, i + 1);
    }
    vm_destroy(&vm);
}

/* ---- checksums that are none -- */

static void check_refused(const char *directory, const char *word) {
    guestram_snapshot_t *snapshot = NULL;
    CHECK_FAILS(guestram_snapshot_open(directory, &snapshot), EINVAL, word);
}

TEST(checksums_of_another_size_or_kind_are_refused) {
    const char *directory = saved(&ANON, false), *path = file_of(directory, "checksums");
    static const off_t sizes[] = {0, 255, 257, 252, 260, 1 << 30};
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        REQUIRE(truncate(path, sizes[i]) == 0);
        check_refused(directory, "checksums");
        check_says(guestram_error(), "256", "guestram_snapshot_open");
    }
    REQUIRE(unlink(path) == 0);
    check_refused(directory, "checksums");
    REQUIRE(symlink("memory", path) == 0);
    check_refused(directory, "symbolic link");
    REQUIRE(unlink(path) == 0 && mkfifo(path, 0600) == 0);
    check_refused(directory, "regular");
}

/* They are read for a restore that verifies, and only then. */
static void check_unusable(const char *directory) {
    guestram_t *memory = NULL;
    REQUIRE(guestram_create(NULL, &memory) == 0);
    vm_t vm = vm_add(memory, &ANON, 64 * PAGE, 0);
    CHECK_FAILS(restore_flags(memory, directory, GUESTRAM_RESTORE_LAZY, GUESTRAM_RESTORE_VERIFY), EINVAL, "checksums");
    CHECK_EQ(restore_flags(memory, directory, GUESTRAM_RESTORE_LAZY, 0), 0); /* nothing was changed */
    REQUIRE(guestram_start(memory) == 0);
    CHECK_EQ(vm_mismatch(&vm), -1);
    vm_destroy(&vm);
}

TEST(damaged_or_foreign_checksums_are_refused) {
    static uint32_t sums[64];
    const char *directory = saved(&ANON, false), *path = file_of(directory, "checksums");
    for (uint64_t at = 0; at < sizeof sums; at += 51) {
        flip(path, at);
        check_unusable(directory);
        flip(path, at);
    }
    save_pattern(scratch("other"), 64 * PAGE, PAGE, VM_SEED + 1);
    CHECK_EQ(read_file(file_of(scratch("other"), "checksums"), sums, sizeof sums), sizeof sums);
    write_file(path, sums, sizeof sums);
    check_unusable(directory);
}

/* As a writer without checksums makes it. */
static void take_checksums_away(const char *directory) {
    char text[4096];
    const char *path = file_of(directory, "manifest");
    size_t length = read_file(path, text, sizeof text - 1);
    text[length] = 0;
    char *line = strstr(text, "\nchecksums bytes="), *last = strstr(text, "\nchecksum crc64=");
    REQUIRE(line && last);
    char *next = strchr(line + 1, '\n');
    memmove(line, next, (size_t)(text + length + 1 - next));
    last -= next - line;
    size_t body = (size_t)(last + 1 - text);
    length = body + (size_t)snprintf(last + 1, sizeof text - body, "checksum crc64=%016llx\n",
                                     (unsigned long long)crc64(text, body));
    write_file(path, text, length);
    REQUIRE(unlink(file_of(directory, "checksums")) == 0);
}

TEST(snapshot_without_checksums_opens_and_cannot_be_verified) {
    const char *directory = saved(&ANON, false);
    guestram_t *memory = NULL;
    take_checksums_away(directory);
    REQUIRE(guestram_create(NULL, &memory) == 0);
    vm_t vm = vm_add(memory, &ANON, 64 * PAGE, 0);
    CHECK_FAILS(restore_flags(memory, directory, GUESTRAM_RESTORE_LAZY, GUESTRAM_RESTORE_VERIFY), ENODATA, "VERIFY");
    CHECK_FAILS(restore_flags(memory, directory, GUESTRAM_RESTORE_LAZY, 2), EINVAL, "flags");
    CHECK_EQ(restore_flags(memory, directory, GUESTRAM_RESTORE_LAZY, 0), 0);
    REQUIRE(guestram_start(memory) == 0);
    CHECK_EQ(vm_mismatch(&vm), -1);
    vm_destroy(&vm);
}
