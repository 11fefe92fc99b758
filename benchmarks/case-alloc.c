/*
 * path.alloc: allocations and retains in the workers, counted by the kernel: a uprobe on every
 * function that allocates, frees, retains or releases, for the worker threads alone, while pages
 * are touched.
 */
#include "bench.h"
#include "probe.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#define TOUCHES 8192

static void prepare(void) {
    snapshot_warm();
    plan.count = TOUCHES;
    plan.pages = order_random(snapshot()->length / PAGE, plan.count);
}

/* The counters count: a thread that allocates is seen to do so. */
static void *allocate(void *argument) {
    pthread_barrier_t *barrier = argument;
    pthread_barrier_wait(barrier);
    pthread_barrier_wait(barrier);
    for (int i = 0; i < 100; i++) {
        void *volatile taken = malloc(100000 + (size_t)i); /* not to be optimised away */
        free(taken);
    }
    return NULL;
}

static void check_probes(void) {
    pthread_barrier_t barrier;
    pthread_t thread;
    struct thread_list before, after;
    check(pthread_barrier_init(&barrier, NULL, 2) == 0);
    threads_list(&before);
    check(pthread_create(&thread, NULL, allocate, &barrier) == 0);
    pthread_barrier_wait(&barrier);
    threads_list(&after);
    struct probes *probes = probes_open(&before, &after);
    pthread_barrier_wait(&barrier);
    check(pthread_join(thread, NULL) == 0);
    uint64_t seen = probes_close(probes, true);
    pthread_barrier_destroy(&barrier);
    if (seen < 200)
        fail("path.alloc: 200 allocations and frees were made, %llu were counted",
             (unsigned long long)seen);
}

static void run_counted(const void *argument, double metrics[MAX_METRICS]) {
    const struct setup *setup = argument;
    check_probes();
    struct thread_list before, after;
    threads_list(&before);
    struct served served;
    serve_start(&served, setup);
    threads_list(&after);
    threads_keep(&after, "guestram/fault"); /* the kernel takes 85 ms to let go of each counter */
    check(after.count > 0);
    struct touch warm_up = {
        .memory = served.memory, .page = PAGE, .pages = plan.pages, .count = 16, .threads = 1};
    touch_run(&warm_up);
    struct touch touch = warm_up;
    touch.pages += warm_up.count;
    touch.count = plan.count - warm_up.count;
    struct probes *probes = probes_open(&before, &after);
    touch_run(&touch);
    metrics[0] = (double)probes_close(probes, false);
    pattern_verify(served.memory, plan.pages, plan.count);
    serve_stop(&served);
}

static void run_touches(const void *argument, double metrics[MAX_METRICS]) {
    (void)argument;
    metrics[0] = TOUCHES - 16;
}

static const struct setup anon = {.who = OURS, .kind = KIND_ANON, .threads = 1};
static const struct setup shmem = {.who = OURS, .kind = KIND_SHMEM, .threads = 1, .window = PAGE};
static const struct setup cold = {.who = OURS, .kind = KIND_SHMEM, .threads = 1, .cold = true};

const struct bench_case case_path_alloc = {
    .name = "path.alloc",
    .missing = probes_missing,
    .prepare = prepare,
    .finish = plan_finish,
    .sides =
        {
            {"pages touched", run_touches, NULL},
            {"ours", run_counted, &anon},
            {"ours", run_counted, &shmem},
            {"ours", run_counted, &cold},
        },
    .rows =
        {
            {"path.alloc.anon", "calls", 1, 0, 0, NONE, false},
            {"path.alloc.shmem", "calls", 2, 0, 0, NONE, false},
            {"path.alloc.cold", "calls", 3, 0, 0, NONE, false},
        },
    .rounds = 1,
    .quick_rounds = 1,
};
