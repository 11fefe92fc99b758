/* options.h: the launcher's command line, in QEMU's words where QEMU has them. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

enum { EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_POISONED = 3, EXIT_MISMATCH = 4 };

/* A step of -run. */
struct phase {
    enum {
        PHASE_FILL,     /* amount: the seed */
        PHASE_TICK,     /* amount: how often */
        PHASE_CHECKSUM, /* the vCPUs share the pages */
        PHASE_EACH,     /* every vCPU checksums all pages, each in an order of its own */
        PHASE_TOUCH,    /* amount: hundredths of a percent, run: pages side by side */
        PHASE_BALLOON,  /* amount: bytes */
        PHASE_RESIDENT,
        PHASE_SLEEP /* amount: milliseconds */
    } kind;
    uint64_t amount;
    uint64_t run;
};

enum { MAX_PHASES = 64 };

enum report { REPORT_TEXT, REPORT_JSON, REPORT_PROMETHEUS, REPORT_KINDS };

/* An -object memory-backend-...: a part of the RAM. */
enum { MAX_BACKENDS = 8 };
struct backend {
    char id[64];
    uint32_t type;  /* GUESTRAM_ANON … */
    uint32_t flags; /* GUESTRAM_REGION_* */
    uint64_t size;  /* 0: not given */
    uint64_t page_size;
    uint64_t host_nodes;
    uint32_t policy;
    bool plain_slot;         /* guest_memfd mapped by a plain memslot */
    char mem_path[PATH_MAX]; /* memory-backend-file's file or directory; else empty */
    bool read_only;          /* the file */
};

struct options {
    uint64_t ram_size; /* 0: the backends', the snapshot's, or 128 MiB */
    unsigned vcpus;    /* 0: the snapshot's, or 1 */
    enum { ACCEL_AUTO, ACCEL_KVM, ACCEL_THREADS } accel;

    struct backend backends[MAX_BACKENDS]; /* in the order in which they are the RAM */
    unsigned backend_count;                /* 0: none was given */

    const char *incoming; /* a snapshot's directory */
    const char *save;
    uint32_t restore_mode; /* GUESTRAM_RESTORE_* */
    bool background;
    uint64_t background_rate; /* bytes per second */
    bool balloon_madvise;
    bool reader;
    enum report report;                    /* on standard output */
    const char *report_file[REPORT_KINDS]; /* and in these, or NULL */
    uint64_t seed;
    struct phase phases[MAX_PHASES];
    unsigned phase_count;

    enum { DO_RUN, DO_HELP, DO_PROBE, DO_SANDBOX_LIST } what;
};

/* Exits with EXIT_USAGE after saying what is wrong. */
void options_parse(struct options *options, int argc, char **argv);
void options_help(void);

/* In options-object.c: `-object type,key=value,…` and the numbers in it. */
void object_parse(struct options *options, const char *text);
uint64_t parse_size(const char *name, const char *text, uint64_t unit);
uint64_t parse_number(const char *name, const char *text, uint64_t most);
bool parse_switch(const char *name, const char *text);
_Noreturn void usage(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
