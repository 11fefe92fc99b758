/*
 * A program of calls on one memory, a byte an operation and a few for its arguments, good and bad.
 * model.c says what every page must hold; all of it is read at the end.
 */
#include "fuzz.h"
#include "model.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

static guestram_t *memory;
static bool started, stopped;

/* Mostly a page of the model's, at times any number. */
static uint64_t take_offset(input_t *input) {
    uint8_t choice = take(input);
    return choice < 240 ? (uint64_t)(choice % (MODEL_PAGES + 2)) * PAGE : take_number(input);
}

static uint64_t take_length(input_t *input) {
    uint8_t choice = take(input);
    return choice < 240 ? (uint64_t)(choice % 40) * PAGE : take_number(input);
}

static uint32_t take_region(input_t *input) {
    uint8_t choice = take(input);
    return choice < 250 ? models[choice % MODELS].id : choice == 250 ? 0 : (uint32_t)take_number(input);
}

typedef struct range {
    uint32_t region;
    uint64_t offset, length;
} range_t;

static range_t take_range(input_t *input) {
    range_t range = {.region = take_region(input)};
    range.offset = take_offset(input);
    range.length = take_length(input);
    return range;
}

static model_t *model_of(range_t range) {
    model_t *model = model_find(range.region);
    bool inside = model && range.offset <= MODEL_BYTES && range.length <= MODEL_BYTES - range.offset;
    return inside && range.offset % PAGE == 0 && range.length % PAGE == 0 ? model : NULL;
}

/* What an operation said about a range that is not one of the model's: nothing may be done. A range
 * of guest-physical addresses may be a part of two regions: those become unknown. */
static void outside(range_t range, uint64_t done) {
    if (range.region == GUESTRAM_GUEST_PHYSICAL) model_forget();
    else HOLDS(done == 0);
}

static void fill(input_t *input, uint8_t which) {
    static uint64_t source[MODEL_BYTES / 8];
    range_t range = take_range(input);
    uint64_t done = 77, base = take(input) + 1u;
    model_t *model = model_of(range);
    int error;
    if (which == 0) {
        for (uint64_t i = 0; i < MODEL_BYTES / 8; i++) source[i] = model_word(base, i % (PAGE / 8));
        /* Longer than the source only where it cannot be in a region. */
        if (range.length > MODEL_BYTES && range.region == GUESTRAM_GUEST_PHYSICAL) return;
        error = guestram_copy(memory, range.region, range.offset,
                              base == 256 ? NULL : (const void *)source, range.length, &done);
        if (base == 256) HOLDS(error < 0 && done == 0);
    } else if (which == 1) {
        error = guestram_zeropage(memory, range.region, range.offset, range.length, &done);
    } else if (which == 2) {
        error = guestram_poison(memory, range.region, range.offset, range.length, &done);
    } else {
        error = guestram_continue(memory, range.region, range.offset, range.length, &done);
    }
    answered(error);
    HOLDS(done % PAGE == 0 && done <= range.length);
    HOLDS(error < 0 || done == range.length);
    if (!model) outside(range, done);
    for (uint64_t page = 0; model && page < done / PAGE; page++) {
        page_t *at = &model->pages[range.offset / PAGE + page];
        if (which == 3) /* what was cached is for the caller to know */
            at->holds = ANYTHING;
        else
            *at = (page_t){.holds = which == 2 ? POISONED : CONTENTS, .base = which == 0 ? base : 0};
    }
}

static void move(input_t *input) {
    range_t to = take_range(input), from = {take_region(input), take_offset(input), to.length};
    uint64_t done = 77;
    int error = answered(guestram_move(memory, to.region, to.offset, from.region, from.offset,
                                       to.length, &done));
    HOLDS(done % PAGE == 0 && done <= to.length);
    HOLDS(error < 0 || done == to.length);
    model_t *target = model_of(to), *source = model_of(from);
    if (!target) outside(to, done);
    if (!source) outside(from, done);
    for (uint64_t page = 0; page < done / PAGE; page++) {
        if (target) {
            target->pages[to.offset / PAGE + page] =
                source ? source->pages[from.offset / PAGE + page] : (page_t){.holds = ANYTHING};
        }
        if (source) source->pages[from.offset / PAGE + page] = (page_t){.holds = CONTENTS};
    }
}

