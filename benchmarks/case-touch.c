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

/* Ours beside a loop, and beside a plain mapping. */
#define WARM(variable, name_, prepare_, loop, loop_setup, ours_setup, target_)                     \
    const struct bench_case variable = {                                                           \
        .name = name_,                                                                             \
        .prepare = prepare_,                                                                       \
        .finish = plan_finish,                                                                     \
        .sides =                                                                                   \
            {                                                                                      \
                {loop, run_touch, loop_setup},                                                     \
                {loop, run_touch, loop_setup},                                                     \
                {"ours", run_touch, ours_setup},                                                   \
                {"private-mmap", run_touch, &mapped},                                              \
                {"private-mmap", run_touch, &mapped},                                              \
            },                                                                                     \
        .rows =                                                                                    \
            {                                                                                      \
                {name_ ".aa", "ms", 1, 0, TOUCH_MS, 0, true},                                      \
                {name_, "ms", 2, 0, TOUCH_MS, target_, false},                                     \
                {name_ ".mmap.aa", "ms", 4, 3, TOUCH_MS, 0, true},                                 \
                {name_ ".mmap", "ms", 2, 3, TOUCH_MS, 0, false},                                   \
            },                                                                                     \
        .rounds = 9,                                                                               \
        .quick_rounds = 2,                                                                         \
    }

WARM(case_touch_sequential, "touch.seq.warm", prepare_sequential, "loop-continue", &continue_shmem,
     &ours_shmem, 0.25);
WARM(case_touch_random_anon, "touch.random.warm.anon", prepare_random, "loop-copy", &copy_anon,
     &ours_anon, 1.10);
WARM(case_touch_random_shmem, "touch.random.warm.shmem", prepare_random, "loop-continue",
     &continue_shmem, &ours_shmem, 1.0);

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
