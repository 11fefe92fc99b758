/* touch.*: how long a guest takes over a part of its memory, in order and at random, warm and cold.
 */
#include "bench.h"

#include <stdlib.h>

static void prepare_sequential(void) {
    snapshot_warm();
    plan.count = snapshot()->length / PAGE / 4;
    plan.pages = order_sequential(plan.count);
}

static void prepare_random(void) {
    snapshot_warm();
    plan.count = snapshot()->length / PAGE / 10;
    plan.pages = order_random(snapshot()->length / PAGE, plan.count);
}

static void prepare_cold(void) {
    plan.count = snapshot()->length / PAGE / 50;
    plan.pages = order_random(snapshot()->length / PAGE, plan.count);
}

static const struct setup ours_anon = {.who = OURS, .kind = KIND_ANON, .threads = 1};
static const struct setup ours_shmem = {.who = OURS, .kind = KIND_SHMEM, .threads = 1};
static const struct setup copy_anon = {.who = LOOP_COPY, .kind = KIND_ANON, .threads = 1};
static const struct setup continue_shmem = {.who = LOOP_CONTINUE, .kind = KIND_SHMEM, .threads = 1};
static const struct setup mapped = {.who = PRIVATE_MMAP, .threads = 1};

static const struct setup ours_cold = {.who = OURS, .kind = KIND_SHMEM, .threads = 4, .cold = true};
static const struct setup copy_cold = {
    .who = LOOP_COPY, .kind = KIND_SHMEM, .threads = 4, .cold = true};
static const struct setup advised_cold = {
    .who = LOOP_COPY, .kind = KIND_SHMEM, .threads = 4, .cold = true, .advised = true};
static const struct setup mapped_cold = {.who = PRIVATE_MMAP, .threads = 4, .cold = true};

const struct bench_case case_touch_sequential = {
    .name = "touch.seq.warm",
    .prepare = prepare_sequential,
    .finish = plan_finish,
    .sides =
        {
            {"loop-continue", run_touch, &continue_shmem},
            {"loop-continue", run_touch, &continue_shmem},
            {"ours", run_touch, &ours_shmem},
            {"private-mmap", run_touch, &mapped},
            {"private-mmap", run_touch, &mapped},
        },
    .rows =
        {
            {"touch.seq.warm.aa", "ms", 1, 0, TOUCH_MS, 0, true},
            {"touch.seq.warm", "ms", 2, 0, TOUCH_MS, 0.25, false},
            {"touch.seq.warm.mmap.aa", "ms", 4, 3, TOUCH_MS, 0, true},
            {"touch.seq.warm.mmap", "ms", 2, 3, TOUCH_MS, 0, false},
        },
    .rounds = 9,
    .quick_rounds = 3,
};

const struct bench_case case_touch_random_anon = {
    .name = "touch.random.warm.anon",
    .prepare = prepare_random,
    .finish = plan_finish,
    .sides =
        {
            {"loop-copy", run_touch, &copy_anon},
            {"loop-copy", run_touch, &copy_anon},
            {"ours", run_touch, &ours_anon},
            {"private-mmap", run_touch, &mapped},
            {"private-mmap", run_touch, &mapped},
        },
    .rows =
        {
            {"touch.random.warm.anon.aa", "ms", 1, 0, TOUCH_MS, 0, true},
            {"touch.random.warm.anon", "ms", 2, 0, TOUCH_MS, 1.10, false},
            {"touch.random.warm.anon.mmap.aa", "ms", 4, 3, TOUCH_MS, 0, true},
            {"touch.random.warm.anon.mmap", "ms", 2, 3, TOUCH_MS, 0, false},
        },
    .rounds = 9,
    .quick_rounds = 3,
};

const struct bench_case case_touch_random_shmem = {
    .name = "touch.random.warm.shmem",
    .prepare = prepare_random,
    .finish = plan_finish,
    .sides =
        {
            {"loop-continue", run_touch, &continue_shmem},
            {"loop-continue", run_touch, &continue_shmem},
            {"ours", run_touch, &ours_shmem},
            {"private-mmap", run_touch, &mapped},
            {"private-mmap", run_touch, &mapped},
        },
    .rows =
        {
            {"touch.random.warm.shmem.aa", "ms", 1, 0, TOUCH_MS, 0, true},
            {"touch.random.warm.shmem", "ms", 2, 0, TOUCH_MS, 1.0, false},
            {"touch.random.warm.shmem.mmap.aa", "ms", 4, 3, TOUCH_MS, 0, true},
            {"touch.random.warm.shmem.mmap", "ms", 2, 3, TOUCH_MS, 0, false},
        },
    .rounds = 9,
    .quick_rounds = 3,
};

const struct bench_case case_touch_random_cold = {
    .name = "touch.random.cold",
    .prepare = prepare_cold,
    .finish = plan_finish,
    .sides =
        {
            {"loop-copy", run_touch, &copy_cold},
            {"loop-copy", run_touch, &copy_cold},
            {"ours", run_touch, &ours_cold},
            {"loop-copy, MADV_RANDOM", run_touch, &advised_cold},
            {"loop-copy, MADV_RANDOM", run_touch, &advised_cold},
            {"private-mmap", run_touch, &mapped_cold},
            {"private-mmap", run_touch, &mapped_cold},
        },
    .rows =
        {
            {"touch.random.cold.aa", "ms", 1, 0, TOUCH_MS, 0, true},
            {"touch.random.cold", "ms", 2, 0, TOUCH_MS, 0.4, false},
            {"touch.random.cold.advised.aa", "ms", 4, 3, TOUCH_MS, 0, true},
            {"touch.random.cold.advised", "ms", 2, 3, TOUCH_MS, 0.6, false},
            {"touch.random.cold.mmap.aa", "ms", 6, 5, TOUCH_MS, 0, true},
            {"touch.random.cold.mmap", "ms", 2, 5, TOUCH_MS, 0, false},
        },
    .rounds = 7,
    .quick_rounds = 3,
};
