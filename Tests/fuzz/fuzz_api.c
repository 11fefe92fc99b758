/*
 * A program of calls on one memory, a byte an operation and a few for its arguments, good and bad.
 * model.c says what every page must hold; all of it is read at the end.
 */
#include "fuzz.h"
#include "model.h"
#include "ranges.h"

#define LONG "more-than-sixty-three-characters-more-than-sixty-three-characters"

static void region_add(input_t *input) {
    static const char *const names[] = {"ram", "a", "b", "", "a/b", LONG};
    uint8_t shape = take(input), odd = take(input);
    struct {
        guestram_region_options_t options;
        uint8_t tail[256]; /* as large as it may say that it is */
    } given = {.options = {.size = sizeof given.options,
                           .name = names[shape % 6],
                           .type = shape >> 3 & 1 ? GUESTRAM_SHMEM : GUESTRAM_ANON,
                           .flags = shape >> 4 & 1 ? GUESTRAM_REGION_USERFAULT : 0,
                           .length = MODEL_BYTES}};
    guestram_region_options_t *options = &given.options;
    if (shape >> 5 & 1 && options->type == GUESTRAM_SHMEM)
        options->flags |= GUESTRAM_REGION_PRIVATE;
    switch (odd) { /* mostly none */
    case 240:
        options->size = take(input), given.tail[100] = take(input) & 1;
        break;
    case 241:
        options->flags = (uint32_t)take_number(input) & ~(uint32_t)GUESTRAM_REGION_FD;
        break;
    case 242:
        options->length = take_number(input) | UINT64_C(1) << 47;
        break;
    case 243:
        options->page_size = take_number(input);
        break;
    case 244:
        options->type = take(input) | 8u;
        break;
    case 245:
        options->host_address = (void *)(uintptr_t)(take_number(input) | UINT64_C(1) << 63);
        break;
    case 246:
        options->flags |= GUESTRAM_REGION_FD, options->fd = -1 - (int)take(input);
        break;
    case 247:
        options->policy = take(input), options->host_nodes = take_number(input);
        break;
    case 248:
        options->reserved = 1 + (uint32_t)take(input);
        break;
    default:
        break;
    }
    uint32_t region = 0;
    if (answered(guestram_region_add(memory, options, &region)) < 0)
        return;
    HOLDS(region != 0 && !model_find(region) && options->length == MODEL_BYTES);
    model_t *model = model_new(memory, region);
    if (!model)
        HOLDS(guestram_region_remove(memory, region) == 0);
}

static void region_remove(input_t *input) {
    uint32_t region = take_region(input);
    model_t *model = model_find(region);
    int error = answered(guestram_region_remove(memory, region));
    HOLDS((error == 0) == (model != NULL));
    if (model)
        model->id = 0;
}

static void slots(input_t *input, uint8_t which) {
    guestram_slot_t slot = {.size = sizeof slot, .guest_physical = take_offset(input)};
    if (which == 0) {
        slot.length = take_length(input), slot.offset = take_offset(input),
        slot.region = take_region(input);
        answered(guestram_slot_add(memory, &slot));
    } else if (which == 1) {
        answered(guestram_slot_remove(memory, slot.guest_physical));
    } else {
        uint64_t from = slot.guest_physical;
        if (answered(guestram_slot_next(memory, from, &slot)) == 0)
            HOLDS(slot.guest_physical >= from && slot.length > 0 && model_find(slot.region));
    }
}

static void start_or_stop(input_t *input, bool start) {
    uint32_t flags = take(input);
    if (start) {
        int error = answered(guestram_start(memory));
        HOLDS((error == 0) == (!started && !stopped));
        started |= error == 0;
    } else if (answered(guestram_stop(memory, flags < 8 ? flags : 0)) == 0) {
        stopped = true;
    }
}

