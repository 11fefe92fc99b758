/* prometheus.h: a memory's counters and latencies as Prometheus text (exposition format 0.0.4), for
 * any VMM: the answer to GET /metrics, or a file for the node exporter's textfile collector. */
#ifndef PROMETHEUS_H
#define PROMETHEUS_H

#include <guestram.h>
#include <stdio.h>

struct prometheus_memory {
    guestram_t *memory;
    const char *name; /* of its label memory="..."; NULL: no such label */
};

/*
 * Writes all memories of the process at once, because a metric may have one TYPE line only. 0;
 * -ENOMEM; -EIO from `out`; or what guestram_stats() or guestram_latency() answered, then with
 * nothing written.
 */
int prometheus_write(FILE *out, const struct prometheus_memory *memories, size_t count);

#endif