static void discard(input_t *input) {
    range_t range = take_range(input);
    int error = answered(guestram_discard(memory, range.region, range.offset, range.length));
    model_t *model = model_of(range);
    if (error < 0) HOLDS(error != -EFAULT);
    if (!model) {
        if (range.region == GUESTRAM_GUEST_PHYSICAL) model_forget();
        else HOLDS(error < 0);
    }
    for (uint64_t page = 0; model && error == 0 && page < range.length / PAGE; page++) {
        page_t *at = &model->pages[range.offset / PAGE + page];
        *at = (page_t){.holds = at->holds == CONTENTS ? CONTENTS : ZERO_OR_POISONED};
    }
}

static void touch(input_t *input) {
    model_t *model = &models[take(input) % MODELS];
    unsigned page = take(input) % MODEL_PAGES;
    bool writes = take(input) & 1;
    if (model->id && started) model_touch(model, page, writes ? take(input) + 1u : 0, stopped);
}

static void track(input_t *input, bool arm) {
    range_t range = take_range(input);
    uint64_t bitmap[(MODEL_PAGES + 63) / 64 + 1];
    uint8_t flag = take(input);
    int clear = flag > 250 ? flag : flag & 1;
    model_t *model = model_of(range);
    if (arm) {
        int error = answered(guestram_writeprotect(memory, range.region, range.offset, range.length, clear));
        if (!model && range.region == GUESTRAM_GUEST_PHYSICAL) model_forget();
        for (uint64_t page = 0; model && page < range.length / PAGE; page++)
            model->pages[range.offset / PAGE + page].armed = error == 0 && clear == 1;
        return;
    }
    if (range.length > MODEL_BYTES) range.length = MODEL_BYTES; /* the bitmap's size */
    memset(bitmap, 0xaa, sizeof bitmap);
    int error = answered(guestram_dirty_read(memory, range.region, range.offset, range.length, bitmap, clear));
    HOLDS(bitmap[(MODEL_PAGES + 63) / 64] == UINT64_C(0xaaaaaaaaaaaaaaaa));
    if (!model && error == 0) model_forget();
    for (uint64_t page = 0; model && error == 0 && page < range.length / PAGE; page++) {
        page_t *at = &model->pages[range.offset / PAGE + page];
        HOLDS(!at->dirty || bitmap[page / 64] >> page % 64 & 1);
        if (clear) at->dirty = at->armed = false;
    }
}

#define LONG "more-than-sixty-three-characters-more-than-sixty-three-characters"

static void region_add(input_t *input) {
    static const char *const names[] = {"ram", "a", "b", "", "a/b", LONG};
    uint8_t shape = take(input), odd = take(input);
    struct {
        guestram_region_options_t options;
        uint8_t tail[256]; /* as large as it may say that it is */
    } given = {.options = {.size = sizeof given.options, .name = names[shape % 6],
                           .type = shape >> 3 & 1 ? GUESTRAM_SHMEM : GUESTRAM_ANON,
                           .flags = shape >> 4 & 1 ? GUESTRAM_REGION_USERFAULT : 0,
                           .length = MODEL_BYTES}};
    guestram_region_options_t *options = &given.options;
    if (shape >> 5 & 1 && options->type == GUESTRAM_SHMEM) options->flags |= GUESTRAM_REGION_PRIVATE;
    switch (odd) { /* mostly none */
    case 240: options->size = take(input), given.tail[100] = take(input) & 1; break;
    case 241: options->flags = (uint32_t)take_number(input) & ~(uint32_t)GUESTRAM_REGION_FD; break;
    case 242: options->length = take_number(input) | UINT64_C(1) << 47; break;
    case 243: options->page_size = take_number(input); break;
    case 244: options->type = take(input) | 8u; break;
    case 245: options->host_address = (void *)(uintptr_t)(take_number(input) | UINT64_C(1) << 63); break;
    case 246: options->flags |= GUESTRAM_REGION_FD, options->fd = -1 - (int)take(input); break;
    case 247: options->policy = take(input), options->host_nodes = take_number(input); break;
    case 248: options->reserved = 1 + (uint32_t)take(input); break;
    default: break;
    }
    uint32_t region = 0;
    if (answered(guestram_region_add(memory, options, &region)) < 0) return;
    HOLDS(region != 0 && !model_find(region) && options->length == MODEL_BYTES);
    model_t *model = model_new(memory, region);
    if (!model) HOLDS(guestram_region_remove(memory, region) == 0);
}

