/* workload.h: what the guest computes, in C: for host threads, and to know what must come out. */
#ifndef WORKLOAD_H
#define WORKLOAD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "guest.h"
#include "options.h"

#define PAGE 4096u

struct walk {
    uint64_t seed, x, factor, step, mask, limit, run, count; /* as guest.h's WALK_* */
};
_Static_assert(sizeof(struct walk) == WALK_ARGUMENTS * 8, "the order is the guest's");

/* What the work area holds, as far as the launcher knows it from what it had the guest do. */
#define MODEL_BALLOONS 16
struct model {
    uint64_t seed;
    uint32_t filled; /* 0: nothing has been written yet, all is zero */
    uint32_t balloons;
    struct {
        uint64_t page, count;
    } balloon[MODEL_BALLOONS]; /* given back since it was filled: zero */
};

/* A walk in ascending order over `count` pages from `first`. */
void walk_ascending(struct walk *walk, uint64_t seed, uint64_t first, uint64_t count);
/* Over all `pages`, each vCPU in an order of its own: up, down, then random ones. */
void walk_everything(struct walk *walk, uint64_t seed, unsigned vcpu, uint64_t pages);
/* Over `count` randomly placed runs of `run` pages, out of `pages`. */
void walk_random(struct walk *walk, uint64_t seed, uint64_t pages, uint64_t run, uint64_t count);

/* The work area in the host: its pages are in pieces that follow one another. */
struct work {
    uint64_t pages;
    struct {
        uint64_t pages;
        char *host;
    } piece[MAX_BACKENDS];
};

/* Does a command on the work area's pages and returns its result. Stops early, with a result of no
 * meaning, once *stop is set. */
uint64_t workload_do(uint32_t command, const struct walk *walk, const struct work *work,
                     const atomic_bool *stop);

/* The result that FILL, SUM and ZERO must have. */
uint64_t workload_expect(uint32_t command, const struct walk *walk, const struct model *model);

#endif
