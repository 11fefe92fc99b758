/* Threads that touch guest memory in a seeded order, as vCPUs would. */
#include "bench.h"

#include <stdatomic.h>
#include <stdlib.h>

struct slice {
    const struct touch *touch;
    size_t first, last;
    pthread_barrier_t *barrier;
    uint64_t begin, end;
};

static void touch_slice(struct slice *slice) {
    const struct touch *touch = slice->touch;
    uint64_t before = now_ns();
    slice->begin = before;
    for (size_t i = slice->first; i < slice->last; i++) {
        (void)*(const volatile uint64_t *)(const void *)(touch->memory +
                                                         touch->pages[i] * touch->page);
        if (touch->latency != NULL) {
            uint64_t after = now_ns();
            uint64_t took = after - before;
            touch->latency[i] = took < UINT32_MAX ? (uint32_t)took : UINT32_MAX;
            before = after;
        }
    }
    slice->end = now_ns();
}

static void *touch_thread(void *argument) {
    struct slice *slice = argument;
    pthread_barrier_wait(slice->barrier);
    touch_slice(slice);
    return NULL;
}

uint64_t touch_run(const struct touch *touch) {
    enum { MAX_THREADS = 16 };
    struct slice slices[MAX_THREADS];
    pthread_t threads[MAX_THREADS];
    check(touch->threads >= 1 && touch->threads <= MAX_THREADS);
    if (touch->threads == 1) {
        struct slice all = {.touch = touch, .last = touch->count};
        touch_slice(&all);
        return all.end - all.begin;
    }
    pthread_barrier_t barrier;
    check(pthread_barrier_init(&barrier, NULL, touch->threads) == 0);
    for (unsigned i = 0; i < touch->threads; i++) {
        slices[i] = (struct slice){.touch = touch,
                                   .first = touch->count * i / touch->threads,
                                   .last = touch->count * (i + 1) / touch->threads,
                                   .barrier = &barrier};
        check(pthread_create(&threads[i], NULL, touch_thread, &slices[i]) == 0);
    }
    uint64_t begin = UINT64_MAX, end = 0;
    for (unsigned i = 0; i < touch->threads; i++) {
        check(pthread_join(threads[i], NULL) == 0);
        begin = slices[i].begin < begin ? slices[i].begin : begin;
        end = slices[i].end > end ? slices[i].end : end;
    }
    pthread_barrier_destroy(&barrier);
    return end - begin;
}

uint32_t *order_sequential(size_t count) {
    uint32_t *pages = malloc(count * sizeof *pages);
    check(pages != NULL);
    for (size_t i = 0; i < count; i++)
        pages[i] = (uint32_t)i;
    return pages;
}

uint32_t *order_random(size_t total, size_t count) {
    uint32_t *pages = order_sequential(total);
    uint64_t state = SEED;
    for (size_t i = 0; i < count; i++) {
        state ^= state << 13; /* xorshift64 */
        state ^= state >> 7;
        state ^= state << 17;
        size_t other = i + (size_t)(state % (total - i));
        uint32_t page = pages[i];
        pages[i] = pages[other];
        pages[other] = page;
    }
    return pages;
}
