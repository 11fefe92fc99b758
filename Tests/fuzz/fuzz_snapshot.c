/*
 * A snapshot directory: a forged manifest (its checksum made right, or nothing else would be
 * tried), files of any size. It is refused, or restored and read: then every page is the file's,
 * zero in a hole, or SIGBUS where the file ends too early or its checksum differs.
 *
 * Input: a byte of flags, the sizes of memory and state, the page that is damaged, then the
 * manifest without its last line and that of the checksums.
 */
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    NO_MEMORY = 1,
    STATE = 2,
    WRONG_CHECKSUM = 4,
    CUT_LATER = 8,
    EAGER = 16,
    LINK = 32,
    CHECKSUMS = 64,
    VERIFY = 128
};
enum { MOST_PAGES = 4096 }; /* of a region that is read */
enum { DATA_PAGES = 64 };   /* of the memory file; behind them is a hole */
static const uint64_t none = UINT64_MAX;

static int create_file(const char *directory, const char *name) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    HOLDS(fd >= 0);
    return fd;
}

static void write_all(int fd, const void *bytes, size_t length) {
    HOLDS(write(fd, bytes, length) == (ssize_t)length);
}

/* A word of contents per 8 KiB, so that every second page is a hole. */
static uint64_t word(uint64_t page) { return page & 1 ? 0 : page * 2 + 1; }

static int write_memory(const char *directory, uint64_t size) {
    int fd = create_file(directory, "memory");
    HOLDS(ftruncate(fd, (off_t)size) == 0);
    for (uint64_t page = 0; page < DATA_PAGES; page += 2)
        if ((page + 1) * PAGE <= size)
            HOLDS(pwrite(fd, &(uint64_t){word(page)}, 8, (off_t)(page * PAGE)) == 8);
    return fd;
}

