/* machine.h: one virtual machine: its RAM, its vCPUs, and what it is told to do. */
#ifndef MACHINE_H
#define MACHINE_H

#include <guestram.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "options.h"
#include "workload.h"

struct machine;

struct vcpu {
    struct machine *machine;
    unsigned index;
    pthread_t thread;
    bool has_thread;

    /* What it is to do, guarded by the machine's lock. */
    bool has_command, idle;
    uint32_t command;
    struct walk walk;
    uint64_t result;
    uint64_t balloon_page;
    unsigned argument_half, result_half, balloon_half; /* how far the guest is with each */

    char line[160]; /* of its serial port */
    unsigned line_length;

    void *volatile bus_address; /* where its memory failed: set by the SIGBUS handler */
    sigjmp_buf bus_jump;

    void *state; /* accel->state_size bytes: to start from, and as it was parked */
    bool restored;

    int fd;              /* kvm */
    struct kvm_run *run; /* kvm */
    uint64_t counter;    /* threads */
};

/* A backend's region. RAM is one block behind the other, for the guest but for the hole. */
struct ram_block {
    uint32_t region;
    uint64_t offset; /* in the RAM */
    guestram_region_info_t info;
    bool plain_slot; /* guest_memfd mapped by a plain memslot */
};

/* What stands in for the processor. Functions that return int: 0, or -1 after machine_fail(). */
struct accel {
    const char *name;
    size_t state_size;
    int (*open)(struct machine *machine);
    int (*map)(struct machine *machine, unsigned number, const guestram_slot_t *slot);
    int (*create)(struct vcpu *vcpu);
    int (*boot)(struct vcpu *vcpu);  /* a fresh one */
    int (*load)(struct vcpu *vcpu);  /* from vcpu->state */
    void (*run)(struct vcpu *vcpu);  /* a step: until the guest asks for something */
    int (*park)(struct vcpu *vcpu);  /* about to tick, into vcpu->state */
    void (*kick)(struct vcpu *vcpu); /* makes run() look whether the machine stopped */
    void (*close)(struct machine *machine);
};
extern const struct accel accel_kvm, accel_threads;

struct machine {
    const struct options *options;
    const struct accel *accel;
    int kvm, vm; /* descriptors, -1 */

    guestram_t *memory;
    struct ram_block blocks[MAX_BACKENDS];
    unsigned block_count;
    uint64_t ram_size;
    uint64_t low;     /* bytes of RAM below the hole */
    uint64_t granule; /* the largest of the blocks' */
    struct work work;

    unsigned vcpu_count;
    struct vcpu vcpus[GUEST_MAX_VCPUS];
    struct vcpu reader;

    pthread_t events_thread;
    int events_end; /* an eventfd: written when that thread is to end */
    unsigned page_errors;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    atomic_bool stop;   /* something failed: end at once */
    atomic_bool parked; /* all is done: each vCPU parks */
    int status;         /* the exit status, so far */

    struct model model;
    uint64_t started_ns; /* when the restore, or the machine, began */
    atomic_uint_fast64_t first_output_ns;
    uint64_t loaded_at_first_output;
    uint64_t checksum_ns; /* when the first checksum was complete; 0: none was asked for */
    uint64_t checksum;
    bool checksum_ok;
};

/* machine.c */
int machine_run(const struct options *options, const struct accel *accel); /* exit status */
void machine_fail(struct machine *machine, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
uint64_t now_ns(void);
/* Text for people: standard output, or standard error when that carries a report for programs. */
void say(const struct machine *machine, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* phases.c: the steps of -run, one after the other. False once the machine stops. */
bool machine_phases(struct machine *machine);

/* device.c: the guest's ports, for guests of either kind. */
uint32_t device_in(struct vcpu *vcpu, uint16_t port);
void device_out(struct vcpu *vcpu, uint16_t port, uint32_t value);

/* ram.c. Those that return int: 0, or -1 after machine_fail(). */
int ram_create(struct machine *machine, guestram_snapshot_t *snapshot);
char *ram_start(const struct machine *machine); /* guest-physical 0, in the host */
const struct ram_block *ram_block(const struct machine *machine, uint32_t region);
uint64_t ram_guest_physical(const struct machine *machine, const void *host);
int ram_discard(struct machine *machine, uint64_t page, uint64_t count);

/* ram-file.c: memory-backend-file. */
int ram_file_open(struct machine *machine, const struct backend *backend,
                  guestram_region_options_t *region, bool *made);

/* state.c: what a snapshot holds beside the memory. */
int state_load(struct machine *machine, guestram_snapshot_t *snapshot);
int state_save(struct machine *machine);

/* sigbus.c */
void sigbus_install(void);
/* Calls run() until it returns or touches a poisoned page, for which the machine then fails. */
void sigbus_guard(struct vcpu *vcpu, void (*run)(struct vcpu *vcpu));

/* events.c: a thread that says what the library reports. */
int events_start(struct machine *machine);
void events_stop(struct machine *machine);

/* report.c */
void report(struct machine *machine);

#endif