static void region_remove(input_t *input) {
    uint32_t region = take_region(input);
    model_t *model = model_find(region);
    int error = answered(guestram_region_remove(memory, region));
    HOLDS((error == 0) == (model != NULL));
    if (model) model->id = 0;
}

static void slots(input_t *input, uint8_t which) {
    guestram_slot_t slot = {.size = sizeof slot, .guest_physical = take_offset(input)};
    if (which == 0) {
        slot.length = take_length(input), slot.offset = take_offset(input), slot.region = take_region(input);
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
    case 0: HOLDS(guestram_copy(NULL, 1, number, &number, PAGE, &done) < 0); break;
    case 1: HOLDS(guestram_start(NULL) < 0); break;
    case 2: HOLDS(guestram_save(NULL, "", NULL) < 0 && guestram_save(memory, NULL, NULL) < 0); break;
    case 3: HOLDS(guestram_restore(memory, NULL, NULL) < 0); break;
    case 4: HOLDS(guestram_region_add(memory, NULL, &region) < 0); break;
    case 5: HOLDS(guestram_stats(memory, NULL) < 0); break;
    case 6: HOLDS(guestram_dirty_merge(memory, 1, number, PAGE, NULL) < 0); break;
    default: HOLDS(guestram_slot_add(memory, NULL) < 0);
    }
}

static void step(input_t *input) {
    uint8_t operation = take(input) % 32;
    if (operation < 8) touch(input);
    else if (operation < 14) fill(input, operation < 12 ? operation - 8 : 0);
    else if (operation < 16) discard(input);
    else if (operation < 17) move(input);
    else if (operation < 21) track(input, operation & 1);
    else if (operation < 22) region_add(input);
    else if (operation < 23) region_remove(input);
    else if (operation < 26) slots(input, operation - 23);
    else if (operation < 27) start_or_stop(input, take(input) < 240);
    else if (operation < 28) model_save(memory, take(input));
    else if (operation < 29) look(input);
    else if (operation < 31) background(input, take(input) % 4);
    else no_handle(input);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input_t input = {data, data + size};
    uint8_t shape = take(&input);
    guestram_options_t options = {.size = sizeof options, .pool = fuzz_pool(),
                                  .window = shape & 1 ? 4096 : 0, .on_error = shape >> 1 & 1};
    guestram_snapshot_t *snapshot = model_snapshot();
    size_t fds = open_fds();
    started = stopped = false;
    HOLDS(guestram_create(&options, &memory) == 0);
    model_restored(memory, snapshot, shape >> 2);
    if (shape & 0x80) HOLDS(guestram_start(memory) == 0), started = true;
    for (unsigned i = 0; i < 200 && input.at < input.end; i++) step(&input);
    if (!started && !stopped) HOLDS(guestram_start(memory) == 0);
    if (started) model_check(stopped); /* before it is nothing may be touched */
    guestram_destroy(memory);
    HOLDS(open_fds() == fds);
    return 0;
}