/* Of a page that is zero but for its first word: CRC-32C, initial value 0, no exclusive-or. */
static uint32_t page_checksum(uint64_t first) {
    uint32_t crc = 0;
    for (unsigned i = 0; first && i < PAGE; i++) {
        crc ^= i < 8 ? (uint8_t)(first >> 8 * i) : 0;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return crc;
}

/* The manifest's line, for the file that it writes. */
static const char *write_checksums(const char *directory, uint64_t size) {
    static uint32_t data[DATA_PAGES], all[4400];
    static char line[80];
    uint64_t pages = (size + PAGE - 1) / PAGE;
    HOLDS(pages < sizeof all / sizeof *all);
    memset(all, 0, pages * 4);
    for (uint64_t page = 0; page < DATA_PAGES && (page + 1) * PAGE <= size; page++) {
        if (!data[page])
            data[page] = page_checksum(word(page));
        all[page] = data[page];
    }
    int fd = create_file(directory, "checksums");
    write_all(fd, all, pages * 4);
    close(fd);
    snprintf(line, sizeof line, "checksums bytes=%llu crc64=%016llx\n",
             (unsigned long long)pages * 4, (unsigned long long)crc64(all, pages * 4));
    return line;
}

/* The line of the checksums stands before the first region. */
static void write_manifest(const char *directory, uint8_t flags, const input_t *text,
                           const char *checksums) {
    static char all[8192];
    size_t length = (size_t)(text->end - text->at), added = strlen(checksums);
    const uint8_t *region = added ? memmem(text->at, length, "\nregion ", 8) : NULL;
    size_t before = region ? (size_t)(region + 1 - text->at) : length;
    HOLDS(length + added <= sizeof all);
    memcpy(all, text->at, before);
    memcpy(all + before, checksums, added);
    memcpy(all + before + added, text->at + before, length - before);
    int fd = create_file(directory, "manifest");
    write_all(fd, all, length + added);
    dprintf(fd, "checksum crc64=%016llx\n",
            (unsigned long long)(crc64(all, length + added) ^ (flags & WRONG_CHECKSUM)));
    close(fd);
}

/* What is damaged is never read where it is verified. */
static void read_region(guestram_t *memory, const guestram_snapshot_region_t *saved, uint64_t cut,
                        uint64_t damaged, bool verified) {
    static uint64_t page[PAGE / 8];
    guestram_region_info_t info = {.size = sizeof info};
    uint32_t region;
    HOLDS(guestram_region_find(memory, saved->name, &region) == 0);
    HOLDS(guestram_region_info(memory, region, &info) == 0);
    HOLDS(info.length == saved->length && info.type == saved->type);
    uint64_t pages = info.length / PAGE, step = pages > MOST_PAGES ? pages / 16 : 1;
    if (info.granule > PAGE)
        return; /* the machine's hugepages are others' as well */
    for (uint64_t i = 0; i < pages; i += step) {
        uint64_t in_file = saved->file_offset / PAGE + i;
        bool there = (in_file + 1) * PAGE <= cut;
        if (!read_page(page, (uint8_t *)info.host_address + i * PAGE)) {
            HOLDS(!there || (verified && in_file == damaged));
            continue;
        }
        if (in_file == damaged) {
            HOLDS(!verified);
            continue;
        }
        uint64_t expected = in_file < DATA_PAGES ? word(in_file) : 0;
        HOLDS(page[0] == expected);
        HOLDS(there || expected == 0); /* a hole stays one wherever the file is cut */
        for (size_t at = 1; at < PAGE / 8; at++)
            HOLDS(page[at] == 0);
    }
}

static void restore(guestram_snapshot_t *snapshot, uint8_t flags, int file, uint64_t size,
                    uint64_t damaged) {
    guestram_options_t options = {.size = sizeof options, .pool = fuzz_pool()};
    guestram_restore_options_t how = {.size = sizeof how,
                                      .mode = flags & EAGER ? GUESTRAM_RESTORE_EAGER : 0,
                                      .flags = flags & VERIFY ? GUESTRAM_RESTORE_VERIFY : 0};
    guestram_snapshot_region_t saved = {.size = sizeof saved};
    guestram_t *memory;
    uint64_t total = 0;
    for (uint32_t i = 0; guestram_snapshot_region(snapshot, i, &saved) == 0; i++) {
        HOLDS(saved.length <= size && saved.file_offset <= size - saved.length);
        HOLDS(saved.type >= GUESTRAM_ANON && saved.type <= GUESTRAM_GUEST_MEMFD);
        HOLDS(saved.length > 0 && saved.length % saved.page_size == 0);
        HOLDS(strlen(saved.name) < sizeof saved.name && saved.data <= saved.length);
        total += saved.length;
    }
    if (total > 256u << 20)
        return; /* too much memory to have it made */
    HOLDS(guestram_create(&options, &memory) == 0);
    if (answered(guestram_restore(memory, snapshot, &how)) == 0) {
        if (flags & CUT_LATER && !(flags & EAGER))
            HOLDS(ftruncate(file, (off_t)(size /= 2)) == 0);
        if (answered(guestram_start(memory)) == 0)
            for (uint32_t i = 0; guestram_snapshot_region(snapshot, i, &saved) == 0; i++)
                read_region(memory, &saved, size, damaged, flags & VERIFY);
    }
    guestram_destroy(memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input_t input = {data, data + size};
    fuzz_pool();
    char directory[96];
    snprintf(directory, sizeof directory, "%s/snapshot", fuzz_directory());
    size_t fds = open_fds();
    HOLDS(mkdir(directory, 0700) == 0);

    uint8_t flags = take(&input);
    uint64_t memory_size = (uint64_t)take(&input) * 65536 + (uint64_t)take(&input) * 4096;
    memory_size += take(&input);
    size_t state_size = take(&input);
    uint8_t which = take(&input);
    uint64_t damaged = which ? which - 1u : none;
    int file = -1;
    if (!(flags & NO_MEMORY))
        file = write_memory(directory, memory_size);
    if (flags & STATE) {
        int fd = create_file(directory, "state");
        write_all(fd, "0123456789abcdefghijklmnopqrstuvwxyz", state_size % 37);
        close(fd);
    }
    if (flags & LINK) {
        char path[112];
        snprintf(path, sizeof path, "%s/manifest", directory);
        HOLDS(symlink("memory", path) == 0);
    } else {
        write_manifest(directory, flags, &input,
                       flags & CHECKSUMS ? write_checksums(directory, memory_size) : "");
    }
    /* Data or a hole; within the file. */
    if (file >= 0 && damaged != none && (damaged + 1) * PAGE <= memory_size)
        HOLDS(pwrite(file, "?", 1, (off_t)(damaged * PAGE + 77)) == 1);
    else
        damaged = none;

    guestram_snapshot_t *snapshot = NULL;
    int error = answered(guestram_snapshot_open(directory, &snapshot));
    HOLDS((error == 0) == (snapshot != NULL));
    if (error == 0) {
        HOLDS(!(flags & (NO_MEMORY | WRONG_CHECKSUM | LINK)));
        const void *state = "";
        size_t length = 0;
        HOLDS(guestram_snapshot_state(snapshot, &state, &length) == 0);
        HOLDS(length <= 36 &&
              (length == 0 || !memcmp(state, "0123456789abcdefghijklmnopqrstuvwxyz", length)));
        restore(snapshot, flags, file, memory_size, damaged);
        guestram_snapshot_close(snapshot);
    }
    if (file >= 0)
        close(file);
    remove_directory(directory);
    HOLDS(open_fds() == fds);
    return 0;
}
