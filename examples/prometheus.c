/* prometheus.c: see prometheus.h. Names and units are as Prometheus wants them: base units, _total
 * behind what only counts up, a label where the values of one name add up to something. */
#include "prometheus.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

enum { LATENCIES = GUESTRAM_LATENCY_FILL + 1 };

/* Of guestram_latency_t's `below`: from 1 us to 8.6 s. The one after counts all that took longer,
 * too, which is what +Inf is for. */
enum { FIRST_BUCKET = 3, LAST_BUCKET = 26 };

/* For printf(). Not %f, whose point is a comma in some locales. */
#define SECONDS(ns) "%" PRIu64 ".%09" PRIu64, (ns) / 1000000000, (ns) % 1000000000

struct reading {
    const char *name;
    guestram_stats_t stats;
    guestram_latency_t latency[LATENCIES];
};

/* `at`: where in guestram_stats_t the number is; of a histogram, which latency. */
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
    {"guestram_fault_seconds", "histogram", "From a fault's reading until its thread was woken.",
     "mode",
     {{"missing", GUESTRAM_LATENCY_MISSING},
      {"minor", GUESTRAM_LATENCY_MINOR},
      {"wp", GUESTRAM_LATENCY_WP}}},
    {"guestram_fault_origin_seconds", "histogram", "The same by where the bytes came from.",
     "origin",
     {{"hit", GUESTRAM_LATENCY_HIT},
      {"disk", GUESTRAM_LATENCY_DISK},
      {"zero", GUESTRAM_LATENCY_ZERO}}},
    {"guestram_fault_part_seconds", "histogram", "The parts that the time is made of.", "part",
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

/* The name and labels of a sample; `le` is a bucket's bound. */
static void put_name(FILE *out, const struct metric *metric, const char *suffix, const char *memory,
                     const char *value, const char *le) {
    char separator = '{';
    fprintf(out, "%s%s", metric->name, suffix);
    if (memory)
        put_label(out, &separator, "memory", memory);
    if (metric->label)
        put_label(out, &separator, metric->label, value);
    if (le)
        put_label(out, &separator, "le", le);
    fputs(separator == ',' ? "} " : " ", out);
}

static void put_histogram(FILE *out, const struct metric *metric, const char *memory,
                          const char *value, const guestram_latency_t *latency) {
    for (int i = FIRST_BUCKET; i <= LAST_BUCKET; i++) {
        uint64_t bound = UINT64_C(128) << i;
        char le[32];
        snprintf(le, sizeof le, SECONDS(bound));
        put_name(out, metric, "_bucket", memory, value, le);
        fprintf(out, "%" PRIu64 "\n", latency->below[i]);
    }
    put_name(out, metric, "_bucket", memory, value, "+Inf");
    fprintf(out, "%" PRIu64 "\n", latency->count);
    put_name(out, metric, "_sum", memory, value, NULL);
    fprintf(out, SECONDS(latency->sum_ns));
    putc('\n', out);
    put_name(out, metric, "_count", memory, value, NULL);
    fprintf(out, "%" PRIu64 "\n", latency->count);
}

static void put_metric(FILE *out, const struct metric *metric, const struct reading *reading) {
    for (size_t i = 0; metric->sample[i].value; i++) {
        const char *value = metric->sample[i].value;
        size_t at = metric->sample[i].at;
        if (*metric->type == 'h') {
            put_histogram(out, metric, reading->name, value, &reading->latency[at]);
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
