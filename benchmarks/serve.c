/* One way to run any side: start what serves, touch, verify, stop. */
#include "bench.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct plan plan;

void plan_finish(void) {
    free(plan.pages);
    if (plan.memfd > 0)
        close(plan.memfd);
    plan = (struct plan){0};
}

static void start_ours(struct served *served) {
    static const uint32_t types[] = {GUESTRAM_ANON, GUESTRAM_SHMEM, GUESTRAM_HUGETLB};
    const struct setup *setup = served->setup;
    struct ours_options options = {.type = types[setup->kind],
                                   .sandbox = setup->sandbox,
                                   .window = setup->window,
                                   .memfd = setup->cached ? plan.memfd : 0,
                                   .length = served->length};
    ours_prepare(&served->ours, &options);
    ours_start(&served->ours);
    served->memory = served->ours.address;
}

void serve_start(struct served *served, const struct setup *setup) {
    *served = (struct served){.setup = setup,
                              .page = setup->kind == KIND_HUGETLB ? HUGE_PAGE : PAGE,
                              .length = setup->cached ? plan.length : snapshot()->length};
    if (setup->who == OURS) {
        start_ours(served);
        return;
    }
    if (setup->who == PRIVATE_MMAP)
        served->mapping = private_mmap(snapshot()->file, snapshot()->offset, served->length);
    else
        served->mapping =
            mapping_create(setup->kind, served->length, setup->cached ? plan.memfd : -1);
    served->memory = served->mapping.address;
    if (setup->who == LOOP_COPY) {
        served->source = snapshot_map();
        if (setup->advised)
            check(madvise((void *)served->source, served->length, MADV_RANDOM) == 0);
        loop_copy_start(&served->loop, served->mapping, served->source);
    } else if (setup->who == LOOP_CONTINUE) {
        loop_continue_start(&served->loop, served->mapping, setup->cached ? -1 : snapshot()->file,
                            setup->cached ? 0 : snapshot()->offset);
    }
}

void serve_stop(struct served *served) {
    switch (served->setup->who) {
    case OURS:
        ours_stop(&served->ours);
        return;
    case LOOP_COPY:
        loop_stop(&served->loop);
        snapshot_unmap(served->source);
        break;
    case LOOP_CONTINUE:
        loop_stop(&served->loop);
        break;
    case PRIVATE_MMAP:
        break;
    }
    mapping_destroy(&served->mapping);
}

void run_touch(const void *argument, double metrics[MAX_METRICS]) {
    const struct setup *setup = argument;
    uint32_t *latency = NULL;
    if (setup->latency)
        check((latency = malloc(plan.count * sizeof *latency)) != NULL);
    if (setup->cold)
        snapshot_cold();
    memory_warm(plan.count * PAGE);
    if (setup->pinned)
        pin(); /* before any thread starts, so that all of them stay here */
    struct served served;
    serve_start(&served, setup);
    /* Threads that were just started stand differently with the scheduler, for as long as the
     * shortest cases take. */
    if (setup->pinned)
        usleep(100000);
    struct touch touch = {.memory = served.memory,
                          .page = served.page,
                          .pages = plan.pages,
                          .count = plan.count,
                          .threads = setup->threads,
                          .latency = latency};
    uint64_t took = touch_run(&touch);
    if (setup->pinned)
        unpin();
    if (served.page == PAGE)
        pattern_verify(served.memory, plan.pages, plan.count);
    else
        pattern_verify_all(served.memory, served.length);
    serve_stop(&served);
    metrics[TOUCH_MS] = (double)took / 1e6;
    metrics[TOUCH_US] = (double)took / 1e3 / (double)plan.count;
    if (latency != NULL) {
        metrics[TOUCH_P50] = percentile(latency, plan.count, 0.5) / 1e3;
        metrics[TOUCH_P99] = percentile(latency, plan.count, 0.99) / 1e3;
        free(latency);
    }
}
