#include "support.h"

const char *scratch(const char *name) {
    static char paths[16][512];
    static unsigned next;
    char *path = paths[next++ % 16];
    snprintf(path, sizeof paths[0], "%s/%s", harness_dir(), name);
    return path;
}

void save_pattern(const char *directory, uint64_t length, uint64_t granule, uint64_t seed) {
    guestram_t *memory = NULL;
    REQUIRE(guestram_create(NULL, &memory) == 0);
    vm_t vm = vm_add(memory, &ANON, length, GUESTRAM_REGION_NORESERVE);
    pattern_fill(vm.address, length, granule, seed);
    int error = guestram_save(vm.memory, directory, NULL);
    if (error < 0) printf("save: %s\n", guestram_error());
    REQUIRE(error == 0);
    guestram_destroy(vm.memory);
}

guestram_snapshot_t *opened(const char *directory) {
    guestram_snapshot_t *snapshot = NULL;
    if (guestram_snapshot_open(directory, &snapshot) < 0) printf("open: %s\n", guestram_error());
    REQUIRE(snapshot);
    return snapshot;
}

void restore(guestram_t *memory, const char *directory, uint32_t mode) {
    guestram_snapshot_t *snapshot = opened(directory);
    guestram_restore_options_t options = {.size = sizeof options, .mode = mode};
    int error = guestram_restore(memory, snapshot, &options);
    if (error < 0) printf("restore: %s\n", guestram_error());
    REQUIRE(error == 0);
    guestram_snapshot_close(snapshot);
}

void cut_memory_file(const char *directory, uint64_t length) {
    char path[512];
    snprintf(path, sizeof path, "%s/memory", directory);
    REQUIRE(truncate(path, (off_t)length) == 0);
}

size_t read_file(const char *path, void *bytes, size_t length) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t count = file < 0 ? -1 : read(file, bytes, length);
    REQUIRE(count >= 0);
    close(file);
    return (size_t)count;
}

void write_file(const char *path, const void *bytes, size_t length) {
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    REQUIRE(file >= 0 && write(file, bytes, length) == (ssize_t)length);
    close(file);
}

uint64_t crc64(const char *bytes, size_t length) { /* CRC-64/XZ, bit by bit */
    uint64_t crc = ~UINT64_C(0);
    for (size_t i = 0; i < length; i++) {
        crc ^= (unsigned char)bytes[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? UINT64_C(0xc96c5795d7870f42) : 0);
    }
    return ~crc;
}
