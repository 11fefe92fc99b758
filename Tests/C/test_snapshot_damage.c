/* A snapshot that is not whole is refused when it is opened, with a sentence that says how; one
 * that could not be written whole is not there. */
#include "support.h"

#include <dirent.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>

static const char *file_of(const char *directory, const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", strrchr(directory, '/') + 1, name);
    return scratch(path);
}

static uint64_t file_size(const char *path) {
    struct stat info;
    REQUIRE(stat(path, &info) == 0);
    return (uint64_t)info.st_size;
}

/* Two regions, slots and a state. */
static const char *whole_snapshot(const char *name) {
    static const char state[] = "registers";
    const char *directory = scratch(name);
    guestram_t *memory = NULL;
    uint32_t id;
    guestram_region_options_t second = region_options(&SHMEM, MIB);
    second.name = "second";
    guestram_save_options_t options = {
        .size = sizeof options, .state = state, .state_length = sizeof state};
    REQUIRE(guestram_create(NULL, &memory) == 0);
    vm_t vm = vm_add(memory, &ANON, MIB, 0);
    pattern_fill(vm.address, MIB, PAGE, 1);
    REQUIRE(guestram_region_add(memory, &second, &id) == 0);
    guestram_slot_t slot = {
        .size = sizeof slot, .guest_physical = GIB, .length = MIB, .region = id};
    REQUIRE(guestram_slot_add(memory, &slot) == 0);
    REQUIRE(guestram_save(memory, directory, &options) == 0);
    vm_destroy(&vm);
    return directory;
}

static int try_open(const char *directory) {
    guestram_snapshot_t *snapshot = NULL;
    int error = guestram_snapshot_open(directory, &snapshot);
    CHECK((error == 0) == (snapshot != NULL));
    if (error < 0)
        CHECK(strlen(guestram_error()) > 0);
    guestram_snapshot_close(snapshot);
    return error;
}

static void check_damaged(const char *directory, const char *word) {
    CHECK_EQ(try_open(directory), -EINVAL);
    check_says(guestram_error(), word, "guestram_snapshot_open");
}

TEST(manifest_cut_anywhere) {
    static char manifest[65536];
    const char *directory = whole_snapshot("s"), *path = file_of(directory, "manifest");
    size_t length = read_file(path, manifest, sizeof manifest);
    CHECK(length > 0 && length < sizeof manifest);
    for (size_t cut = 0; cut < length; cut++) {
        write_file(path, manifest, cut);
        CHECK_EQ(try_open(directory), -EINVAL);
    }
    check_says(guestram_error(), "manifest", "guestram_snapshot_open");
    write_file(path, manifest, length);
    CHECK_EQ(try_open(directory), 0);
}

TEST(manifest_with_any_byte_changed) {
    static char manifest[65536];
    const char *directory = whole_snapshot("s"), *path = file_of(directory, "manifest");
    size_t length = read_file(path, manifest, sizeof manifest);
    for (size_t at = 0; at < length; at++) {
        static const unsigned char changes[] = {0x01, 0x20, 0x80, 0xff};
        for (size_t i = 0; i < sizeof changes; i++) {
            manifest[at] = (char)(manifest[at] ^ changes[i]);
            write_file(path, manifest, length);
            int error = try_open(directory);
            CHECK(error == -EINVAL || error == -EPROTONOSUPPORT);
            manifest[at] = (char)(manifest[at] ^ changes[i]);
        }
    }
    manifest[length] = '\n';
    write_file(path, manifest, length + 1);
    CHECK_EQ(try_open(directory), -EINVAL);
}

TEST(manifest_that_is_no_manifest) {
    static char noise[3 * 1024 * 1024];
    const char *directory = whole_snapshot("s"), *path = file_of(directory, "manifest");
    write_file(path, noise, 4096);
    check_damaged(directory, "manifest");
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (char)(i * 2654435761u >> 13);
    write_file(path, noise, sizeof noise);
    check_damaged(directory, "manifest");
    memset(noise, 'a', sizeof noise);
    write_file(path, noise, sizeof noise);
    check_damaged(directory, "manifest");
    REQUIRE(truncate(path, (off_t)(64 * GIB)) == 0); /* sparse; must not be read into memory */
    check_damaged(directory, "manifest");
    CHECK(harness_rss_kib() < 256 * 1024);
}

/* Without a manifest there is no snapshot; without another file it is a damaged one. */
static void check_missing(const char *name, int error) {
    const char *directory = whole_snapshot(name);
    REQUIRE(unlink(file_of(directory, name)) == 0);
    CHECK_EQ(try_open(directory), error);
    check_says(guestram_error(), name, "guestram_snapshot_open");
}

