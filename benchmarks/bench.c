/*
 * guestram-bench: the library beside plain C, in one run.
 *
 *     guestram-bench [--quick] [--case NAME] [--json FILE] [--list] [--directory DIR]
 *
 * scripts/bench builds it, gives it a directory and huge pages, and cleans up.
 */
#include "bench.h"

#include <float.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

bool quick;
const char *directory = ".";

/* mem.fixed is first: nothing freed earlier shall hide what it allocates. */
static const struct bench_case *const cases[] = {
    &case_mem_fixed,
    &case_lib_size,
    &case_path_alloc,
    &case_fault_continue,
    &case_fault_copy,
    &case_fault_hugetlb,
    &case_touch_sequential,
    &case_touch_random_anon,
    &case_touch_random_shmem,
    &case_touch_random_cold,
    &case_fill_shmem,
    &case_fill_gmem,
    &case_fill_cold,
    &case_fault_busy,
    &case_scale_threads,
    &case_scale_memory,
    &case_floor,
    &case_restore_guest,
};

void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("guestram-bench: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(EXIT_FAILURE);
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int by_value32(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

double percentile(uint32_t *values, size_t count, double share) {
    check(count > 0);
    qsort(values, count, sizeof *values, by_value32);
    size_t index = (size_t)(share * (double)count);
    return values[index < count ? index : count - 1];
}

struct summary {
    double low, median, high; /* quartiles, from five rounds up; else the extremes */
};

static struct summary summarize(double *values, unsigned count) {
    qsort(values, count, sizeof *values, by_value);
    unsigned cut = count >= 5 ? count / 4 : 0;
    double median = (values[count / 2] + values[(count - 1) / 2]) / 2;
    return (struct summary){values[cut], median, values[count - 1 - cut]};
}

static double samples[MAX_SIDES][MAX_METRICS][MAX_ROUNDS];

/* A target counts only where no difference at all stays well within its distance from 1. */
static const char *verdict(const struct row *row, double ratio, double same) {
    if (row->target == 0)
        return "";
    if (row->target == NONE)
        return ratio == 0 ? "ok" : "MISSED";
    double margin = row->target > 1 ? row->target - 1 : 1 - row->target;
    margin = margin < 0.03 ? 0.03 : margin;
    if (same > 0 && (same > 1 + margin || same < 1 / (1 + margin)))
        return "noisy";
    return ratio <= row->target ? "ok" : "MISSED";
}

static void report(const struct bench_case *bench, unsigned rounds, FILE *json) {
    static bool first = true;
    double same = 0;
    for (const struct row *row = bench->rows; row->name != NULL; row++) {
        const double *ours = samples[row->ours][row->metric];
        const double *baseline = samples[row->baseline][row->metric];
        double a[MAX_ROUNDS], b[MAX_ROUNDS], ratios[MAX_ROUNDS];
        for (unsigned i = 0; i < rounds; i++) {
            a[i] = ours[i];
            b[i] = baseline[i];
            ratios[i] = baseline[i] > 0 ? ours[i] / baseline[i] : ours[i] > 0 ? DBL_MAX : 1;
        }
        struct summary x = summarize(a, rounds), y = summarize(b, rounds);
        struct summary ratio = summarize(ratios, rounds);
        if (row->same)
            same = ratio.median;
        char target[16] = "";
        if (row->target != 0)
            snprintf(target, sizeof target, "<= %.2f", row->target == NONE ? 0 : row->target);
        const char *name = bench->sides[row->baseline].name;
        printf("%-34s %10.4g %10.4g %-5s %7.3f  %5.2f-%-5.2f %8s %-6s %s\n", row->name, x.median,
               y.median, row->unit, ratio.median, ratio.low, ratio.high, target,
               verdict(row, ratio.median, same), name);
        if (json != NULL)
            fprintf(json,
                    "%s  {\"name\": \"%s\", \"unit\": \"%s\", \"ours\": %.6g, \"baseline\": %.6g, "
                    "\"baseline_name\": \"%s\", \"ratio\": %.4f, \"rounds\": %u}",
                    first ? "" : ",\n", row->name, row->unit, x.median, y.median, name,
                    ratio.median, rounds);
        first = false;
    }
    fflush(stdout);
}

static void measure(const struct bench_case *bench, FILE *json) {
    unsigned rounds = quick ? bench->quick_rounds : bench->rounds, sides = 0;
    while (bench->sides[sides].name != NULL)
        sides++;
    if (bench->prepare != NULL)
        bench->prepare();
    for (unsigned round = 0; round < rounds; round++) {
        for (unsigned i = 0; i < sides; i++) { /* nobody is always the first */
            unsigned side = (i + round) % sides;
            double metrics[MAX_METRICS] = {0};
            bench->sides[side].run(bench->sides[side].setup, metrics);
            for (unsigned m = 0; m < MAX_METRICS; m++)
                samples[side][m][round] = metrics[m];
        }
    }
    if (bench->finish != NULL)
        bench->finish();
    report(bench, rounds, json);
}

int main(int count, char **arguments) {
    static const struct option options[] = {
        {"quick", no_argument, NULL, 'q'},           {"case", required_argument, NULL, 'c'},
        {"json", required_argument, NULL, 'j'},      {"list", no_argument, NULL, 'l'},
        {"directory", required_argument, NULL, 'd'}, {NULL, 0, NULL, 0}};
    const char *only = "", *json_path = NULL;
    bool list = false;
    int option;
    while ((option = getopt_long(count, arguments, "", options, NULL)) != -1) {
        switch (option) {
        case 'q':
            quick = true;
            break;
        case 'c':
            only = optarg;
            break;
        case 'j':
            json_path = optarg;
            break;
        case 'l':
            list = true;
            break;
        case 'd':
            directory = optarg;
            break;
        default:
            return 2;
        }
    }
    const char *ci = getenv("CI");
    unsigned ran = 0, skipped = 0;
    FILE *json = json_path != NULL ? fopen(json_path, "we") : NULL;
    if (json_path != NULL && json == NULL)
        fail("%s cannot be written: %s", json_path, strerror(errno));
    if (json != NULL)
        fputs("[\n", json);
    if (!list)
        printf("%-34s %10s %10s %-5s %7s  %-11s %8s %-6s %s\n", "name", "ours", "baseline", "unit",
               "ratio", "quartiles", "target", "", "baseline");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (strncmp(cases[i]->name, only, strlen(only)) != 0)
            continue;
        if (list) {
            puts(cases[i]->name);
            continue;
        }
        const char *missing = cases[i]->missing != NULL ? cases[i]->missing() : NULL;
        if (missing != NULL) {
            printf("%-34s skipped: %s\n", cases[i]->name, missing);
            skipped++;
            continue;
        }
        measure(cases[i], json);
        ran++;
    }
    if (json != NULL && (fputs("\n]\n", json) < 0 || fclose(json) != 0))
        fail("%s cannot be written: %s", json_path, strerror(errno));
    if (!list && ran == 0 && skipped == 0)
        fail("no case is named %s; --list names them", only);
    return skipped > 0 && ci != NULL && strcmp(ci, "true") == 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
