/* ram.c: the guest's RAM through libguestram: what a VMM writes to get restored lazily. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "machine.h"

/* The guest's own pages are all in the first block. */
enum { SMALLEST_FIRST_BLOCK = 4 << 20, DEFAULT_RAM = 128 << 20 };

/* The hole below 4 GiB that PCI needs, as QEMU's: RAM beyond 3 GiB goes on at 4 GiB. */
static const uint64_t hole_start = 3ull << 30, hole_end = 4ull << 30, most_ram = 120ull << 30;

static int fail(struct machine *machine, const char *what) {
    machine_fail(machine, EXIT_FAILED, "%s: %s", what, guestram_error());
    return -1;
}

static uint64_t guest_physical(uint64_t offset) {
    return offset < hole_start ? offset : offset - hole_start + hole_end;
}

/* The region is in the RAM from `start` on: one slot, or two around the hole. */
static int add_slots(struct machine *machine, uint32_t region, uint64_t start, uint64_t length) {
    for (uint64_t offset = 0; offset < length;) {
        uint64_t left = length - offset;
        if (start + offset < hole_start && left > hole_start - (start + offset))
            left = hole_start - (start + offset);
        guestram_slot_t slot = {
            .size = sizeof slot,
            .guest_physical = guest_physical(start + offset),
            .length = left,
            .offset = offset,
            .region = region,
        };
        if (guestram_slot_add(machine->memory, &slot))
            return fail(machine, "guestram_slot_add");
        offset += left;
    }
    return 0;
}

static int add_region(struct machine *machine, const struct backend *backend, uint64_t start,
                      uint64_t length) {
    if (length % PAGE || !length || length > most_ram - start ||
        (!start && length < SMALLEST_FIRST_BLOCK)) {
        machine_fail(machine, EXIT_USAGE,
                     "RAM of %llu bytes: 4 MiB to 120 GiB in pages of 4 KiB are needed",
                     (unsigned long long)length);
        return -1;
    }
    if (backend->type == GUESTRAM_GUEST_MEMFD && machine->vm < 0) {
        machine_fail(machine, EXIT_USAGE, "memory-backend-guest-memfd needs -accel kvm");
        return -1;
    }
    guestram_region_options_t region = {
        .size = sizeof region,
        .name = backend->id,
        .type = backend->type,
        .flags = backend->flags,
        .length = length,
        .page_size = backend->page_size,
        .vm_fd = backend->type == GUESTRAM_GUEST_MEMFD ? machine->vm : 0,
        .host_nodes = backend->host_nodes,
        .policy = backend->policy,
    };
    bool made = false;
    if (backend->mem_path[0] && ram_file_open(machine, backend, &region, &made))
        return -1;
    uint32_t id;
    int error = guestram_region_add(machine->memory, &region, &id);
    if (error)
        machine_fail(machine, EXIT_FAILED, "memory-backend %s%s%s: %s", backend->id,
                     backend->mem_path[0] ? ", mem-path=" : "", backend->mem_path,
                     guestram_error());
    if (backend->mem_path[0])
        close(region.fd);
    if (error && made)
        unlink(backend->mem_path);
    return error ? -1 : add_slots(machine, id, start, length);
}

/* The backends are either all given, in the snapshot's order, or none. */
static int check_snapshot(struct machine *machine, guestram_snapshot_t *snapshot) {
    const struct options *options = machine->options;
    guestram_snapshot_region_t saved = {.size = sizeof saved};
    uint64_t length = 0;
    unsigned count = 0;
    for (; !guestram_snapshot_region(snapshot, count, &saved); count++) {
        const char *given = count < options->backend_count ? options->backends[count].id : "none";
        length += saved.length;
        if (options->backend_count && strcmp(given, saved.name))
            machine_fail(machine, EXIT_USAGE, "%s holds memory-backend=%s, the options say %s",
                         options->incoming, saved.name, given);
    }
    if (count < options->backend_count)
        machine_fail(machine, EXIT_USAGE, "%s does not hold memory-backend=%s", options->incoming,
                     options->backends[count].id);
    if (options->ram_size && options->ram_size != length)
        machine_fail(machine, EXIT_USAGE, "%s holds %llu bytes of RAM, the options say %llu",
                     options->incoming, (unsigned long long)length,
                     (unsigned long long)options->ram_size);
    return machine->status ? -1 : 0;
}

/* A region that is there already takes the contents of its name; where none is, the library makes
 * them as they were saved. */
static int add_regions(struct machine *machine, guestram_snapshot_t *snapshot) {
    const struct options *options = machine->options;
    static const struct backend usual = {.id = "ram", .type = GUESTRAM_ANON};
    guestram_snapshot_region_t saved = {.size = sizeof saved};
    uint64_t start = 0, size = options->ram_size ? options->ram_size : DEFAULT_RAM;
    if (snapshot && check_snapshot(machine, snapshot))
        return -1;
    if (!snapshot && !options->backend_count)
        return add_region(machine, &usual, 0, size);
    for (unsigned i = 0; i < options->backend_count; i++) {
        const struct backend *backend = &options->backends[i];
        if (backend->size)
            size = backend->size;
        else if (snapshot && !guestram_snapshot_region(snapshot, i, &saved))
            size = saved.length;
        if (add_region(machine, backend, start, size))
            return -1;
        start += size;
    }
    return 0;
}

