/* threads.c: -accel threads. Host threads do what the guest does, through the launcher's mapping of
 * its memory, where there is no /dev/kvm. */
#include <stdio.h>
#include <string.h>

#include "machine.h"

struct thread_state {
    uint64_t counter;
};

static int threads_open(struct machine *machine) {
    (void)machine;
    return 0;
}

static int threads_map(struct machine *machine, unsigned number, const guestram_slot_t *slot) {
    (void)machine, (void)number, (void)slot;
    return 0;
}

static int threads_vcpu(struct vcpu *vcpu) {
    (void)vcpu;
    return 0;
}

static int threads_load(struct vcpu *vcpu) {
    struct thread_state state;
    memcpy(&state, vcpu->state, sizeof state);
    vcpu->counter = state.counter;
    return 0;
}

static int threads_park(struct vcpu *vcpu) {
    struct thread_state state = {vcpu->counter};
    memcpy(vcpu->state, &state, sizeof state);
    return 0;
}

static void say_serial(struct vcpu *vcpu, const char *what, const char *format, uint64_t value) {
    char line[128];
    int length = snprintf(line, sizeof line, "vcpu %u %s", vcpu->index, what);
    snprintf(line + length, sizeof line - (size_t)length, format, (unsigned long long)value);
    for (const char *byte = line; *byte; byte++)
        device_out(vcpu, PORT_SERIAL, (uint32_t)*byte);
}

static void tick(struct vcpu *vcpu) {
    uint64_t *counter =
        (uint64_t *)(void *)(ram_start(vcpu->machine) + GUEST_CONTROL + vcpu->index * 64);
    if (*counter != vcpu->counter) {
        device_out(vcpu, PORT_BROKEN, (uint32_t)vcpu->counter);
        return;
    }
    *counter = ++vcpu->counter;
    say_serial(vcpu, "tick", " %llu\n", vcpu->counter);
}

static void walk(struct vcpu *vcpu, uint32_t command) {
    struct machine *machine = vcpu->machine;
    uint32_t halves[WALK_ARGUMENTS * 2];
    struct walk walk;
    for (int i = 0; i < WALK_ARGUMENTS * 2; i++)
        halves[i] = device_in(vcpu, PORT_ARGUMENT);
    memcpy(&walk, halves, sizeof walk);
    if (command == COMMAND_BALLOON) {
        device_out(vcpu, PORT_BALLOON, (uint32_t)walk.x);
        device_out(vcpu, PORT_BALLOON, (uint32_t)walk.count);
    }
    uint64_t result = workload_do(command, &walk, &machine->work, &machine->stop);
    if (command == COMMAND_SUM)
        say_serial(vcpu, "checksum", " 0x%016llx\n", result);
    else
        say_serial(vcpu,
                   command == COMMAND_FILL ? "pages filled with data:" : "pages that are not zero:",
                   " %llu\n", result);
    device_out(vcpu, PORT_RESULT, (uint32_t)result);
    device_out(vcpu, PORT_RESULT, (uint32_t)(result >> 32));
}

static void threads_run(struct vcpu *vcpu) {
    struct machine *machine = vcpu->machine;
    if (vcpu->restored) { /* it was parked before a tick */
        vcpu->restored = false;
        tick(vcpu);
        return;
    }
    uint32_t command = device_in(vcpu, PORT_COMMAND);
    if (machine->stop || machine->parked)
        return;
    if (command == COMMAND_TICK)
        tick(vcpu);
    else
        walk(vcpu, command);
}

static void threads_kick(struct vcpu *vcpu) {
    (void)vcpu; /* workload_do() looks at the stop flag by itself */
}

static void threads_close(struct machine *machine) { (void)machine; }

const struct accel accel_threads = {
    .name = "threads",
    .state_size = sizeof(struct thread_state),
    .open = threads_open,
    .map = threads_map,
    .create = threads_vcpu,
    .boot = threads_vcpu,
    .load = threads_load,
    .run = threads_run,
    .park = threads_park,
    .kick = threads_kick,
    .close = threads_close,
};
