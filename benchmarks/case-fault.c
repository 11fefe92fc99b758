/*
 * fault.*: what one fault costs, touch to return, with read-ahead off: both threads on one CPU,
 * where the figure is the software's, and unpinned, where waking an idle CPU is most of it.
 */
#include "bench.h"

#include <stdlib.h>

#define CACHED_LENGTH (32 * MIB)
#define HUGE_LENGTH (512 * MIB)

#define COMMON .threads = 1, .latency = true

static const struct setup loop_continue = {
    .who = LOOP_CONTINUE, .kind = KIND_SHMEM, COMMON, .cached = true};
static const struct setup loop_continue_pinned = {
    .who = LOOP_CONTINUE, .kind = KIND_SHMEM, COMMON, .cached = true, .pinned = true};
static const struct setup loop_copy = {.who = LOOP_COPY, .kind = KIND_ANON, COMMON};
static const struct setup loop_copy_pinned = {
    .who = LOOP_COPY, .kind = KIND_ANON, COMMON, .pinned = true};
static const struct setup loop_hugetlb = {
    .who = LOOP_CONTINUE, .kind = KIND_HUGETLB, COMMON, .cached = true};
static const struct setup loop_hugetlb_pinned = {
    .who = LOOP_CONTINUE, .kind = KIND_HUGETLB, COMMON, .cached = true, .pinned = true};

static void prepare_continue(void) {
    plan.memfd = pattern_memfd(KIND_SHMEM, CACHED_LENGTH);
    plan.length = CACHED_LENGTH;
    plan.count = CACHED_LENGTH / PAGE;
    plan.pages = order_random(plan.count, plan.count);
}

static void prepare_copy(void) {
    snapshot_warm();
    plan.count = snapshot()->length / PAGE / 32;
    plan.pages = order_random(snapshot()->length / PAGE, plan.count);
}

static void prepare_hugetlb(void) {
    plan.memfd = pattern_memfd(KIND_HUGETLB, HUGE_LENGTH);
    plan.length = HUGE_LENGTH;
    plan.count = HUGE_LENGTH / HUGE_PAGE;
    plan.pages = order_random(plan.count, plan.count);
}

static const char *no_huge_pages(void) { return huge_pages_missing(HUGE_LENGTH); }

const struct bench_case case_fault_continue = {
    .name = "fault.continue.4k",
    .prepare = prepare_continue,
    .finish = plan_finish,
    .sides =
        {
            {"loop-continue", run_touch, &loop_continue_pinned},
            {"loop-continue", run_touch, &loop_continue_pinned},
            {"ours", run_touch,
             SETUP(.who = OURS, .kind = KIND_SHMEM, COMMON, .window = PAGE, .cached = true,
                   .pinned = true)},
            {"ours, no sandbox", run_touch,
             SETUP(.who = OURS, .kind = KIND_SHMEM, COMMON, .window = PAGE, .cached = true,
                   .pinned = true, .sandbox = GUESTRAM_SANDBOX_OFF)},
            {"loop-continue, unpinned", run_touch, &loop_continue},
            {"loop-continue, unpinned", run_touch, &loop_continue},
            {"ours", run_touch,
             SETUP(.who = OURS, .kind = KIND_SHMEM, COMMON, .window = PAGE, .cached = true)},
        },
    .rows =
        {
            {"fault.continue.4k.aa", "us", 1, 0, TOUCH_P50, 0, true},
            {"fault.continue.4k", "us", 2, 0, TOUCH_P50, 1.10, false},
            {"fault.continue.4k.nosandbox", "us", 3, 0, TOUCH_P50, 1.03, false},
            {"fault.continue.4k.p99.aa", "us", 1, 0, TOUCH_P99, 0, true},
            {"fault.continue.4k.p99", "us", 2, 0, TOUCH_P99, 1.20, false},
            {"fault.continue.4k.unpinned.aa", "us", 5, 4, TOUCH_P50, 0, true},
            {"fault.continue.4k.unpinned", "us", 6, 4, TOUCH_P50, 0, false},
        },
    .rounds = 25,
    .quick_rounds = 2,
};

const struct bench_case case_fault_copy = {
    .name = "fault.copy.4k",
    .prepare = prepare_copy,
    .finish = plan_finish,
    .sides =
        {
            {"loop-copy", run_touch, &loop_copy_pinned},
            {"loop-copy", run_touch, &loop_copy_pinned},
            {"ours", run_touch,
             SETUP(.who = OURS, .kind = KIND_ANON, COMMON, .window = PAGE, .pinned = true)},
            {"ours, no sandbox", run_touch,
             SETUP(.who = OURS, .kind = KIND_ANON, COMMON, .window = PAGE, .pinned = true,
                   .sandbox = GUESTRAM_SANDBOX_OFF)},
            {"loop-copy, unpinned", run_touch, &loop_copy},
            {"loop-copy, unpinned", run_touch, &loop_copy},
            {"ours", run_touch, SETUP(.who = OURS, .kind = KIND_ANON, COMMON, .window = PAGE)},
        },
    .rows =
        {
            {"fault.copy.4k.aa", "us", 1, 0, TOUCH_P50, 0, true},
            {"fault.copy.4k", "us", 2, 0, TOUCH_P50, 1.10, false},
            {"fault.copy.4k.nosandbox", "us", 3, 0, TOUCH_P50, 1.03, false},
            {"fault.copy.4k.p99.aa", "us", 1, 0, TOUCH_P99, 0, true},
            {"fault.copy.4k.p99", "us", 2, 0, TOUCH_P99, 1.20, false},
            {"fault.copy.4k.unpinned.aa", "us", 5, 4, TOUCH_P50, 0, true},
            {"fault.copy.4k.unpinned", "us", 6, 4, TOUCH_P50, 0, false},
        },
    .rounds = 25,
    .quick_rounds = 3,
};

const struct bench_case case_fault_hugetlb = {
    .name = "fault.hugetlb.2m",
    .missing = no_huge_pages,
    .prepare = prepare_hugetlb,
    .finish = plan_finish,
    .sides =
        {
            {"loop-continue", run_touch, &loop_hugetlb_pinned},
            {"loop-continue", run_touch, &loop_hugetlb_pinned},
            {"ours", run_touch,
             SETUP(.who = OURS, .kind = KIND_HUGETLB, COMMON, .window = PAGE, .cached = true,
                   .pinned = true)},
            {"ours, no sandbox", run_touch,
             SETUP(.who = OURS, .kind = KIND_HUGETLB, COMMON, .window = PAGE, .cached = true,
                   .pinned = true, .sandbox = GUESTRAM_SANDBOX_OFF)},
            {"loop-continue, unpinned", run_touch, &loop_hugetlb},
            {"loop-continue, unpinned", run_touch, &loop_hugetlb},
            {"ours", run_touch,
             SETUP(.who = OURS, .kind = KIND_HUGETLB, COMMON, .window = PAGE, .cached = true)},
        },
    .rows =
        {
            {"fault.hugetlb.2m.aa", "us", 1, 0, TOUCH_P50, 0, true},
            {"fault.hugetlb.2m", "us", 2, 0, TOUCH_P50, 1.10, false},
            {"fault.hugetlb.2m.nosandbox", "us", 3, 0, TOUCH_P50, 0, false},
            {"fault.hugetlb.2m.unpinned.aa", "us", 5, 4, TOUCH_P50, 0, true},
            {"fault.hugetlb.2m.unpinned", "us", 6, 4, TOUCH_P50, 0, false},
        },
    .rounds = 21,
    .quick_rounds = 3,
};
