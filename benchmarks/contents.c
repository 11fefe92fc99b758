/* The contents that every side must show, and the snapshot that holds them. */
#include "bench.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { WORDS = 512 };

static uint64_t word(uint64_t page, uint64_t index) {
    return (page + 1) * 0x9e3779b97f4a7c15u + index * 0xd6e8feb86659fd93u;
}

uint64_t pattern_first(uint64_t page) { return word(page, 0); }

void pattern_fill(uint8_t *page_address, uint64_t page) {
    uint64_t *words = (uint64_t *)(void *)page_address;
    for (uint64_t i = 0; i < WORDS; i++)
        words[i] = word(page, i);
}

static void verify(const uint8_t *page_address, uint64_t page) {
    const uint64_t *words = (const uint64_t *)(const void *)page_address;
    uint64_t difference = 0;
    for (uint64_t i = 0; i < WORDS; i++)
        difference |= words[i] ^ word(page, i);
    if (difference != 0)
        fail("page %llu does not hold what was saved", (unsigned long long)page);
}

void pattern_verify(const uint8_t *memory, const uint32_t *pages, size_t count) {
    for (size_t i = 0; i < count; i++)
        verify(memory + pages[i] * PAGE, pages[i]);
}

void pattern_verify_all(const uint8_t *memory, size_t length) {
    for (size_t page = 0; page < length / PAGE; page++)
        verify(memory + page * PAGE, page);
}

static void fill_all(uint8_t *memory, size_t length) {
    for (size_t page = 0; page < length / PAGE; page++)
        pattern_fill(memory + page * PAGE, page);
}

int pattern_memfd(enum kind kind, size_t length) {
    struct mapping mapping = mapping_create(kind, length, -1);
    fill_all(mapping.address, length);
    int fd = dup(mapping.fd);
    check(fd > 0);
    mapping_destroy(&mapping);
    return fd;
}

const struct snapshot *snapshot(void) {
    static struct snapshot saved;
    if (saved.length != 0)
        return &saved;
    const size_t length = quick ? GIB / 4 : GIB;
    snprintf(saved.directory, sizeof saved.directory, "%s/snapshot", directory);
    snprintf(saved.memory, sizeof saved.memory, "%s/memory", saved.directory);

    guestram_t *memory = NULL;
    uint32_t region = 0;
    guestram_region_options_t options = {
        .size = sizeof options, .name = SNAPSHOT_REGION, .type = GUESTRAM_ANON, .length = length};
    call(guestram_create(NULL, &memory));
    call(guestram_region_add(memory, &options, &region));
    guestram_region_info_t info = {.size = sizeof info};
    call(guestram_region_info(memory, region, &info));
    fill_all(info.host_address, length);
    call(guestram_save(memory, saved.directory, NULL));
    guestram_destroy(memory);

    guestram_snapshot_t *opened = NULL;
    guestram_snapshot_region_t where = {.size = sizeof where};
    call(guestram_snapshot_open(saved.directory, &opened));
    call(guestram_snapshot_region(opened, 0, &where));
    guestram_snapshot_close(opened);
    saved.offset = where.file_offset;
    saved.file = open(saved.memory, O_RDONLY | O_CLOEXEC);
    check(saved.file >= 0);
    saved.length = length;
    return &saved;
}

const uint8_t *snapshot_map(void) {
    const struct snapshot *saved = snapshot();
    const uint8_t *source =
        mmap(NULL, saved->length, PROT_READ, MAP_SHARED, saved->file, (off_t)saved->offset);
    check(source != MAP_FAILED);
    return source;
}

void snapshot_unmap(const uint8_t *source) {
    check(munmap((void *)source, snapshot()->length) == 0);
}

static size_t cached_pages(void) {
    const size_t count = snapshot()->length / PAGE;
    unsigned char *resident = malloc(count);
    check(resident != NULL);
    const uint8_t *source = snapshot_map();
    check(mincore((void *)source, snapshot()->length, resident) == 0);
    snapshot_unmap(source);
    size_t cached = 0;
    for (size_t i = 0; i < count; i++)
        cached += resident[i] & 1;
    free(resident);
    return cached;
}

void snapshot_warm(void) {
    const struct snapshot *saved = snapshot();
    static char buffer[1 << 20];
    int attempts = 0;
    /* A machine that frees what nobody used for a while may take some out again meanwhile. */
    do {
        check(attempts++ < 5);
        for (size_t done = 0; done < saved->length; done += sizeof buffer)
            check(pread(saved->file, buffer, sizeof buffer, (off_t)(saved->offset + done)) ==
                  sizeof buffer);
    } while (cached_pages() != saved->length / PAGE);
}

void snapshot_cold(void) {
    check(posix_fadvise(snapshot()->file, 0, 0, POSIX_FADV_DONTNEED) == 0);
    if (cached_pages() == 0)
        return;
    /* Pages that another CPU still holds in a batch; only the machine-wide way frees those. */
    FILE *file = fopen("/proc/sys/vm/drop_caches", "we");
    check(file != NULL && fputs("1\n", file) >= 0 && fclose(file) == 0);
    check(cached_pages() <= snapshot()->length / PAGE / 1000);
}
