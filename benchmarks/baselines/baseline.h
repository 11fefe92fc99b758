/*
 * What a VMM author would write instead of linking the library: plain C, one thread, no cleverness
 * that a reader would not try first, and no mistake that would make the library look good.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef BASELINE_H
#define BASELINE_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

/* Memory to be served. Huge pages are always a memfd's. */
enum kind { KIND_ANON, KIND_SHMEM, KIND_HUGETLB };

struct mapping {
    uint8_t *address;
    size_t length;
    size_t page; /* bytes: 4 KiB or 2 MiB */
    int fd;      /* -1 for anon */
};

/* Fresh and empty memory; shmem and hugetlb with a memfd of their own unless `fd` is one. */
struct mapping mapping_create(enum kind kind, size_t length, int fd);
void mapping_destroy(struct mapping *mapping);

/* An open userfaultfd, non-blocking, with `mapping` registered: MISSING, and MINOR with a memfd. */
int uffd_register(const struct mapping *mapping);

/* A thread that answers faults, from loop_*_start() to loop_stop(). */
struct loop {
    pthread_t thread;
    int uffd;
    struct mapping mapping;
    const uint8_t *source; /* loop-copy: the snapshot, mapped */
    int file; /* loop-continue: the snapshot; -1: the memfd holds the contents already */
    uint64_t file_offset;
};

/* poll, read one message, UFFDIO_COPY of a page from `source`. */
void loop_copy_start(struct loop *loop, struct mapping mapping, const uint8_t *source);

/* poll, read one message, pread to a buffer, pwrite to the memfd, UFFDIO_CONTINUE of a page. */
void loop_continue_start(struct loop *loop, struct mapping mapping, int file, uint64_t file_offset);

/* Nobody may be waiting for a page any more. The mapping stays the caller's. */
void loop_stop(struct loop *loop);

/* No handler: the kernel's own MAP_PRIVATE mapping of the snapshot. */
struct mapping private_mmap(int file, uint64_t file_offset, size_t length);

/* The bare operations, `batch` bytes a call: what no program can go below. */
void floor_copy(int uffd, uint8_t *memory, const uint8_t *source, size_t length, size_t batch);
void floor_continue(int uffd, uint8_t *memory, size_t length, size_t batch);
void floor_memcpy(uint8_t *memory, const uint8_t *source, size_t length);
/* Sequential O_DIRECT reads of a MiB into one buffer: the speed of the storage. */
void floor_read_direct(const char *path, uint64_t file_offset, size_t length);

#endif
