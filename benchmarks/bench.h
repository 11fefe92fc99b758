/*
 * The benchmark's own header: cases, sides, rows; the snapshot; touching threads; our side.
 *
 * A case measures several sides in turn, round after round, and prints rows: one side's figure
 * over another's, within the same round. A baseline that stands twice in the list of sides is the
 * A/A row: what the machine makes of no difference at all.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef BENCH_H
#define BENCH_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "baselines/baseline.h"

#include <errno.h>
#include <guestram.h>
#include <stdbool.h>
#include <stdio.h>

#define PAGE ((size_t)4096)
#define HUGE_PAGE ((size_t)2 << 20)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)
#define SEED 0x67756573u

/* ------------------------------------------------------------------------------- failing -- */

_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
#define check(condition)                                                                           \
    ((condition) ? (void)0 : fail("%s:%d: %s: errno %d", __FILE__, __LINE__, #condition, errno))
/* A call of the library. */
#define call(expression)                                                                           \
    do {                                                                                           \
        int result_ = (expression);                                                                \
        if (result_ < 0)                                                                           \
            fail("%s: %d: %s", #expression, result_, guestram_error());                            \
    } while (0)

/* --------------------------------------------------------------------------- the machine -- */

uint64_t now_ns(void);

/* The process and all threads that it starts from now on keep to one CPU; or to all again. */
void pin(void);
void unpin(void);

/* Takes so much memory and gives it back, on each CPU: where this machine is a guest itself, its host
 * may have taken free memory away, and who takes it next, or first on a CPU, would wait for the host. */
void memory_warm(size_t length);

/* NULL, or why `length` bytes of huge pages cannot be had. */
const char *huge_pages_missing(size_t length);

/* --------------------------------------------------------------------------------- cases -- */

enum { MAX_SIDES = 9, MAX_ROWS = 9, MAX_METRICS = 4, MAX_ROUNDS = 31 };

#define NONE (-1.0)

struct side {
    const char *name;
    void (*run)(const void *setup, double metrics[MAX_METRICS]);
    const void *setup;
};

struct row {
    const char *name;
    const char *unit;
    int ours, baseline, metric; /* sides by index, metric of both */
    double target;              /* largest ratio; 0: reported only; NONE: not one */
    bool same;                  /* A/A: a baseline over itself; stands before the rows it backs */
};

struct bench_case {
    const char *name;
    const char *(*missing)(void); /* why the machine cannot run it, or NULL */
    void (*prepare)(void);
    void (*finish)(void);
    struct side sides[MAX_SIDES]; /* up to the first with no name */
    struct row rows[MAX_ROWS];    /* the same */
    unsigned rounds, quick_rounds;
};

extern const struct bench_case case_mem_fixed, case_lib_size, case_path_alloc;
extern const struct bench_case case_fault_continue, case_fault_copy, case_fault_hugetlb;
extern const struct bench_case case_touch_sequential, case_touch_random_anon;
extern const struct bench_case case_touch_random_shmem, case_touch_random_cold;
extern const struct bench_case case_fill_shmem, case_fill_gmem, case_fill_cold;
extern const struct bench_case case_fault_busy, case_scale_threads, case_scale_memory;
extern const struct bench_case case_floor, case_restore_guest;

extern bool quick;            /* --quick: a quarter of the memory, fewer rounds */
extern const char *directory; /* on a disk, empty, removed by who made it */

double percentile(uint32_t *values, size_t count, double share); /* sorts them */

/* ------------------------------------------------------------------------------ contents -- */

/* What belongs into page number `page`: every word differs. */
void pattern_fill(uint8_t *page_address, uint64_t page);
uint64_t pattern_first(uint64_t page);
/* Ends the program if `count` pages (4 KiB each, by their numbers) are not the pattern's. */
void pattern_verify(const uint8_t *memory, const uint32_t *pages, size_t count);
void pattern_verify_all(const uint8_t *memory, size_t length);

/* A GiB of pattern (a quarter with --quick), all of it data, saved once by guestram_save(): the one
 * file that every side reads. */
struct snapshot {
    char directory[256];
    char memory[300]; /* path of the memory file */
    int file;
    uint64_t offset; /* of the region in it */
    size_t length;
};
#define SNAPSHOT_REGION "ram"
const struct snapshot *snapshot(void);
const uint8_t *snapshot_map(void); /* MAP_SHARED, read only */
void snapshot_unmap(const uint8_t *source);
void snapshot_warm(void); /* into the page cache */
void snapshot_cold(void); /* out of it, checked */

/* A memfd whose contents are the pattern, cached and mapped nowhere. */
int pattern_memfd(enum kind kind, size_t length);

/* ------------------------------------------------------------------------------- touching -- */

struct touch {
    const uint8_t *memory;
    size_t page;
    const uint32_t *pages; /* the order */
    size_t count;
    unsigned threads;  /* each takes a slice of the order; 1: the calling thread */
    uint32_t *latency; /* NULL, or ns per touch */
};
/* Reads the first word of every page in its order; returns ns from first touch to last return. */
uint64_t touch_run(const struct touch *touch);

/* `count` different ones of `total` pages in a seeded order; or 0, 1, 2, … */
uint32_t *order_random(size_t total, size_t count);
uint32_t *order_sequential(size_t count);

/* ---------------------------------------------------------------------------- our side -- */

struct ours_options {
    uint32_t type; /* GUESTRAM_ANON, … */
    uint32_t workers, fillers, sandbox;
    uint32_t mode;   /* GUESTRAM_RESTORE_* */
    uint64_t window; /* 0: the default */
    int memfd;       /* > 0: not from the snapshot, this file's contents are the region's */
    size_t length;   /* with memfd */
    int vm_fd;       /* guest_memfd */
};

struct ours {
    guestram_pool_t *pool;
    guestram_t *memory;
    uint32_t region;
    uint8_t *address;
    size_t length;
};

/* Pool, memory, region, restore; then guestram_start(). ours_stop() undoes both. */
void ours_prepare(struct ours *ours, const struct ours_options *options);
void ours_start(struct ours *ours);
void ours_stop(struct ours *ours);

/* ------------------------------------------------------------------ any side that is served -- */

enum who { OURS, LOOP_COPY, LOOP_CONTINUE, PRIVATE_MMAP };

/* One side of a case whose guest touches pages. */
struct setup {
    enum who who;
    enum kind kind;
    unsigned threads; /* that touch */
    bool cached;      /* the contents are in plan.memfd, mapped by CONTINUE alone */
    bool cold;        /* the snapshot is not in the page cache */
    bool pinned;      /* every thread on one CPU */
    bool latency;     /* take p50 and p99 of the touches */
    bool advised;     /* loop-copy: MADV_RANDOM on its mapping of the snapshot */
    uint32_t sandbox; /* ours: GUESTRAM_SANDBOX_* */
    uint64_t window;  /* ours */
};

#define SETUP(...) (&(const struct setup){__VA_ARGS__})

/* What every side of the case touches: set by prepare(), freed by plan_finish(). */
extern struct plan {
    uint32_t *pages;
    size_t count;
    int memfd; /* > 0: cached contents, of `length` bytes */
    size_t length;
} plan;
void plan_finish(void);

struct served {
    const struct setup *setup;
    uint8_t *memory;
    size_t page, length;
    struct ours ours;
    struct mapping mapping;
    struct loop loop;
    const uint8_t *source;
};
void serve_start(struct served *served, const struct setup *setup);
void serve_stop(struct served *served);

/* Serves, touches the plan, verifies it. Metrics: ms in all, us per touch, p50 us, p99 us. */
void run_touch(const void *setup, double metrics[MAX_METRICS]);
enum { TOUCH_MS, TOUCH_US, TOUCH_P50, TOUCH_P99 };

#endif
