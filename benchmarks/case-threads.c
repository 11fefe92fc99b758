/* fault.p99.busy and scale.threads: several threads of a guest faulting at once. */
#include "bench.h"

#include <stdlib.h>

#define TOUCHES 20000

static void prepare(void) {
    snapshot_warm();
    plan.count = TOUCHES;
    plan.pages = order_random(snapshot()->length / PAGE, plan.count);
}

/*
 * Demand faults with and without a background fill at full speed. While it fills, ever more touches
 * find their page present; only touches that took longer than a present page's count, on both
 * sides.
 */
static void run_busy(const void *argument, double metrics[MAX_METRICS]) {
    enum { PRESENT_NS = 2000 };
    const bool busy = argument != NULL;
    memory_warm(snapshot()->length);
    struct ours ours;
    struct ours_options options = {.type = GUESTRAM_SHMEM};
    ours_prepare(&ours, &options);
    ours_start(&ours);
    uint32_t *latency = malloc(plan.count * sizeof *latency);
    check(latency != NULL);
    if (busy)
        call(guestram_background_fill(ours.memory, UINT64_MAX));
    struct touch touch = {.memory = ours.address,
                          .page = PAGE,
                          .pages = plan.pages,
                          .count = plan.count,
                          .threads = 4,
                          .latency = latency};
    touch_run(&touch);
    pattern_verify(ours.address, plan.pages, plan.count);
    ours_stop(&ours);
    size_t faults = 0;
    for (size_t i = 0; i < plan.count; i++)
        if (latency[i] >= PRESENT_NS)
            latency[faults++] = latency[i];
    if (faults < 1000)
        fail("fault.p99.busy: %zu touches met an absent page; too few for a p99.9", faults);
    metrics[0] = percentile(latency, faults, 0.99) / 1e3;
    metrics[1] = percentile(latency, faults, 0.999) / 1e3;
    free(latency);
}

const struct bench_case case_fault_busy = {
    .name = "fault.p99.busy",
    .prepare = prepare,
    .finish = plan_finish,
    .sides =
        {
            {"ours, no background fill", run_busy, NULL},
            {"ours, no background fill", run_busy, NULL},
            {"ours", run_busy, "busy"},
        },
    .rows =
        {
            {"fault.p99.busy.aa", "us", 1, 0, 0, 0, true},
            {"fault.p99.busy", "us", 2, 0, 0, 2, false},
            {"fault.p999.busy.aa", "us", 1, 0, 1, 0, true},
            {"fault.p999.busy", "us", 2, 0, 1, 3, false},
        },
    .rounds = 11,
    .quick_rounds = 3,
};

#define LOOP(count) SETUP(.who = LOOP_CONTINUE, .kind = KIND_SHMEM, .threads = count)
#define OUR(count) SETUP(.who = OURS, .kind = KIND_SHMEM, .threads = count, .window = PAGE)

const struct bench_case case_scale_threads = {
    .name = "scale.threads",
    .prepare = prepare,
    .finish = plan_finish,
    .sides =
        {
            {"loop-continue", run_touch, LOOP(1)},
            {"loop-continue", run_touch, LOOP(1)},
            {"loop-continue", run_touch, LOOP(4)},
            {"loop-continue", run_touch, LOOP(4)},
            {"ours, one thread", run_touch, OUR(1)},
            {"ours", run_touch, OUR(4)},
        },
    .rows =
        {
            {"scale.threads.1.aa", "us", 1, 0, TOUCH_US, 0, true},
            {"scale.threads.1", "us", 4, 0, TOUCH_US, 0, false},
            {"scale.threads.4.aa", "us", 3, 2, TOUCH_US, 0, true},
            {"scale.threads.4", "us", 5, 2, TOUCH_US, 1.0, false},
            {"scale.threads.4to1.loop", "us", 2, 0, TOUCH_US, 0, false},
            {"scale.threads.4to1", "us", 5, 4, TOUCH_US, 0, false},
        },
    .rounds = 9,
    .quick_rounds = 1,
};
