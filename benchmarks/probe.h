/* Counting calls of allocating functions in some threads of this process, by uprobes. */
#ifndef PROBE_H
#define PROBE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct thread_list {
    pid_t ids[64];
    int count;
};
void threads_list(struct thread_list *threads);
/* Drops those whose name does not begin so. */
void threads_keep(struct thread_list *threads, const char *name);

struct probes;
/* NULL, or why this kernel cannot count. */
const char *probes_missing(void);
/* Counts in the threads that are in `after` and not in `before`. */
struct probes *probes_open(const struct thread_list *before, const struct thread_list *after);
/* How many calls there were; those that were called are named on stderr unless `expected`. */
uint64_t probes_close(struct probes *probes, bool expected);

#endif
