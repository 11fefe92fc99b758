/* The machine under the cases: its clock, its CPUs, its memory. */
#include "bench.h"

#include <sched.h>
#include <sys/mman.h>
#include <time.h>

uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static cpu_set_t all_cpus;

static void keep_to(int cpu) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    check(sched_setaffinity(0, sizeof one, &one) == 0);
}

void pin(void) {
    check(sched_getaffinity(0, sizeof all_cpus, &all_cpus) == 0);
    int cpu = CPU_SETSIZE - 1; /* the last one: interrupts tend to go to the first */
    while (!CPU_ISSET(cpu, &all_cpus))
        cpu--;
    keep_to(cpu);
}

void unpin(void) { check(sched_setaffinity(0, sizeof all_cpus, &all_cpus) == 0); }

void memory_warm(size_t length) {
    cpu_set_t before;
    check(sched_getaffinity(0, sizeof before, &before) == 0);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &before))
            continue;
        keep_to(cpu);
        void *memory = mmap(NULL, length, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        check(memory != MAP_FAILED && munmap(memory, length) == 0);
    }
    check(sched_setaffinity(0, sizeof before, &before) == 0);
}

const char *huge_pages_missing(size_t length) {
    static char reason[96];
    unsigned long available = 0;
    FILE *file = fopen("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "re");
    if (file == NULL || fscanf(file, "%lu", &available) != 1)
        available = 0;
    if (file != NULL)
        fclose(file);
    if (available >= length / HUGE_PAGE)
        return NULL;
    snprintf(reason, sizeof reason, "%zu free huge pages of 2 MiB are needed, %lu there are",
             length / HUGE_PAGE, available);
    return reason;
}
