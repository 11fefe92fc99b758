/* mem.fixed, scale.memory, lib.size: what the library costs before the first fault. */
#include "bench.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static double resident_kib(void) {
    long kib = -1;
    char line[128];
    FILE *file = fopen("/proc/self/smaps_rollup", "re");
    check(file != NULL);
    while (kib < 0 && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "Rss: %ld kB", &kib) != 1)
            kib = -1;
    fclose(file);
    check(kib >= 0);
    return (double)kib;
}

/* A memory of `length` bytes, all registered, nothing touched. */
static guestram_t *create(size_t length) {
    guestram_t *memory = NULL;
    uint32_t region = 0;
    guestram_region_options_t options = {.size = sizeof options,
                                         .name = SNAPSHOT_REGION,
                                         .type = GUESTRAM_ANON,
                                         .flags = GUESTRAM_REGION_USERFAULT,
                                         .length = length};
    call(guestram_create(NULL, &memory));
    call(guestram_region_add(memory, &options, &region));
    call(guestram_start(memory));
    return memory;
}

struct own {
    double reported, resident; /* KiB */
};

static struct own own_memory(size_t length) {
    double before = resident_kib();
    guestram_t *memory = create(length);
    guestram_stats_t stats = {.size = sizeof stats};
    call(guestram_stats(memory, &stats));
    struct own own = {(double)stats.own_memory / 1024, resident_kib() - before};
    guestram_destroy(memory);
    return own;
}

static void run_own(const void *argument, double metrics[MAX_METRICS]) {
    (void)argument;
    struct own small = own_memory(GIB), large = own_memory(5 * GIB);
    metrics[0] = (large.reported - small.reported) / 4;
    metrics[1] = small.reported - metrics[0];
    metrics[2] = (large.resident - small.resident) / 4;
    metrics[3] = small.resident;
}

static void run_budget(const void *argument, double metrics[MAX_METRICS]) {
    (void)argument;
    metrics[0] = metrics[2] = 320;
    metrics[1] = metrics[3] = 1024;
}

const struct bench_case case_mem_fixed = {
    .name = "mem.fixed",
    .sides =
        {
            {"budget", run_budget, NULL},
            {"ours", run_own, NULL},
        },
    .rows =
        {
            {"mem.per-gib", "KiB", 1, 0, 0, 1, false},
            {"mem.fixed", "KiB", 1, 0, 1, 1, false},
            {"mem.per-gib.resident", "KiB", 1, 0, 2, 1, false},
            {"mem.fixed.resident", "KiB", 1, 0, 3, 1, false},
        },
    .rounds = 3,
    .quick_rounds = 3,
};

/* ------------------------------------------------------------------------------ scale.memory -- */

static void run_create(const void *argument, double metrics[MAX_METRICS]) {
    (void)argument;
    static const size_t lengths[] = {GIB / 4, GIB, 4 * GIB, 16 * GIB};
    for (int i = 0; i < 4; i++) {
        uint64_t before = now_ns();
        guestram_destroy(create(lengths[i]));
        metrics[i] = (double)(now_ns() - before) / 1e6;
    }
}

static void run_register(const void *argument, double metrics[MAX_METRICS]) {
    (void)argument;
    static const size_t lengths[] = {GIB / 4, GIB, 4 * GIB, 16 * GIB};
    for (int i = 0; i < 4; i++) {
        uint64_t before = now_ns();
        struct loop loop;
        struct mapping mapping = mapping_create(KIND_ANON, lengths[i], -1);
        loop_copy_start(&loop, mapping, NULL);
        loop_stop(&loop);
        mapping_destroy(&mapping);
        metrics[i] = (double)(now_ns() - before) / 1e6;
    }
}

const struct bench_case case_scale_memory = {
    .name = "scale.memory",
    .sides =
        {
            {"loop-copy", run_register, NULL},
            {"loop-copy", run_register, NULL},
            {"ours", run_create, NULL},
        },
    .rows =
        {
            {"scale.memory.256m", "ms", 2, 0, 0, 0, false},
            {"scale.memory.1g.aa", "ms", 1, 0, 1, 0, true},
            {"scale.memory.1g", "ms", 2, 0, 1, 0, false},
            {"scale.memory.4g", "ms", 2, 0, 2, 0, false},
            {"scale.memory.16g", "ms", 2, 0, 3, 0, false},
        },
    .rounds = 9,
    .quick_rounds = 5,
};

/* ---------------------------------------------------------------------------------- lib.size -- */

/* Of a stripped program that the build put beside this one. */
static double program_kib(const char *name) {
    char path[512];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 64);
    check(length > 0);
    path[length] = 0;
    strcpy(strrchr(path, '/') + 1, name);
    struct stat status;
    if (stat(path, &status) != 0)
        fail("%s is not there: build all of benchmarks/", path);
    return (double)status.st_size / 1024;
}

static void run_size(const void *argument, double metrics[MAX_METRICS]) {
    (void)argument;
    metrics[0] = program_kib("guestram-size-with") - program_kib("guestram-size-without");
}

static void run_size_budget(const void *argument, double metrics[MAX_METRICS]) {
    (void)argument;
    metrics[0] = 400;
}

const struct bench_case case_lib_size = {
    .name = "lib.size",
    .sides =
        {
            {"budget", run_size_budget, NULL},
            {"ours", run_size, NULL},
        },
    .rows =
        {
            {"lib.size", "KiB", 1, 0, 0, 1, false},
        },
    .rounds = 1,
    .quick_rounds = 1,
};
