/* prometheus.c: see prometheus.h. Names and units are as Prometheus wants them: base units, _total
 * behind what only counts up, a label where the values of one name add up to something. */
#include "prometheus.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

enum { LATENCIES = GUESTRAM_LATENCY_FILL + 1, NS_PER_S = 1000000000 };

struct reading {
    const char *name;
    guestram_stats_t stats;
    guestram_latency_t latency[LATENCIES];
};

/* `at`: where in guestram_stats_t the number is; of a summary, which latency. */
#define STAT(member) offsetof(guestram_stats_t, member)

static const struct metric {
    const char *name, *type, *help, *label;
    struct {
        const char *value; /* of the label; NULL ends the list */
        size_t at;
    } sample[5];
} metrics[] = {
    {"guestram_faults_total", "counter", "Page faults that were read, by what they are.", "mode",
     {{"missing", STAT(missing)}, {"minor", STAT(minor)}, {"wp", STAT(wp)}}},
    {"guestram_faults_late_total", "counter",
     "Page faults that could not be answered at once, by what they met.", "met",
     {{"present", STAT(faults_present)},
      {"filling", STAT(faults_waited)},
      {"event", STAT(faults_deferred)}}},
    {"guestram_pages", "gauge", "Pages of all regions.", NULL, {{"", STAT(pages_total)}}},
    {"guestram_pages_present", "gauge", "Pages that are filled.", NULL,
     {{"", STAT(pages_present)}}},
    {"guestram_pages_absent", "gauge", "Pages whose contents are still only in the source.", NULL,
     {{"", STAT(pages_absent)}}},
    {"guestram_pages_loaded_total", "counter", "Pages brought from a source.", NULL,
     {{"", STAT(pages_loaded)}}},
    {"guestram_pages_filled_total", "counter", "Pages by the operation that filled them.",
     "operation",
     {{"copy", STAT(pages_copied)},
      {"zeropage", STAT(pages_zeroed)},
      {"continue", STAT(pages_continued)},
      {"poison", STAT(pages_poisoned)}}},
    {"guestram_pages_discarded_total", "counter", "Pages that the guest gave back.", NULL,
     {{"", STAT(pages_discarded)}}},
    {"guestram_source_read_bytes_total", "counter", "Bytes read from sources.", NULL,
     {{"", STAT(bytes_read)}}},
    {"guestram_source_reads_total", "counter", "Calls that read from sources.", NULL,
     {{"", STAT(reads)}}},
    {"guestram_source_reads_blocked_total", "counter", "Reads that the page cache did not answer.",
     NULL, {{"", STAT(reads_blocked)}}},
    {"guestram_source_errors_total", "counter", "Reads that failed.", NULL,
     {{"", STAT(source_errors)}}},
    {"guestram_uffd_events_total", "counter", "Changes of the address space that were followed.",
     "event",
     {{"remove", STAT(events_remove)},
      {"unmap", STAT(events_unmap)},
      {"remap", STAT(events_remap)},
      {"fork", STAT(events_fork)}}},
    {"guestram_events_dropped_total", "counter", "Events that the VMM did not take in time.", NULL,
     {{"", STAT(events_dropped)}}},
    {"guestram_own_memory_bytes", "gauge", "What the library uses for itself.", NULL,
     {{"", STAT(own_memory)}}},
    {"guestram_fault_seconds", "summary", "From a fault's reading until its thread was woken.",
     NULL, {{"", GUESTRAM_LATENCY_ALL}}},
    {"guestram_fault_mode_seconds", "summary", "The same by why the fault came.", "mode",
     {{"missing", GUESTRAM_LATENCY_MISSING},
      {"minor", GUESTRAM_LATENCY_MINOR},
      {"wp", GUESTRAM_LATENCY_WP}}},
    {"guestram_fault_origin_seconds", "summary", "The same by where the bytes came from.", "origin",
     {{"hit", GUESTRAM_LATENCY_HIT},
      {"disk", GUESTRAM_LATENCY_DISK},
      {"zero", GUESTRAM_LATENCY_ZERO}}},
    {"guestram_fault_part_seconds", "summary", "The parts that the time is made of.", "part",
     {{"queue", GUESTRAM_LATENCY_QUEUE},
      {"fetch", GUESTRAM_LATENCY_FETCH},
      {"fill", GUESTRAM_LATENCY_FILL}}},
};

