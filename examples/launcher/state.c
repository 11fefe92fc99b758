/* state.c: what a snapshot of the launcher's holds beside the memory: which accelerator, the vCPUs,
 * and what the guest's memory should be. */
#include <stdlib.h>
#include <string.h>

#include "machine.h"

struct state {
    char magic[8];
    char accel[8];
    uint64_t vcpu_size;
    uint32_t vcpus, reserved;
    struct model model;
};

static const char magic[] = "grlaunch";

int state_load(struct machine *machine, guestram_snapshot_t *snapshot) {
    const struct options *options = machine->options;
    const char *directory = options->incoming;
    const void *bytes;
    size_t length;
    struct state state;
    if (guestram_snapshot_state(snapshot, &bytes, &length)) {
        machine_fail(machine, EXIT_FAILED, "%s: %s", directory, guestram_error());
        return -1;
    }
    if (length >= sizeof state)
        memcpy(&state, bytes, sizeof state);
    if (length < sizeof state || memcmp(state.magic, magic, sizeof state.magic) || !state.vcpus ||
        state.vcpus > GUEST_MAX_VCPUS || state.model.balloons > MODEL_BALLOONS)
        machine_fail(machine, EXIT_FAILED, "%s: this launcher did not save it", directory);
    else if (strncmp(state.accel, machine->accel->name, sizeof state.accel))
        machine_fail(machine, EXIT_FAILED, "%s: its vCPUs are of -accel %.8s, not of -accel %s",
                     directory, state.accel, machine->accel->name);
    else if (state.vcpu_size != machine->accel->state_size ||
             length != sizeof state + state.vcpus * state.vcpu_size)
        machine_fail(machine, EXIT_FAILED, "%s: another version of this launcher saved it",
                     directory);
    else if (options->vcpus && options->vcpus != state.vcpus)
        machine_fail(machine, EXIT_USAGE, "%s holds %u vCPUs, -smp says %u", directory, state.vcpus,
                     options->vcpus);
    if (machine->status)
        return -1;
    machine->model = state.model;
    machine->vcpu_count = state.vcpus;
    for (unsigned i = 0; i < state.vcpus; i++) {
        machine->vcpus[i].restored = true;
        memcpy(machine->vcpus[i].state, (const char *)bytes + sizeof state + i * state.vcpu_size,
               state.vcpu_size);
    }
    return 0;
}

int state_save(struct machine *machine) {
    size_t vcpu_size = machine->accel->state_size;
    size_t length = sizeof(struct state) + machine->vcpu_count * vcpu_size;
    char *bytes = calloc(1, length);
    if (!bytes)
        abort();
    struct state state = {
        .vcpu_size = vcpu_size, .vcpus = machine->vcpu_count, .model = machine->model};
    memcpy(state.magic, magic, sizeof state.magic);
    memcpy(state.accel, machine->accel->name, strlen(machine->accel->name));
    memcpy(bytes, &state, sizeof state);
    for (unsigned i = 0; i < machine->vcpu_count; i++)
        memcpy(bytes + sizeof state + i * vcpu_size, machine->vcpus[i].state, vcpu_size);

    const char *directory = machine->options->save;
    guestram_save_options_t options = {
        .size = sizeof options, .state = bytes, .state_length = length};
    uint64_t start = now_ns();
    int result = guestram_save(machine->memory, directory, &options);
    free(bytes);
    if (result) {
        machine_fail(machine, EXIT_FAILED, "-save %s: %s", directory, guestram_error());
        return -1;
    }
    say(machine, "saved to %s in %.0f ms\n", directory, (double)(now_ns() - start) / 1e6);
    return 0;
}
