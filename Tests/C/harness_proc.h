/* What the runner asks /proc about the processes of a test. */
#ifndef HARNESS_PROC_H
#define HARNESS_PROC_H

#include <stdbool.h>
#include <sys/types.h>

/* Kills the processes whose parent we are: as the subreaper, also those that the test lost.
 * Returns the name of the last, "" if there was none. */
const char *kill_children(void);

/* True when no child is left; waits up to `milliseconds` for those that are just ending. */
bool all_reaped(int milliseconds);

/* Where its threads wait, for a test that ran out of time. */
void print_threads(pid_t pid);

#endif
