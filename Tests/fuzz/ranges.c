#include "ranges.h"

#include <errno.h>
#include <string.h>

guestram_t *memory;
bool started, stopped;

uint64_t take_offset(input_t *input) {
    uint8_t choice = take(input);
    return choice < 240 ? (uint64_t)(choice % (MODEL_PAGES + 2)) * PAGE : take_number(input);
}

uint64_t take_length(input_t *input) {
    uint8_t choice = take(input);
    return choice < 240 ? (uint64_t)(choice % 40) * PAGE : take_number(input);
}

uint32_t take_region(input_t *input) {
    uint8_t choice = take(input);
    return choice < 250    ? models[choice % MODELS].id
           : choice == 250 ? 0
                           : (uint32_t)take_number(input);
}

range_t take_range(input_t *input) {
    range_t range = {.region = take_region(input)};
    range.offset = take_offset(input);
    range.length = take_length(input);
    return range;
}

static model_t *model_of(range_t range) {
    model_t *model = model_find(range.region);
    bool inside =
        model && range.offset <= MODEL_BYTES && range.length <= MODEL_BYTES - range.offset;
    return inside && range.offset % PAGE == 0 && range.length % PAGE == 0 ? model : NULL;
}

/* What an operation said about a range that is not one of the model's: nothing may be done. A range
 * of guest-physical addresses may be a part of two regions: those become unknown. */
static void outside(range_t range, uint64_t done) {
    if (range.region == GUESTRAM_GUEST_PHYSICAL)
        model_forget();
    else
        HOLDS(done == 0);
}

void fill(input_t *input, uint8_t which) {
    static uint64_t source[MODEL_BYTES / 8];
    range_t range = take_range(input);
    uint64_t done = 77, base = take(input) + 1u;
    model_t *model = model_of(range);
    int error;
    if (which == 0) {
        for (uint64_t i = 0; i < MODEL_BYTES / 8; i++)
            source[i] = model_word(base, i % (PAGE / 8));
        /* Longer than the source only where it cannot be in a region. */
        if (range.length > MODEL_BYTES && range.region == GUESTRAM_GUEST_PHYSICAL)
            return;
        error = guestram_copy(memory, range.region, range.offset,
                              base == 256 ? NULL : (const void *)source, range.length, &done);
        if (base == 256)
            HOLDS(error < 0 && done == 0);
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
    if (!model)
        outside(range, done);
    for (uint64_t page = 0; model && page < done / PAGE; page++) {
        page_t *at = &model->pages[range.offset / PAGE + page];
        if (which == 3) /* what was cached is for the caller to know */
            at->holds = ANYTHING;
        else
            *at =
                (page_t){.holds = which == 2 ? POISONED : CONTENTS, .base = which == 0 ? base : 0};
    }
}

void move(input_t *input) {
    range_t to = take_range(input), from = {take_region(input), take_offset(input), to.length};
    uint64_t done = 77;
    int error = answered(
        guestram_move(memory, to.region, to.offset, from.region, from.offset, to.length, &done));
    HOLDS(done % PAGE == 0 && done <= to.length);
    HOLDS(error < 0 || done == to.length);
    model_t *target = model_of(to), *source = model_of(from);
    if (!target)
        outside(to, done);
    if (!source)
        outside(from, done);
    for (uint64_t page = 0; page < done / PAGE; page++) {
        if (target) {
            target->pages[to.offset / PAGE + page] =
                source ? source->pages[from.offset / PAGE + page] : (page_t){.holds = ANYTHING};
        }
        if (source)
            source->pages[from.offset / PAGE + page] = (page_t){.holds = CONTENTS};
    }
}

void discard(input_t *input) {
    range_t range = take_range(input);
    int error = answered(guestram_discard(memory, range.region, range.offset, range.length));
    model_t *model = model_of(range);
    if (error < 0)
        HOLDS(error != -EFAULT);
    if (!model) {
        if (range.region == GUESTRAM_GUEST_PHYSICAL)
            model_forget();
        else
            HOLDS(error < 0);
    }
    for (uint64_t page = 0; model && error == 0 && page < range.length / PAGE; page++) {
        page_t *at = &model->pages[range.offset / PAGE + page];
        *at = (page_t){.holds = at->holds == CONTENTS ? CONTENTS : ZERO_OR_POISONED};
    }
}

void touch(input_t *input) {
    model_t *model = &models[take(input) % MODELS];
    unsigned page = take(input) % MODEL_PAGES;
    bool writes = take(input) & 1;
    if (model->id && started)
        model_touch(model, page, writes ? take(input) + 1u : 0, stopped);
}

void track(input_t *input, bool arm) {
    range_t range = take_range(input);
    uint64_t bitmap[(MODEL_PAGES + 63) / 64 + 1];
    uint8_t flag = take(input);
    int clear = flag > 250 ? flag : flag & 1;
    model_t *model = model_of(range);
    if (arm) {
        int error = answered(
            guestram_writeprotect(memory, range.region, range.offset, range.length, clear));
        if (!model && range.region == GUESTRAM_GUEST_PHYSICAL)
            model_forget();
        for (uint64_t page = 0; model && page < range.length / PAGE; page++)
            model->pages[range.offset / PAGE + page].armed = error == 0 && clear == 1;
        return;
    }
    if (range.length > MODEL_BYTES)
        range.length = MODEL_BYTES; /* the bitmap's size */
    memset(bitmap, 0xaa, sizeof bitmap);
    int error = answered(
        guestram_dirty_read(memory, range.region, range.offset, range.length, bitmap, clear));
    HOLDS(bitmap[(MODEL_PAGES + 63) / 64] == UINT64_C(0xaaaaaaaaaaaaaaaa));
    if (!model && error == 0)
        model_forget();
    for (uint64_t page = 0; model && error == 0 && page < range.length / PAGE; page++) {
        page_t *at = &model->pages[range.offset / PAGE + page];
        HOLDS(!at->dirty || bitmap[page / 64] >> page % 64 & 1);
        if (clear)
            at->dirty = at->armed = false;
    }
}
