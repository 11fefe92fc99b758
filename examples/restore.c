/*
 * restore.c: the smallest whole use of guestram.h. Restores a snapshot lazily, reads some of it the
 * way a vCPU would, and says how little had to be loaded.
 *
 *     restore DIR [--all]      --all: brings the rest as well, in the background, and waits
 */
#include <guestram.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(int result, const char *what) {
    if (result == 0)
        return;
    fprintf(stderr, "restore: %s: %s\n", what, guestram_error());
    exit(1);
}

int main(int argc, char **argv) {
    if (argc < 2 || argc > 3 || (argc == 3 && strcmp(argv[2], "--all"))) {
        fputs("usage: restore DIR [--all]\n", stderr);
        return 2;
    }

    guestram_snapshot_t *snapshot;
    guestram_t *memory;
    check(guestram_snapshot_open(argv[1], &snapshot), argv[1]);
    check(guestram_create(NULL, &memory), "create");
    check(guestram_restore(memory, snapshot, NULL), "restore"); /* NULL: lazily */
    guestram_snapshot_close(snapshot);
    check(guestram_start(memory), "start");

    /* A VMM would now give each slot's host_address to KVM. Here the first bytes of eight places
     * of each are read; each read is a page fault that the library answers. */
    guestram_slot_t slot = {.size = sizeof slot};
    for (uint64_t from = 0; guestram_slot_next(memory, from, &slot) == 0;
         from = slot.guest_physical + slot.length) {
        printf("slot at %#" PRIx64 ", %" PRIu64 " MiB\n", slot.guest_physical, slot.length >> 20);
        for (uint64_t i = 0; i < 8; i++) {
            uint64_t offset = slot.length / 8 * i / 4096 * 4096;
            const unsigned char *bytes = (const unsigned char *)slot.host_address + offset;
            printf("  %#12" PRIx64 ": %02x %02x %02x %02x\n", slot.guest_physical + offset,
                   bytes[0], bytes[1], bytes[2], bytes[3]);
        }
    }

    if (argc == 3) {
        check(guestram_background_fill(memory, UINT64_MAX), "background fill");
        check(guestram_wait_resident(memory, -1), "wait");
    }

    guestram_stats_t stats = {.size = sizeof stats};
    check(guestram_stats(memory, &stats), "stats");
    printf("%" PRIu64 " faults, %" PRIu64 " of %" PRIu64 " pages loaded, %" PRIu64 " bytes read\n",
           stats.faults, stats.pages_loaded, stats.pages_total, stats.bytes_read);
    guestram_destroy(memory);
    return 0;
}
