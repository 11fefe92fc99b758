/*
 * What the tests share: memories of every type, patterns, snapshots, touches that survive SIGBUS,
 * and twins: the same kind of memory with a userfaultfd of the test's own, to ask the kernel what
 * it answers where the library is asked the same.
 */
#ifndef SUPPORT_H
#define SUPPORT_H

#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guestram.h"

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define PAGE (4 * KIB)

/* TEST_QUICK=1: fewer rounds will do. */
bool is_quick(void);

/* ---- memory types and their variants -- */

typedef struct variant {
    const char *name;
    uint32_t type;
    uint32_t flags;   /* of the region */
    uint64_t granule;
    bool callers;     /* mapped by the test, not by the library */
} variant_t;

/* HUGETLB_ANON is the caller's: the library cannot be asked for it. */
extern const variant_t ANON, SHMEM, SHMEM_PRIVATE, HUGETLB, HUGETLB_PRIVATE, HUGETLB_ANON;

/* Skips where the kernel itself refuses the variant, whatever the library says of it. */
void need_variant(const variant_t *variant);

/* The function `body` as a test of every variant. */
#define TEST_EVERY_VARIANT(body)                                    \
    TEST_SMALL_VARIANTS(body)                                       \
    TEST_HUGEPAGES(body##_hugetlb, 16) { body(&HUGETLB); }          \
    TEST_HUGEPAGES(body##_hugetlb_private, 16) { body(&HUGETLB_PRIVATE); } \
    TEST_HUGEPAGES(body##_hugetlb_anon, 16) { body(&HUGETLB_ANON); }
#define TEST_SMALL_VARIANTS(body)                                   \
    TEST(body##_anon) { body(&ANON); }                              \
    TEST(body##_shmem) { body(&SHMEM); }                            \
    TEST(body##_shmem_private) { body(&SHMEM_PRIVATE); }

/* ---- patterns: every 4 KiB page its own; every fourth granule a hole -- */

void pattern_fill(uint8_t *memory, uint64_t length, uint64_t granule, uint64_t seed);
/* The offset of the first byte that is not the pattern's; -1: none. */
int64_t pattern_mismatch(const uint8_t *memory, uint64_t length, uint64_t granule, uint64_t seed);
bool pattern_is_hole(uint64_t offset, uint64_t granule);
/* The first word of the page at `offset`. */
uint64_t pattern_word(uint64_t offset, uint64_t granule, uint64_t seed);
bool is_zero(const void *memory, uint64_t length);

/* ---- one VM with one region "ram" -- */

typedef struct vm {
    guestram_t *memory;
    const variant_t *variant;
    uint32_t region;
    uint8_t *address;
    int fd; /* of the caller's mapping; -1: none */
    uint64_t length, granule, seed;
} vm_t;

#define VM_SEED UINT64_C(0x5eed)

guestram_region_options_t region_options(const variant_t *variant, uint64_t length);
/* Adds the region to a memory that exists. */
vm_t vm_add(guestram_t *memory, const variant_t *variant, uint64_t length, uint32_t flags);
/* A started memory, lazily restored from a snapshot of the pattern, or empty with _USERFAULT. */
vm_t vm_restored(const variant_t *variant, uint64_t granules, const guestram_options_t *options);
/* The same with _USERFAULT: it stays registered, to be tracked and operated on. */
vm_t vm_tracked(const variant_t *variant, uint64_t granules, const guestram_options_t *options);
vm_t vm_empty(const variant_t *variant, uint64_t granules);
/* Restored into a region of these options, which are of the variant. */
vm_t vm_restored_as(const variant_t *variant, const guestram_region_options_t *region, const guestram_options_t *options,
                    uint32_t mode);
void vm_destroy(vm_t *vm);
int64_t vm_mismatch(const vm_t *vm);
/* Once they stand still: a thread goes on as soon as its page is there, before that is counted. */
guestram_stats_t vm_stats(const vm_t *vm);
guestram_region_info_t vm_info(const vm_t *vm);
/* Skips where the kernel has no such operation for the variant; then the library must have it. */
void need_operation(const vm_t *vm, uint32_t operation);

/* ---- snapshots -- */

/* A path of that name in the test's own directory. The last 16 stay valid. */
const char *scratch(const char *name);
void save_pattern(const char *directory, uint64_t length, uint64_t granule, uint64_t seed);
guestram_snapshot_t *opened(const char *directory);
void restore(guestram_t *memory, const char *directory, uint32_t mode);
/* Cuts the snapshot's memory file, so that its source fails from there on. */
void cut_memory_file(const char *directory, uint64_t length);
/* At most `length` bytes of a file; a file of just these. */
size_t read_file(const char *path, void *bytes, size_t length);
void write_file(const char *path, const void *bytes, size_t length);
uint64_t crc64(const char *bytes, size_t length); /* CRC-64/XZ, as in manifests */

/* ---- touches -- */

/* 0, or the signal: SIGBUS or SIGSEGV. */
int touch_read(const void *address, uint64_t *value);
int touch_write(void *address, uint64_t value);

typedef struct toucher {
    pthread_t thread;
    void *address;
    uint64_t value; /* written, or read */
    bool write;
    int result;     /* as touch_read's */
    atomic_bool done;
} toucher_t;

void toucher_start(toucher_t *toucher, void *address, bool write, uint64_t value);
/* False: it still waits after so long. */
bool toucher_join(toucher_t *toucher, int timeout_ms);

uint64_t now_ns(void);
#define EVENTUALLY(condition)                                                     \
    do {                                                                          \
        bool is_so_ = false;                                                      \
        for (uint64_t until_ = now_ns() + 5000000000u; !(is_so_ = (condition)) && now_ns() < until_;) usleep(1000); \
        if (!is_so_) harness_fail(__FILE__, __LINE__, "not after 5 s: %s", #condition); \
    } while (0)

/* The call fails with `error`, and guestram_error() says `word`. */
#define CHECK_FAILS(call, error, word)                                            \
    do {                                                                          \
        fail_otherwise(); /* another message */                                   \
        char before_[512];                                                        \
        snprintf(before_, sizeof before_, "%s", guestram_error());                \
        CHECK_EQ((call), -(error));                                               \
        CHECK(strcmp(before_, guestram_error()) != 0);                            \
        check_says(guestram_error(), (word), #call);                              \
    } while (0)
void check_says(const char *message, const char *word, const char *call);
void fail_otherwise(void);

/* ---- twins -- */

typedef struct twin {
    int uffd;       /* registered with `modes`; -1: not */
    int fd;         /* of the memory; -1: anonymous */
    uint8_t *address;
    uint8_t *alias; /* a second, shared mapping of fd; NULL: anonymous */
    uint64_t length;
} twin_t;

/* 0 or -errno; nothing is left after a failure. */
int twin_open(twin_t *twin, const variant_t *variant, uint64_t length, uint32_t modes);
/* Registers a mapping that is there already, with a userfaultfd of its own. */
int raw_register(twin_t *twin, uint32_t modes);
void twin_close(twin_t *twin);
/* An fd and a mapping of the variant's kind, unregistered. */
int variant_map(const variant_t *variant, uint64_t length, int *fd, uint8_t **address);
/* A userfaultfd that has all features but those with events and WP_ASYNC; or -errno. */
int raw_userfaultfd(uint64_t *features);

/* What this kernel has for the variant: its row cut to the features, as bits 1 << GUESTRAM_OP_*. */
uint32_t kernel_operations(const variant_t *variant);
uint32_t kernel_modes(const variant_t *variant);

/* Before Linux 6.6 there is no POISON: what cannot be read waits, and what nobody serves any more
 * cannot be accessed. */
bool kernel_poisons(void);
#define UNSERVED (kernel_poisons() ? SIGBUS : SIGSEGV)

/* 0 or -errno of one ioctl. `operation` is GUESTRAM_OP_*; source: COPY's, MOVE's. */
int raw_operation(int uffd, uint32_t operation, void *address, const void *source, uint64_t length);
int raw_writeprotect(int uffd, void *address, uint64_t length, bool protect);

#endif
