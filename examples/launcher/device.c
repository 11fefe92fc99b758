/* device.c: the ports of guest.h. What comes from the guest is checked, not trusted. */
#include "machine.h"

#include <string.h>

static uint32_t next_command(struct vcpu *vcpu) {
    struct machine *machine = vcpu->machine;
    pthread_mutex_lock(&machine->lock);
    vcpu->idle = true;
    pthread_cond_broadcast(&machine->changed);
    while (!vcpu->has_command && !machine->stop && !machine->parked)
        pthread_cond_wait(&machine->changed, &machine->lock);
    uint32_t command = vcpu->has_command ? vcpu->command : COMMAND_TICK;
    vcpu->has_command = false;
    vcpu->idle = false;
    vcpu->argument_half = vcpu->result_half = vcpu->balloon_half = 0;
    vcpu->result = 0;
    pthread_mutex_unlock(&machine->lock);
    return command;
}

static uint32_t next_argument(struct vcpu *vcpu) {
    uint32_t halves[WALK_ARGUMENTS * 2];
    if (vcpu->argument_half >= WALK_ARGUMENTS * 2)
        return 0;
    memcpy(halves, &vcpu->walk, sizeof halves);
    return halves[vcpu->argument_half++];
}

uint32_t device_in(struct vcpu *vcpu, uint16_t port) {
    switch (port) {
    case PORT_COMMAND:
        return next_command(vcpu);
    case PORT_ARGUMENT:
        return next_argument(vcpu);
    default:
        machine_fail(vcpu->machine, EXIT_FAILED, "vCPU %u: IN from port %#x", vcpu->index, port);
        return 0;
    }
}

static void serial(struct vcpu *vcpu, char byte) {
    struct machine *machine = vcpu->machine;
    uint_fast64_t none = 0;
    if (!machine->first_output_ns &&
        atomic_compare_exchange_strong(&machine->first_output_ns, &none, now_ns())) {
        guestram_stats_t stats = {.size = sizeof stats};
        if (!guestram_stats(machine->memory, &stats))
            machine->loaded_at_first_output = stats.pages_loaded;
    }
    if (byte != '\n')
        vcpu->line[vcpu->line_length++] = byte;
    if (byte == '\n' || vcpu->line_length == sizeof vcpu->line - 1) {
        vcpu->line[vcpu->line_length] = 0;
        say(machine, "%s\n", vcpu->line);
        vcpu->line_length = 0;
    }
}

static void balloon(struct vcpu *vcpu, uint32_t value) {
    struct machine *machine = vcpu->machine;
    if (vcpu->balloon_half++ % 2 == 0) {
        vcpu->balloon_page = value;
        return;
    }
    if (!value || vcpu->balloon_page >= machine->work.pages ||
        value > machine->work.pages - vcpu->balloon_page)
        machine_fail(machine, EXIT_FAILED, "vCPU %u: balloon of %u pages from page %llu on",
                     vcpu->index, value, (unsigned long long)vcpu->balloon_page);
    else
        ram_discard(machine, vcpu->balloon_page, value);
}

void device_out(struct vcpu *vcpu, uint16_t port, uint32_t value) {
    switch (port) {
    case PORT_SERIAL:
        serial(vcpu, (char)value);
        break;
    case PORT_RESULT:
        vcpu->result |= (uint64_t)value << (vcpu->result_half++ % 2 * 32);
        break;
    case PORT_BALLOON:
        balloon(vcpu, value);
        break;
    case PORT_BROKEN:
        machine_fail(vcpu->machine, EXIT_MISMATCH,
                     "vCPU %u: its counter in the registers (%u) is not the one in memory",
                     vcpu->index, value);
        break;
    default:
        machine_fail(vcpu->machine, EXIT_FAILED, "vCPU %u: OUT to port %#x", vcpu->index, port);
    }
}
