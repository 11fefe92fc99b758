/* workload.c: see workload.h. guest.S does the same; the launcher compares the two at every step.
 */
#include "workload.h"

#include <string.h>

enum { WORDS = PAGE / 8 };

static uint64_t hash(uint64_t seed, uint64_t x) {
    x = seed + x * GOLDEN;
    x = (x ^ x >> 30) * MIX_1;
    x = (x ^ x >> 27) * MIX_2;
    return x ^ x >> 31;
}

/* Of 64 pages in a row none, all, or about half are data, so that zero pages come in runs and
 * alone. *first is the data page's first word. */
static bool page_is_data(uint64_t seed, uint64_t page, uint64_t *first) {
    uint64_t kind = hash(seed, page >> 6) & 3;
    *first = hash(seed, -(page + 1));
    return kind == 1 || (kind > 1 && !(*first >> 63));
}

static bool fill_page(uint64_t seed, uint64_t page, uint64_t *words) {
    uint64_t word;
    if (!page_is_data(seed, page, &word)) {
        memset(words, 0, PAGE);
        return false;
    }
    for (int i = 0; i < WORDS; i++) {
        words[i] = word;
        word = word * NEXT_FACTOR + NEXT_STEP;
    }
    return true;
}

/* volatile: each word is read from memory, as the guest does. */
static uint64_t sum_page(uint64_t page, const volatile uint64_t *words) {
    uint64_t sum = (page + 1) * GOLDEN;
    for (int i = 0; i < WORDS; i++) {
        sum = (sum ^ words[i]) * SUM_PRIME;
        sum = sum << SUM_ROTATE | sum >> (64 - SUM_ROTATE);
    }
    return sum;
}

static bool page_is_zero(const volatile uint64_t *words) {
    uint64_t any = 0;
    for (int i = 0; i < WORDS; i++)
        any |= words[i];
    return !any;
}

static uint64_t mask_above(uint64_t limit) {
    uint64_t mask = 3; /* a factor of the form 4n + 1 needs two bits at least */
    while (mask < limit - 1)
        mask = mask << 1 | 1;
    return mask;
}

void walk_ascending(struct walk *walk, uint64_t seed, uint64_t first, uint64_t count) {
    *walk = (struct walk){.seed = seed,
                          .x = first,
                          .factor = 1,
                          .step = 1,
                          .mask = mask_above(first + count),
                          .limit = first + count,
                          .run = 1,
                          .count = count};
}

void walk_random(struct walk *walk, uint64_t seed, uint64_t pages, uint64_t run, uint64_t count) {
    uint64_t limit = pages / run; /* with these factors the period is all of mask + 1 */
    *walk = (struct walk){.seed = seed,
                          .x = hash(seed, 1) % limit,
                          .factor = hash(seed, 2) << 3 | 5,
                          .step = hash(seed, 3) | 1,
                          .mask = mask_above(limit),
                          .limit = limit,
                          .run = run,
                          .count = count};
}

void walk_everything(struct walk *walk, uint64_t seed, unsigned vcpu, uint64_t pages) {
    if (vcpu > 1) {
        walk_random(walk, seed + vcpu, pages, 1, pages);
        return;
    }
    walk_ascending(walk, seed, 0, pages);
    if (vcpu == 1) {
        walk->x = pages - 1;
        walk->step = UINT64_MAX;
    }
}

/* The next page of a walk; `state` starts out as {.x = walk->x}. */
struct step {
    uint64_t clusters, in_run, x;
};

static bool walk_next(const struct walk *walk, struct step *step, uint64_t *page) {
    if (step->in_run == walk->run) {
        step->in_run = 0;
        step->clusters++;
        step->x = (step->x * walk->factor + walk->step) & walk->mask;
    }
    if (step->clusters == walk->count)
        return false;
    while (step->x >= walk->limit)
        step->x = (step->x * walk->factor + walk->step) & walk->mask;
    *page = step->x * walk->run + step->in_run++;
    return true;
}

static uint64_t *page_words(const struct work *work, uint64_t page) {
    unsigned i = 0;
    while (page >= work->piece[i].pages)
        page -= work->piece[i++].pages;
    return (uint64_t *)(void *)(work->piece[i].host + page * PAGE);
}

uint64_t workload_do(uint32_t command, const struct walk *walk, const struct work *work,
                     const atomic_bool *stop) {
    struct step step = {.x = walk->x};
    uint64_t page, result = 0;
    while (!*stop && walk_next(walk, &step, &page)) {
        uint64_t *words = page_words(work, page);
        if (command == COMMAND_FILL)
            result += fill_page(walk->seed, page, words);
        else if (command == COMMAND_SUM)
            result += sum_page(page, words);
        else
            result += !page_is_zero(words);
    }
    return result;
}

static bool model_is_data(const struct model *model, uint64_t page) {
    uint64_t first;
    for (uint32_t i = 0; i < model->balloons; i++)
        if (page - model->balloon[i].page < model->balloon[i].count)
            return false;
    return model->filled && page_is_data(model->seed, page, &first);
}

uint64_t workload_expect(uint32_t command, const struct walk *walk, const struct model *model) {
    struct step step = {.x = walk->x};
    static const uint64_t zeros[WORDS];
    uint64_t page, first, result = 0, words[WORDS];
    while (walk_next(walk, &step, &page)) {
        bool data = command == COMMAND_FILL ? page_is_data(walk->seed, page, &first)
                                            : model_is_data(model, page);
        if (command != COMMAND_SUM) {
            result += data;
        } else if (data) {
            fill_page(model->seed, page, words);
            result += sum_page(page, words);
        } else {
            result += sum_page(page, zeros);
        }
    }
    return result;
}