TEST(files_that_are_missing) {
    check_missing("manifest", -ENOENT);
    check_missing("memory", -EINVAL);
    check_missing("state", -EINVAL);
    CHECK_EQ(try_open(scratch("never")), -ENOENT);
    write_file(scratch("file"), "x", 1);
    CHECK_EQ(try_open(scratch("file")), -ENOTDIR);
    REQUIRE(mkdir(scratch("empty"), 0700) == 0);
    CHECK_EQ(try_open(scratch("empty")), -ENOENT);
}

static void check_sizes(const char *name, const char *file) {
    const char *directory = whole_snapshot(name), *path = file_of(directory, file);
    uint64_t length = file_size(path);
    const int64_t changes[] = {-(int64_t)length, -1, 1, (int64_t)PAGE, (int64_t)(8 * GIB)};
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        REQUIRE(truncate(path, (off_t)((int64_t)length + changes[i])) == 0);
        check_damaged(directory, file);
    }
    REQUIRE(truncate(path, (off_t)length) == 0);
}

TEST(memory_file_truncated_and_oversized) { check_sizes("s", "memory"); }
TEST(state_file_truncated_and_oversized) { check_sizes("s", "state"); }

TEST(state_with_a_changed_byte) {
    const char *directory = whole_snapshot("s");
    char state[64];
    size_t length = read_file(file_of(directory, "state"), state, sizeof state);
    state[3] ^= 4;
    write_file(file_of(directory, "state"), state, length);
    guestram_snapshot_t *snapshot = NULL;
    const void *seen;
    int error = guestram_snapshot_open(directory, &snapshot);
    if (error == 0)
        error = guestram_snapshot_state(snapshot, &seen, &length);
    CHECK_EQ(error, -EINVAL);
    check_says(guestram_error(), "state", "guestram_snapshot_state");
    check_says(guestram_error(), "checksum", "guestram_snapshot_state");
    guestram_snapshot_close(snapshot);
}

/* What opening would wait for, or never end to read. */
TEST(files_of_other_kinds) {
    static const char *const names[] = {"manifest", "memory", "state"};
    for (unsigned i = 0; i < 3; i++) {
        const char *directory = whole_snapshot(names[i]), *path = file_of(directory, names[i]);
        REQUIRE(unlink(path) == 0 && mkfifo(path, 0600) == 0);
        check_damaged(directory, names[i]);
        REQUIRE(unlink(path) == 0 && mkdir(path, 0700) == 0);
        CHECK(try_open(directory) < 0);
        REQUIRE(rmdir(path) == 0 && symlink("/dev/zero", path) == 0);
        CHECK(try_open(directory) < 0);
    }
}

static unsigned entries_beside(const char *directory) {
    unsigned count = 0;
    DIR *listing = opendir(directory);
    REQUIRE(listing);
    for (struct dirent *entry; (entry = readdir(listing));)
        count++;
    closedir(listing);
    return count - 2; /* . and .. */
}

TEST(directory_that_exists_is_left_as_it_was) {
    const char *directory = whole_snapshot("s");
    guestram_t *memory = NULL;
    REQUIRE(guestram_create(NULL, &memory) == 0);
    vm_t vm = vm_add(memory, &SHMEM, MIB, 0);
    CHECK_FAILS(guestram_save(memory, directory, NULL), EEXIST, "directory");
    CHECK_EQ(try_open(directory), 0);
    REQUIRE(mkdir(scratch("empty"), 0700) == 0);
    CHECK_FAILS(guestram_save(memory, scratch("empty"), NULL), EEXIST, "directory");
    CHECK_EQ(rmdir(scratch("empty")), 0);
    write_file(scratch("file"), "x", 1);
    CHECK_FAILS(guestram_save(memory, scratch("file"), NULL), EEXIST, "directory");
    vm_destroy(&vm);
}

TEST(full_file_system_leaves_nothing_behind) {
    const char *place = scratch("small");
    REQUIRE(mkdir(place, 0700) == 0);
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("tmpfs", place, "tmpfs", 0, "size=1m") < 0)
        SKIP_LACKING("the right to mount a small tmpfs");
    guestram_t *memory = NULL;
    REQUIRE(guestram_create(NULL, &memory) == 0);
    vm_t vm = vm_add(memory, &ANON, 4 * MIB, 0);
    pattern_fill(vm.address, vm.length, PAGE, 1);
    CHECK_FAILS(guestram_save(memory, scratch("small/snapshot"), NULL), ENOSPC, "No space");
    CHECK_EQ(entries_beside(place), 0);
    CHECK_EQ(pattern_mismatch(vm.address, vm.length, PAGE, 1), -1);
    vm_destroy(&vm);
    umount2(place, MNT_DETACH);
}

