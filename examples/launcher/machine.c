/* machine.c: the machine's life: created or restored, run, saved, taken down. */
#include "machine.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void say(const struct machine *machine, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(machine->options->report ? stderr : stdout, format, arguments);
    va_end(arguments);
}

/* The first failure is the one that is said, the machine stops for it. */
void machine_fail(struct machine *machine, int status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    pthread_mutex_lock(&machine->lock);
    if (!machine->status) {
        machine->status = status;
        fflush(stdout);
        fputs("guestram-launcher: ", stderr);
        vfprintf(stderr, format, arguments);
        fputc('\n', stderr);
    }
    machine->stop = true;
    pthread_cond_broadcast(&machine->changed);
    pthread_mutex_unlock(&machine->lock);
    va_end(arguments);
}

static void run_vcpu(struct vcpu *vcpu) {
    struct machine *machine = vcpu->machine;
    while (!machine->stop && !machine->parked)
        machine->accel->run(vcpu);
}

static void *vcpu_thread(void *argument) {
    struct vcpu *vcpu = argument;
    struct machine *machine = vcpu->machine;
    sigbus_guard(vcpu, run_vcpu);
    if (!machine->stop && machine->options->save)
        machine->accel->park(vcpu);
    return NULL;
}

static void read_all(struct vcpu *reader) {
    struct machine *machine = reader->machine;
    reader->result = workload_do(COMMAND_SUM, &reader->walk, &machine->work, &machine->stop);
}

static void *reader_thread(void *argument) {
    sigbus_guard(argument, read_all);
    return NULL;
}

static bool start_thread(struct vcpu *vcpu, void *(*run)(void *)) {
    vcpu->has_thread = !pthread_create(&vcpu->thread, NULL, run, vcpu);
    if (!vcpu->has_thread)
        machine_fail(vcpu->machine, EXIT_FAILED, "no thread for vCPU %u", vcpu->index);
    return vcpu->has_thread;
}

static bool start_vcpus(struct machine *machine) {
    const struct accel *accel = machine->accel;
    for (unsigned i = 0; i < machine->vcpu_count; i++) {
        struct vcpu *vcpu = &machine->vcpus[i];
        if (accel->create(vcpu) || (vcpu->restored ? accel->load : accel->boot)(vcpu))
            return false;
    }
    /* Down from the last page, against the guest's way up. */
    walk_everything(&machine->reader.walk, 0, 1, machine->work.pages);
    if (machine->options->reader && !start_thread(&machine->reader, reader_thread))
        return false;
    for (unsigned i = 0; i < machine->vcpu_count; i++)
        if (!start_thread(&machine->vcpus[i], vcpu_thread))
            return false;
    return true;
}

/* Ends the vCPUs: parked in the middle of an IN if all went well, at once if not. */
static void end_vcpus(struct machine *machine) {
    pthread_mutex_lock(&machine->lock);
    machine->parked = true;
    pthread_cond_broadcast(&machine->changed);
    pthread_mutex_unlock(&machine->lock);
    struct vcpu *reader = &machine->reader;
    if (reader->has_thread)
        pthread_join(reader->thread, NULL);
    for (unsigned i = 0; i < machine->vcpu_count; i++) {
        if (machine->vcpus[i].has_thread && machine->stop)
            machine->accel->kick(&machine->vcpus[i]);
        if (machine->vcpus[i].has_thread)
            pthread_join(machine->vcpus[i].thread, NULL);
    }
    if (!reader->has_thread || machine->stop)
        return;
    uint64_t right = workload_expect(COMMAND_SUM, &reader->walk, &machine->model);
    machine->checksum_ok &= reader->result == right;
    if (reader->result != right)
        machine_fail(machine, EXIT_MISMATCH, "the reader found %#llx, %#llx is right",
                     (unsigned long long)reader->result, (unsigned long long)right);
    else
        say(machine, "the reader found the same memory\n");
}

/* Opened first, so that a wrong directory or another launcher's snapshot costs nothing. */
static bool open_snapshot(struct machine *machine, guestram_snapshot_t **snapshot) {
    const char *directory = machine->options->incoming;
    if (!directory)
        return true;
    if (guestram_snapshot_open(directory, snapshot)) {
        machine_fail(machine, EXIT_FAILED, "-incoming file:%s: %s", directory, guestram_error());
        return false;
    }
    return !state_load(machine, *snapshot);
}

static bool start(struct machine *machine) {
    guestram_snapshot_t *snapshot = NULL;
    machine->started_ns = now_ns();
    bool started = open_snapshot(machine, &snapshot) && !machine->accel->open(machine) &&
                   !ram_create(machine, snapshot);
    guestram_snapshot_close(snapshot);
    return started && !events_start(machine) && start_vcpus(machine);
}

static bool allocate(struct machine *machine) {
    for (unsigned i = 0; i < GUEST_MAX_VCPUS; i++) {
        struct vcpu *vcpu = &machine->vcpus[i];
        *vcpu = (struct vcpu){.machine = machine, .index = i, .fd = -1};
        vcpu->state = calloc(1, machine->accel->state_size);
        if (!vcpu->state) {
            machine_fail(machine, EXIT_FAILED, "out of memory");
            return false;
        }
    }
    machine->reader.machine = machine;
    return true;
}

int machine_run(const struct options *options, const struct accel *accel) {
    static struct machine the_machine;
    struct machine *machine = &the_machine;
    *machine = (struct machine){
        .options = options,
        .accel = accel,
        .kvm = -1,
        .vm = -1,
        .events_end = -1,
        .vcpu_count = options->vcpus ? options->vcpus : 1,
        .checksum_ok = true,
    };
    pthread_mutex_init(&machine->lock, NULL);
    pthread_cond_init(&machine->changed, NULL);

    bool held = allocate(machine) && start(machine) && machine_phases(machine);
    end_vcpus(machine);
    if (held && !machine->stop && options->save)
        state_save(machine);
    if (machine->events_end >= 0)
        events_stop(machine);
    if (machine->block_count)
        report(machine);
    accel->close(machine);
    guestram_destroy(machine->memory);
    for (unsigned i = 0; i < GUEST_MAX_VCPUS; i++)
        free(machine->vcpus[i].state);
    return machine->status;
}
