/* floor: the library's calls on ranges beside the bare ioctls, in the batches that it uses. */
#include "bench.h"

#include <unistd.h>

enum { BATCHES = 3 };
static const size_t batches[BATCHES] = {PAGE, 64 * 1024, HUGE_PAGE};
#define PART (16 * MIB) /* of the memory, for each batch size */

static int memfd;

static void prepare(void) {
    snapshot_warm();
    memfd = pattern_memfd(KIND_SHMEM, BATCHES * PART);
}

static void finish(void) { close(memfd); }

static void take(double metrics[MAX_METRICS], int batch, uint64_t before) {
    metrics[batch] = (double)(now_ns() - before) / (double)(PART / PAGE);
}

static void run_bare(const void *argument, double metrics[MAX_METRICS]) {
    const bool copies = argument != NULL;
    const uint8_t *source = snapshot_map();
    struct mapping mapping = copies ? mapping_create(KIND_ANON, BATCHES * PART, -1)
                                    : mapping_create(KIND_SHMEM, BATCHES * PART, memfd);
    int uffd = uffd_register(&mapping);
    for (int i = 0; i < BATCHES; i++) {
        size_t offset = (size_t)i * PART;
        uint64_t before = now_ns();
        if (copies)
            floor_copy(uffd, mapping.address + offset, source + offset, PART, batches[i]);
        else
            floor_continue(uffd, mapping.address + offset, PART, batches[i]);
        take(metrics, i, before);
    }
    pattern_verify_all(mapping.address, mapping.length);
    close(uffd);
    mapping_destroy(&mapping);
    snapshot_unmap(source);
}

static void run_calls(const void *argument, double metrics[MAX_METRICS]) {
    const bool copies = argument != NULL;
    const uint8_t *source = snapshot_map();
    guestram_t *memory = NULL;
    uint32_t region = 0;
    guestram_region_options_t options = {
        .size = sizeof options,
        .name = SNAPSHOT_REGION,
        .type = copies ? GUESTRAM_ANON : GUESTRAM_SHMEM,
        .flags =
            GUESTRAM_REGION_USERFAULT | (copies ? 0 : GUESTRAM_REGION_FD | GUESTRAM_REGION_FILLED),
        .length = BATCHES * PART,
        .fd = memfd,
    };
    call(guestram_create(NULL, &memory));
    call(guestram_region_add(memory, &options, &region));
    call(guestram_start(memory));
    for (int i = 0; i < BATCHES; i++) {
        uint64_t before = now_ns();
        for (size_t offset = (size_t)i * PART; offset < (size_t)(i + 1) * PART;
             offset += batches[i])
            call(copies ? guestram_copy(memory, region, offset, source + offset, batches[i], NULL)
                        : guestram_continue(memory, region, offset, batches[i], NULL));
        take(metrics, i, before);
    }
    guestram_region_info_t info = {.size = sizeof info};
    call(guestram_region_info(memory, region, &info));
    pattern_verify_all(info.host_address, options.length);
    guestram_destroy(memory);
    snapshot_unmap(source);
}

const struct bench_case case_floor = {
    .name = "floor",
    .prepare = prepare,
    .finish = finish,
    .sides =
        {
            {"bare COPY", run_bare, "copy"},
            {"bare COPY", run_bare, "copy"},
            {"guestram_copy", run_calls, "copy"},
            {"bare CONTINUE", run_bare, NULL},
            {"bare CONTINUE", run_bare, NULL},
            {"guestram_continue", run_calls, NULL},
        },
    .rows =
        {
            {"floor.copy.4k.aa", "ns", 1, 0, 0, 0, true},
            {"floor.copy.4k", "ns", 2, 0, 0, 0, false},
            {"floor.copy.64k", "ns", 2, 0, 1, 0, false},
            {"floor.copy.2m", "ns", 2, 0, 2, 0, false},
            {"floor.continue.4k.aa", "ns", 4, 3, 0, 0, true},
            {"floor.continue.4k", "ns", 5, 3, 0, 0, false},
            {"floor.continue.64k", "ns", 5, 3, 1, 0, false},
            {"floor.continue.2m", "ns", 5, 3, 2, 0, false},
        },
    .rounds = 9,
    .quick_rounds = 3,
};
