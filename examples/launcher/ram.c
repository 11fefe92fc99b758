/* ram.c: the guest's RAM through libguestram: what a VMM writes to get restored lazily. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "machine.h"

enum { SMALLEST_RAM = 4 << 20 };

/* The hole below 4 GiB that PCI needs, as QEMU's: RAM beyond 3 GiB goes on at 4 GiB. */
static const uint64_t hole_start = 3ull << 30, hole_end = 4ull << 30;

static int fail(struct machine *machine, const char *what) {
    machine_fail(machine, EXIT_FAILED, "%s: %s", what, guestram_error());
    return -1;
}

static int add_slots(struct machine *machine, uint64_t size) {
    uint64_t low = size < hole_start ? size : hole_start;
    guestram_slot_t slots[] = {
        {.length = low},
        {.guest_physical = hole_end, .length = size - low, .offset = low},
    };
    for (unsigned i = 0; i < 2 && slots[i].length; i++) {
        slots[i].size = sizeof *slots;
        slots[i].region = machine->region;
        if (guestram_slot_add(machine->memory, &slots[i]))
            return fail(machine, "guestram_slot_add");
    }
    return 0;
}

static int add_region(struct machine *machine, uint64_t size) {
    const struct options *options = machine->options;
    if (size < SMALLEST_RAM || size % PAGE || size > (120ull << 30)) {
        machine_fail(machine, EXIT_USAGE,
                     "RAM of %llu bytes: 4 MiB to 120 GiB in pages of 4 KiB are needed",
                     (unsigned long long)size);
        return -1;
    }
    if (options->type == GUESTRAM_GUEST_MEMFD && machine->vm < 0) {
        machine_fail(machine, EXIT_USAGE, "memory-backend-guest-memfd needs -accel kvm");
        return -1;
    }
    guestram_region_options_t region = {
        .size = sizeof region,
        .name = options->backend_id,
        .type = options->type,
        .flags = options->flags,
        .length = size,
        .page_size = options->page_size,
        .vm_fd = options->type == GUESTRAM_GUEST_MEMFD ? machine->vm : 0,
        .host_nodes = options->host_nodes,
        .policy = options->policy,
    };
    if (guestram_region_add(machine->memory, &region, &machine->region))
        return fail(machine, "guestram_region_add");
    return add_slots(machine, size);
}

/* The snapshot's one region, which must be the one that the options speak of. */
static int check_snapshot(struct machine *machine, guestram_snapshot_t *snapshot,
                          guestram_snapshot_region_t *saved) {
    const struct options *options = machine->options;
    saved->size = sizeof *saved;
    if (guestram_snapshot_region(snapshot, 0, saved))
        return fail(machine, "guestram_snapshot_region");
    if (options->ram_size && options->ram_size != saved->length)
        machine_fail(machine, EXIT_USAGE, "%s holds %llu bytes of RAM, the options say %llu",
                     options->incoming, (unsigned long long)saved->length,
                     (unsigned long long)options->ram_size);
    else if (options->backend_given && strcmp(options->backend_id, saved->name))
        machine_fail(machine, EXIT_USAGE, "%s holds memory-backend=%s, -machine says %s",
                     options->incoming, saved->name, options->backend_id);
    return machine->status ? -1 : 0;
}

static int map_slots(struct machine *machine) {
    guestram_slot_t slot = {.size = sizeof slot};
    uint64_t from = 0;
    for (unsigned i = 0; !guestram_slot_next(machine->memory, from, &slot); i++) {
        if (machine->accel->map(machine, i, &slot))
            return -1;
        from = slot.guest_physical + slot.length;
    }
    return 0;
}

int ram_create(struct machine *machine, guestram_snapshot_t *snapshot) {
    const struct options *options = machine->options;
    guestram_snapshot_region_t saved = {0};
    guestram_restore_options_t restore = {.size = sizeof restore, .mode = options->restore_mode};

    if (snapshot && check_snapshot(machine, snapshot, &saved))
        return -1;
    if (guestram_create(NULL, &machine->memory))
        return fail(machine, "guestram_create");
    /* A region that is there already takes the contents of its name; the library makes the others
     * as they were saved. */
    if (options->backend_given || !snapshot) {
        uint64_t size = options->ram_size ? options->ram_size : 128 << 20;
        if (add_region(machine, snapshot ? saved.length : size))
            return -1;
    }
    if (snapshot && guestram_restore(machine->memory, snapshot, &restore))
        return fail(machine, "guestram_restore");
    if (guestram_region_next(machine->memory, 0, &machine->region))
        return fail(machine, "guestram_region_next");
    if (guestram_start(machine->memory))
        return fail(machine, "guestram_start");
    if (options->background && guestram_background_fill(machine->memory, options->background_rate))
        return fail(machine, "guestram_background_fill");

    machine->info.size = sizeof machine->info;
    if (guestram_region_info(machine->memory, machine->region, &machine->info))
        return fail(machine, "guestram_region_info");
    machine->low = machine->info.length < hole_start ? machine->info.length : hole_start;
    machine->host = machine->info.host_address;
    machine->work = machine->host + GUEST_WORK;
    machine->pages = (machine->info.length - GUEST_WORK) / PAGE;
    return map_slots(machine);
}

uint64_t ram_guest_physical(const struct machine *machine, const void *host) {
    uint64_t offset = (uint64_t)((const char *)host - machine->host);
    return offset < machine->low ? offset : offset + hole_end - machine->low;
}

int ram_discard(struct machine *machine, uint64_t page, uint64_t count) {
    uint64_t offset = GUEST_WORK + page * PAGE, length = count * PAGE;
    if (!machine->options->balloon_madvise) {
        if (guestram_discard(machine->memory, machine->region, offset, length))
            return fail(machine, "guestram_discard");
        return 0;
    }
    /* What frees memory of this kind; the library learns of it by a userfaultfd event. */
    bool private =
        machine->info.type == GUESTRAM_ANON || machine->info.flags & GUESTRAM_REGION_PRIVATE;
    if (madvise(machine->host + offset, length, private ? MADV_DONTNEED : MADV_REMOVE)) {
        machine_fail(machine, EXIT_FAILED, "madvise of the balloon's pages: %s", strerror(errno));
        return -1;
    }
    return 0;
}