static uint64_t disk_bytes(const char *directory) {
    static const char *const names[] = {"manifest", "memory", "checksums", "state"};
    uint64_t bytes = 0;
    struct stat info;
    for (unsigned i = 0; i < 4; i++)
        if (stat(file_of(directory, names[i]), &info) == 0)
            bytes += (uint64_t)info.st_blocks * 512;
    return bytes;
}

static unsigned count_temporary(const char *name, uint64_t *bytes) {
    unsigned count = 0;
    char begin[32];
    snprintf(begin, sizeof begin, "%s.tmp-", name);
    DIR *listing = opendir(harness_dir());
    REQUIRE(listing);
    for (struct dirent *entry; (entry = readdir(listing));) {
        if (strncmp(entry->d_name, begin, strlen(begin)) != 0)
            continue;
        *bytes += disk_bytes(scratch(entry->d_name));
        count++;
    }
    closedir(listing);
    return count;
}

/* The next save to the same directory removes what was left there, and says so. True: it was. */
static bool check_cleaned(const char *name) {
    uint64_t bytes = 0;
    unsigned left = count_temporary(name, &bytes);
    guestram_t *memory = NULL;
    guestram_event_t event = {.size = sizeof event};
    REQUIRE(guestram_create(NULL, &memory) == 0);
    vm_t vm = vm_add(memory, &ANON, MIB, 0);
    CHECK_EQ(guestram_save(memory, scratch(name), NULL), 0);
    CHECK_EQ(count_temporary(name, &bytes), 0);
    struct pollfd told = {.fd = guestram_event_fd(memory), .events = POLLIN};
    CHECK_EQ(poll(&told, 1, 0), left);
    if (left) {
        CHECK_EQ(guestram_next_event(memory, &event), 0);
        CHECK_EQ(event.type, GUESTRAM_EVENT_STALE_REMOVED);
        /* The file system may still have been placing it. */
        CHECK(event.length + MIB >= bytes && event.length <= bytes + MIB);
    }
    CHECK_EQ(guestram_next_event(memory, &event), -EAGAIN);
    vm_destroy(&vm);
    return left > 0;
}

/* Killed at any moment, a save leaves its directory whole or not at all. */
TEST(killed_while_saving) {
    unsigned whole = 0, none = 0, cleaned = 0;
    uint64_t begin = now_ns();
    save_pattern(scratch("measured"), 8 * MIB, PAGE, VM_SEED);
    useconds_t duration = (useconds_t)((now_ns() - begin) / 1000);
    for (unsigned round = 0; round < 40; round++) {
        char name[16];
        snprintf(name, sizeof name, "round%u", round);
        const char *directory = scratch(name);
        int ready[2];
        REQUIRE(pipe(ready) == 0);
        pid_t child = fork();
        REQUIRE(child >= 0);
        if (child == 0) {
            guestram_t *memory = NULL;
            if (guestram_create(NULL, &memory) < 0)
                _exit(1);
            vm_t vm = vm_add(memory, &ANON, 8 * MIB, 0);
            pattern_fill(vm.address, vm.length, PAGE, VM_SEED);
            if (write(ready[1], "", 1) != 1)
                _exit(1);
            _exit(guestram_save(memory, directory, NULL) < 0);
        }
        char byte;
        CHECK_EQ(read(ready[0], &byte, 1), 1);
        close(ready[0]), close(ready[1]);
        usleep(round * duration / 20); /* up to twice as long as one takes */
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        if (access(directory, F_OK) < 0) {
            none++;
            cleaned += check_cleaned(name);
            continue;
        }
        whole++;
        guestram_t *memory = NULL;
        REQUIRE(guestram_create(NULL, &memory) == 0);
        vm_t vm = vm_add(memory, &ANON, 8 * MIB, 0);
        restore(memory, directory, GUESTRAM_RESTORE_EAGER);
        REQUIRE(guestram_start(memory) == 0);
        CHECK_EQ(vm_mismatch(&vm), -1);
        vm_destroy(&vm);
    }
    printf("%u whole, %u not there, %u of them left something\n", whole, none, cleaned);
    CHECK(none > 0 && whole > 0 && cleaned > 0);
}
