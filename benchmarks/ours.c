/* The library, used as a VMM would. */
#include "bench.h"

void ours_prepare(struct ours *ours, const struct ours_options *options) {
    guestram_pool_options_t pool = {.size = sizeof pool,
                                    .workers = options->workers,
                                    .fillers = options->fillers,
                                    .sandbox = options->sandbox};
    call(guestram_pool_create(&pool, &ours->pool));
    guestram_options_t memory = {
        .size = sizeof memory, .pool = ours->pool, .window = options->window};
    call(guestram_create(&memory, &ours->memory));

    const bool restored = options->memfd <= 0;
    guestram_region_options_t region = {
        .size = sizeof region,
        .name = SNAPSHOT_REGION,
        .type = options->type,
        .length = restored ? snapshot()->length : options->length,
        .fd = options->memfd,
        .vm_fd = options->vm_fd,
        .flags = restored ? 0 : GUESTRAM_REGION_FD | GUESTRAM_REGION_FILLED,
    };
    call(guestram_region_add(ours->memory, &region, &ours->region));
    if (restored) {
        guestram_snapshot_t *saved = NULL;
        call(guestram_snapshot_open(snapshot()->directory, &saved));
        guestram_restore_options_t restore = {.size = sizeof restore, .mode = options->mode};
        call(guestram_restore(ours->memory, saved, &restore));
        guestram_snapshot_close(saved);
    }
    guestram_region_info_t info = {.size = sizeof info};
    call(guestram_region_info(ours->memory, ours->region, &info));
    ours->address = info.host_address;
    ours->length = region.length;
}

void ours_start(struct ours *ours) { call(guestram_start(ours->memory)); }

void ours_stop(struct ours *ours) {
    guestram_destroy(ours->memory);
    call(guestram_pool_destroy(ours->pool));
}