static void put_label(FILE *out, char *separator, const char *label, const char *value) {
    fprintf(out, "%c%s=\"", *separator, label);
    for (; *value; value++) {
        if (*value == '\\' || *value == '"')
            putc('\\', out);
        fputs(*value == '\n' ? "\\n" : (const char[]){*value, 0}, out);
    }
    putc('"', out);
    *separator = ',';
}

/* The name and labels of a sample. `extra` is a label of its own, for a summary's quantile. */
static void put_name(FILE *out, const struct metric *metric, const char *suffix, const char *memory,
                     const char *value, const char *quantile) {
    char separator = '{';
    fprintf(out, "%s%s", metric->name, suffix);
    if (memory)
        put_label(out, &separator, "memory", memory);
    if (metric->label)
        put_label(out, &separator, metric->label, value);
    if (quantile)
        put_label(out, &separator, "quantile", quantile);
    fputs(separator == ',' ? "} " : " ", out);
}

/* Not by %f, whose point is a comma in some locales. */
static void put_seconds(FILE *out, uint64_t ns) {
    fprintf(out, "%" PRIu64 ".%09" PRIu64 "\n", ns / NS_PER_S, ns % NS_PER_S);
}

static void put_summary(FILE *out, const struct metric *metric, const char *memory,
                        const char *value, const guestram_latency_t *latency) {
    const struct {
        const char *quantile;
        uint64_t ns;
    } quantiles[] = {{"0.5", latency->p50_ns},
                     {"0.9", latency->p90_ns},
                     {"0.99", latency->p99_ns},
                     {"0.999", latency->p999_ns},
                     {"1", latency->max_ns}};
    for (size_t i = 0; i < sizeof quantiles / sizeof *quantiles; i++) {
        put_name(out, metric, "", memory, value, quantiles[i].quantile);
        if (latency->count)
            put_seconds(out, quantiles[i].ns);
        else
            fputs("NaN\n", out);
    }
    put_name(out, metric, "_sum", memory, value, NULL);
    put_seconds(out, latency->sum_ns);
    put_name(out, metric, "_count", memory, value, NULL);
    fprintf(out, "%" PRIu64 "\n", latency->count);
}

static void put_metric(FILE *out, const struct metric *metric, const struct reading *reading) {
    for (size_t i = 0; metric->sample[i].value; i++) {
        const char *value = metric->sample[i].value;
        size_t at = metric->sample[i].at;
        if (*metric->type == 's') {
            put_summary(out, metric, reading->name, value, &reading->latency[at]);
        } else {
            const char *stats = (const char *)&reading->stats;
            put_name(out, metric, "", reading->name, value, NULL);
            fprintf(out, "%" PRIu64 "\n", *(const uint64_t *)(const void *)(stats + at));
        }
    }
}

static int take(struct reading *reading, const struct prometheus_memory *memory) {
    reading->name = memory->name;
    reading->stats.size = sizeof reading->stats;
    int error = guestram_stats(memory->memory, &reading->stats);
    for (int i = 0; !error && i < LATENCIES; i++) {
        reading->latency[i].size = sizeof reading->latency[i];
        error = guestram_latency(memory->memory, i, &reading->latency[i]);
    }
    return error;
}

int prometheus_write(FILE *out, const struct prometheus_memory *memories, size_t count) {
    struct reading *readings = calloc(count + 1, sizeof *readings);
    int error = readings ? 0 : -ENOMEM;
    for (size_t i = 0; !error && i < count; i++)
        error = take(&readings[i], &memories[i]);
    for (size_t i = 0; !error && i < sizeof metrics / sizeof *metrics; i++) {
        fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", metrics[i].name, metrics[i].help,
                metrics[i].name, metrics[i].type);
        for (size_t j = 0; j < count; j++)
            put_metric(out, &metrics[i], &readings[j]);
    }
    free(readings);
    return error ? error : ferror(out) ? -EIO : 0;
}