static int add_block(struct machine *machine, uint32_t region) {
    struct ram_block *block = &machine->blocks[machine->block_count];
    if (machine->block_count == MAX_BACKENDS) {
        machine_fail(machine, EXIT_FAILED, "more than %d regions of RAM", MAX_BACKENDS);
        return -1;
    }
    *block = (struct ram_block){.region = region, .info.size = sizeof block->info};
    if (guestram_region_info(machine->memory, region, &block->info))
        return fail(machine, "guestram_region_info");
    block->offset = machine->ram_size;
    block->plain_slot = machine->options->backends[machine->block_count].plain_slot;
    machine->ram_size += block->info.length;
    if (machine->granule < block->info.granule)
        machine->granule = block->info.granule;

    unsigned i = machine->block_count++;
    uint64_t skipped = i ? 0 : GUEST_WORK;
    machine->work.piece[i].host = (char *)block->info.host_address + skipped;
    machine->work.piece[i].pages = (block->info.length - skipped) / PAGE;
    machine->work.pages += machine->work.piece[i].pages;
    return 0;
}

/* Whose slots they are, the launcher's or the snapshot's: what they say is checked. */
static int map_slots(struct machine *machine) {
    guestram_slot_t slot = {.size = sizeof slot};
    uint64_t from = 0, mapped = 0;
    for (unsigned i = 0; !guestram_slot_next(machine->memory, from, &slot); i++) {
        if (!ram_block(machine, slot.region) && add_block(machine, slot.region))
            return -1;
        const struct ram_block *block = ram_block(machine, slot.region);
        if (block->offset + slot.offset != mapped ||
            guest_physical(mapped) != slot.guest_physical) {
            machine_fail(machine, EXIT_FAILED, "the RAM has a hole, or an overlap, at %#llx",
                         (unsigned long long)slot.guest_physical);
            return -1;
        }
        if (machine->accel->map(machine, i, &slot))
            return -1;
        mapped += slot.length;
        from = slot.guest_physical + slot.length;
    }
    if (mapped != machine->ram_size || machine->blocks[0].info.length < SMALLEST_FIRST_BLOCK) {
        machine_fail(machine, EXIT_FAILED, "the RAM is not all in slots, or too small");
        return -1;
    }
    machine->low = machine->ram_size < hole_start ? machine->ram_size : hole_start;
    return 0;
}

int ram_create(struct machine *machine, guestram_snapshot_t *snapshot) {
    const struct options *options = machine->options;
    guestram_restore_options_t restore = {.size = sizeof restore, .mode = options->restore_mode};

    if (guestram_create(NULL, &machine->memory))
        return fail(machine, "guestram_create");
    if (add_regions(machine, snapshot))
        return -1;
    if (snapshot && guestram_restore(machine->memory, snapshot, &restore))
        return fail(machine, "guestram_restore");
    if (guestram_start(machine->memory))
        return fail(machine, "guestram_start");
    if (options->background && guestram_background_fill(machine->memory, options->background_rate))
        return fail(machine, "guestram_background_fill");
    return map_slots(machine);
}

char *ram_start(const struct machine *machine) { return machine->blocks[0].info.host_address; }

const struct ram_block *ram_block(const struct machine *machine, uint32_t region) {
    for (unsigned i = 0; i < machine->block_count; i++)
        if (machine->blocks[i].region == region)
            return &machine->blocks[i];
    return NULL;
}

uint64_t ram_guest_physical(const struct machine *machine, const void *host) {
    for (unsigned i = 0; i < machine->block_count; i++) {
        const struct ram_block *block = &machine->blocks[i];
        uint64_t offset = (uint64_t)((const char *)host - (const char *)block->info.host_address);
        if (offset < block->info.length)
            return guest_physical(block->offset + offset);
    }
    return UINT64_MAX;
}

static int discard(struct machine *machine, const struct ram_block *block, uint64_t offset,
                   uint64_t length) {
    if (!machine->options->balloon_madvise) {
        if (guestram_discard(machine->memory, block->region, offset, length))
            return fail(machine, "guestram_discard");
        return 0;
    }
    /* What frees memory of this kind; the library learns of it by a userfaultfd event. */
    bool private =
        block->info.type == GUESTRAM_ANON || block->info.flags & GUESTRAM_REGION_PRIVATE;
    if (madvise((char *)block->info.host_address + offset, length,
                private ? MADV_DONTNEED : MADV_REMOVE)) {
        machine_fail(machine, EXIT_FAILED, "madvise of the balloon's pages: %s", strerror(errno));
        return -1;
    }
    return 0;
}

int ram_discard(struct machine *machine, uint64_t page, uint64_t count) {
    uint64_t start = GUEST_WORK + page * PAGE, end = start + count * PAGE;
    for (unsigned i = 0; start < end; i++) {
        const struct ram_block *block = &machine->blocks[i];
        uint64_t block_end = block->offset + block->info.length;
        uint64_t piece_end = end < block_end ? end : block_end;
        if (start >= block_end)
            continue;
        if (discard(machine, block, start - block->offset, piece_end - start))
            return -1;
        start = piece_end;
    }
    return 0;
}
