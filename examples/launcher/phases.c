/* phases.c: the steps of -run. Each gives commands to the vCPUs, waits for all of them, and
 * compares what they say with what workload.c knows must come out. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "machine.h"

static bool ready(const struct machine *machine) {
    for (unsigned i = 0; i < machine->vcpu_count; i++)
        if (!machine->vcpus[i].idle || machine->vcpus[i].has_command)
            return false;
    return true;
}

/* Waits until every vCPU has done its command and asks for the next. False if the machine stops
 * instead. */
static bool wait_ready(struct machine *machine) {
    pthread_mutex_lock(&machine->lock);
    while (!machine->stop && !ready(machine))
        pthread_cond_wait(&machine->changed, &machine->lock);
    pthread_mutex_unlock(&machine->lock);
    return !machine->stop;
}

/* To a vCPU that is ready. */
static void command(struct vcpu *vcpu, uint32_t command) {
    struct machine *machine = vcpu->machine;
    pthread_mutex_lock(&machine->lock);
    vcpu->command = command;
    vcpu->has_command = true;
    pthread_cond_broadcast(&machine->changed);
    pthread_mutex_unlock(&machine->lock);
}

/* Has the command done by those that take part, and checks each result. *total is their sum. */
static bool do_walks(struct machine *machine, uint32_t kind, const bool takes_part[],
                     uint64_t *total) {
    for (unsigned i = 0; i < machine->vcpu_count; i++)
        if (takes_part[i])
            command(&machine->vcpus[i], kind);
    if (!wait_ready(machine))
        return false;
    if (kind == COMMAND_SUM && !machine->checksum_ns)
        machine->checksum_ns = now_ns();

    *total = 0;
    for (unsigned i = 0; i < machine->vcpu_count; i++) {
        struct vcpu *vcpu = &machine->vcpus[i];
        if (!takes_part[i])
            continue;
        uint64_t expected = workload_expect(kind == COMMAND_BALLOON ? COMMAND_ZERO : kind,
                                            &vcpu->walk, &machine->model);
        *total += vcpu->result;
        if (vcpu->result != expected) {
            machine->checksum_ok = false;
            machine_fail(machine, EXIT_MISMATCH,
                         "vCPU %u: the guest found %#llx in its memory, %#llx is right", i,
                         (unsigned long long)vcpu->result, (unsigned long long)expected);
            return false;
        }
    }
    return true;
}

/* The work area in equal parts, one per vCPU. */
static void share_pages(struct machine *machine, uint64_t seed, bool takes_part[]) {
    uint64_t count = machine->vcpu_count, pages = machine->work.pages;
    for (unsigned i = 0; i < count; i++) {
        uint64_t first = pages * i / count, end = pages * (i + 1) / count;
        walk_ascending(&machine->vcpus[i].walk, seed, first, end - first);
        takes_part[i] = end > first;
    }
}

static bool fill(struct machine *machine, uint64_t seed) {
    bool takes_part[GUEST_MAX_VCPUS];
    uint64_t data;
    share_pages(machine, seed, takes_part);
    machine->model = (struct model){.seed = seed, .filled = 1};
    return do_walks(machine, COMMAND_FILL, takes_part, &data);
}

static bool tick(struct machine *machine, uint64_t times) {
    while (times--) {
        for (unsigned i = 0; i < machine->vcpu_count; i++)
            command(&machine->vcpus[i], COMMAND_TICK);
        if (!wait_ready(machine))
            return false;
    }
    return true;
}

static bool checksum(struct machine *machine, bool each) {
    bool takes_part[GUEST_MAX_VCPUS];
    uint64_t sum;
    share_pages(machine, 0, takes_part);
    if (each)
        for (unsigned i = 0; i < machine->vcpu_count; i++) {
            walk_everything(&machine->vcpus[i].walk, machine->options->seed, i,
                            machine->work.pages);
            takes_part[i] = true;
        }
    if (!do_walks(machine, COMMAND_SUM, takes_part, &sum))
        return false;
    machine->checksum = each ? machine->vcpus[0].result : sum;
    return true;
}

/* A part of the pages, drawn by each vCPU for itself. */
static bool touch(struct machine *machine, uint64_t hundredths, uint64_t run) {
    bool takes_part[GUEST_MAX_VCPUS];
    if (run > machine->work.pages)
        run = machine->work.pages;
    uint64_t runs = machine->work.pages * hundredths / 10000 / run / machine->vcpu_count;
    for (unsigned i = 0; i < machine->vcpu_count; i++) {
        walk_random(&machine->vcpus[i].walk, machine->options->seed + i, machine->work.pages, run,
                    runs ? runs : 1);
        takes_part[i] = true;
    }
    return do_walks(machine, COMMAND_SUM, takes_part, &machine->checksum);
}

/* The first vCPU gives back a range behind those it gave back before. */
static bool balloon(struct machine *machine, uint64_t bytes) {
    struct model *model = &machine->model;
    uint64_t granule = machine->granule;
    uint64_t count = (bytes + granule - 1) / granule * (granule / PAGE);
    uint64_t start = GUEST_WORK + machine->work.pages / 4 * PAGE;
    uint64_t page = ((start + granule - 1) / granule * granule - GUEST_WORK) / PAGE;
    for (uint32_t i = 0; i < model->balloons; i++)
        page += model->balloon[i].count;
    if (model->balloons == MODEL_BALLOONS || page > machine->work.pages ||
        count > machine->work.pages - page) {
        machine_fail(machine, EXIT_USAGE, "balloon: no %llu bytes are left to give back",
                     (unsigned long long)bytes);
        return false;
    }
    model->balloon[model->balloons].page = page;
    model->balloon[model->balloons++].count = count;
    uint64_t not_zero;
    bool takes_part[GUEST_MAX_VCPUS] = {true};
    walk_ascending(&machine->vcpus[0].walk, 0, page, count);
    return do_walks(machine, COMMAND_BALLOON, takes_part, &not_zero);
}

static bool resident(struct machine *machine) {
    int error = guestram_wait_resident(machine->memory, -1);
    if (error)
        machine_fail(machine, EXIT_FAILED, "guestram_wait_resident: %s", guestram_error());
    else
        say(machine, "all memory is resident after %.1f ms\n",
            (double)(now_ns() - machine->started_ns) / 1e6);
    return !error;
}

static bool do_phase(struct machine *machine, const struct phase *phase) {
    switch (phase->kind) {
    case PHASE_FILL:
        return fill(machine, phase->amount);
    case PHASE_TICK:
        return tick(machine, phase->amount);
    case PHASE_CHECKSUM:
    case PHASE_EACH:
        return checksum(machine, phase->kind == PHASE_EACH);
    case PHASE_TOUCH:
        return touch(machine, phase->amount, phase->run);
    case PHASE_BALLOON:
        return balloon(machine, phase->amount);
    case PHASE_RESIDENT:
        return resident(machine);
    case PHASE_SLEEP:
        nanosleep(&(struct timespec){(time_t)(phase->amount / 1000),
                                     (long)(phase->amount % 1000) * 1000000},
                  NULL);
        return true;
    }
    return false;
}

bool machine_phases(struct machine *machine) {
    const struct options *options = machine->options;
    bool held = wait_ready(machine);
    for (unsigned i = 0; held && i < options->phase_count; i++)
        held = do_phase(machine, &options->phases[i]);
    return held;
}
