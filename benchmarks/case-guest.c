/*
 * restore.guest: the headline. From nothing but a cold snapshot file to the end of a KVM guest that
 * touches 2% of a GiB: opening, restoring, starting the handler, and every fault.
 */
#include "bench.h"
#include "guest.h"

static uint64_t expected;

static void prepare(void) {
    plan.count = snapshot()->length / PAGE / 50;
    plan.pages = order_random(snapshot()->length / PAGE, plan.count);
    expected = 0;
    for (size_t i = 0; i < plan.count; i++)
        expected += pattern_first(plan.pages[i]);
}

static void run(const void *argument, double metrics[MAX_METRICS]) {
    const struct setup *setup = argument;
    struct guest guest;
    guest_create(&guest, setup->threads, plan.pages, plan.count);
    if (setup->cold)
        snapshot_cold();
    uint64_t before = now_ns();
    struct served served;
    serve_start(&served, setup);
    uint64_t sum = guest_run(&guest, served.memory, served.length);
    metrics[0] = (double)(now_ns() - before) / 1e6;
    if (sum != expected)
        fail("the guest did not read what was saved");
    pattern_verify(served.memory, plan.pages, plan.count);
    guest_destroy(&guest);
    serve_stop(&served);
}

#define COLD(side, count) SETUP(.who = side, .kind = KIND_SHMEM, .threads = count, .cold = true)

const struct bench_case case_restore_guest = {
    .name = "restore.guest",
    .missing = guest_missing,
    .prepare = prepare,
    .finish = plan_finish,
    .sides =
        {
            {"loop-copy", run, COLD(LOOP_COPY, 4)},
            {"loop-copy", run, COLD(LOOP_COPY, 4)},
            {"ours", run, COLD(OURS, 4)},
            {"private-mmap", run, COLD(PRIVATE_MMAP, 4)},
            {"private-mmap", run, COLD(PRIVATE_MMAP, 4)},
            {"loop-copy", run, COLD(LOOP_COPY, 1)},
            {"loop-copy", run, COLD(LOOP_COPY, 1)},
            {"ours", run, COLD(OURS, 1)},
        },
    .rows =
        {
            {"restore.guest.4vcpu.aa", "ms", 1, 0, 0, 0, true},
            {"restore.guest.4vcpu", "ms", 2, 0, 0, 0, false},
            {"restore.guest.4vcpu.mmap.aa", "ms", 4, 3, 0, 0, true},
            {"restore.guest.4vcpu.mmap", "ms", 2, 3, 0, 0, false},
            {"restore.guest.1vcpu.aa", "ms", 6, 5, 0, 0, true},
            {"restore.guest.1vcpu", "ms", 7, 5, 0, 0, false},
        },
    .rounds = 7,
    .quick_rounds = 1,
};
