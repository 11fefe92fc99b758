/* A file system that shows a snapshot's directory and answers reads of its memory file when the
 * test says so: held back, or with errors. A thread of the test serves it through /dev/fuse. */
#ifndef SUPPORT_SLOW_H
#define SUPPORT_SLOW_H

#include <stdbool.h>

/* Mounts it, in a mount namespace of the test's own: call it before any thread is made. Returns the
 * path that shows `directory`. Skips where FUSE is not to be had. */
const char *slow_mount(const char *directory);
void slow_unmount(void);

/* Reads of the memory file wait from now on; or those that wait, and all others, are answered. */
void slow_hold(bool hold);
/* How many wait. */
unsigned slow_waiting(void);
/* The next `count` answers to reads of the memory file are EIO, also to those that wait. */
void slow_fail(unsigned count);

#endif