static void look(input_t *input) {
    guestram_stats_t stats = {.size = sizeof stats};
    guestram_region_info_t info = {.size = sizeof info};
    guestram_latency_t latency = {.size = sizeof latency};
    guestram_event_t event = {.size = sizeof event};
    uint32_t region = take_region(input), next;
    HOLDS(guestram_stats(memory, &stats) == 0 && stats.pages_present <= stats.pages_total);
    HOLDS((guestram_region_info(memory, region, &info) == 0) == (model_find(region) != NULL));
    answered(guestram_region_next(memory, region, &next));
    answered(guestram_latency(memory, take(input), &latency));
    if (guestram_next_event(memory, &event) == 0)
        HOLDS(event.type >= GUESTRAM_EVENT_RESIDENT && event.type <= GUESTRAM_EVENT_STALE_REMOVED);
    HOLDS(guestram_event_fd(memory) >= 0);
}

static void background(input_t *input, uint8_t which) {
    range_t range = take_range(input);
    uint8_t rate = take(input);
    if (which == 0)
        answered(guestram_background_fill(memory, rate > 128 ? UINT64_MAX : (uint64_t)rate << 16));
    else if (which == 1)
        answered(guestram_prefetch(memory, range.region, range.offset, range.length));
    else if (which == 2)
        answered(guestram_wait_resident(memory, rate & 7));
    else
        answered(guestram_collapse(memory, range.region, range.offset, range.length));
}

static void no_handle(input_t *input) {
    uint64_t number = take_number(input), done;
    uint32_t region;
    switch (take(input) % 8) {
    case 0:
        HOLDS(guestram_copy(NULL, 1, number, &number, PAGE, &done) < 0);
        break;
    case 1:
        HOLDS(guestram_start(NULL) < 0);
        break;
    case 2:
        HOLDS(guestram_save(NULL, "", NULL) < 0 && guestram_save(memory, NULL, NULL) < 0);
        break;
    case 3:
        HOLDS(guestram_restore(memory, NULL, NULL) < 0);
        break;
    case 4:
        HOLDS(guestram_region_add(memory, NULL, &region) < 0);
        break;
    case 5:
        HOLDS(guestram_stats(memory, NULL) < 0);
        break;
    case 6:
        HOLDS(guestram_dirty_merge(memory, 1, number, PAGE, NULL) < 0);
        break;
    default:
        HOLDS(guestram_slot_add(memory, NULL) < 0);
    }
}

static void step(input_t *input) {
    uint8_t operation = take(input) % 32;
    if (operation < 8)
        touch(input);
    else if (operation < 14)
        fill(input, operation < 12 ? operation - 8 : 0);
    else if (operation < 16)
        discard(input);
    else if (operation < 17)
        move(input);
    else if (operation < 21)
        track(input, operation & 1);
    else if (operation < 22)
        region_add(input);
    else if (operation < 23)
        region_remove(input);
    else if (operation < 26)
        slots(input, operation - 23);
    else if (operation < 27)
        start_or_stop(input, take(input) < 240);
    else if (operation < 28)
        model_save(memory, take(input));
    else if (operation < 29)
        look(input);
    else if (operation < 31)
        background(input, take(input) % 4);
    else
        no_handle(input);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input_t input = {data, data + size};
    uint8_t shape = take(&input);
    guestram_options_t options = {.size = sizeof options,
                                  .pool = fuzz_pool(),
                                  .window = shape & 1 ? 4096 : 0,
                                  .on_error = shape >> 1 & 1};
    guestram_snapshot_t *snapshot = model_snapshot();
    size_t fds = open_fds();
    started = stopped = false;
    HOLDS(guestram_create(&options, &memory) == 0);
    model_restored(memory, snapshot, shape >> 2);
    if (shape & 0x80)
        HOLDS(guestram_start(memory) == 0), started = true;
    for (unsigned i = 0; i < 200 && input.at < input.end; i++)
        step(&input);
    if (!started && !stopped)
        HOLDS(guestram_start(memory) == 0);
    if (started)
        model_check(stopped); /* before it is nothing may be touched */
    guestram_destroy(memory);
    HOLDS(open_fds() == fds);
    return 0;
}
