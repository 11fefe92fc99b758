/* Many regions: slots with holes below and above 4 GiB, hotplug, the caller's own memory. */
#include "support.h"

static guestram_t *new_memory(void) {
    guestram_t *memory = NULL;
    REQUIRE(guestram_create(NULL, &memory) == 0);
    return memory;
}

static vm_t named(guestram_t *memory, const char *name, const variant_t *variant, uint64_t length, uint32_t flags) {
    guestram_region_options_t options = region_options(variant, length);
    vm_t vm = {.memory = memory, .variant = variant, .fd = -1, .length = length, .granule = variant->granule};
    options.name = name;
    options.flags |= flags;
    REQUIRE(guestram_region_add(memory, &options, &vm.region) == 0);
    vm.address = vm_info(&vm).host_address;
    return vm;
}

static const guestram_slot_t layout[] = { /* region: index below */
    {.guest_physical = 0, .length = 640 * KIB, .offset = 0, .region = 0},
    {.guest_physical = MIB, .length = 3 * MIB, .offset = MIB, .region = 0},
    {.guest_physical = 3 * GIB, .length = 2 * MIB, .offset = 0, .region = 1},
    {.guest_physical = 4 * GIB, .length = MIB, .offset = 4 * MIB, .region = 0},
    {.guest_physical = 4 * GIB + 512 * MIB, .length = 3 * MIB, .offset = 0, .region = 2},
    {.guest_physical = UINT64_C(1) << 40, .length = PAGE, .offset = 2 * MIB, .region = 1},
};
#define LAYOUT (sizeof layout / sizeof *layout)
static const char *const names[] = {"low", "pci", "high"};
static const uint64_t lengths[] = {5 * MIB, 3 * MIB, 3 * MIB};

TEST(regions_and_slots_come_back_with_a_snapshot) {
    static const variant_t *const variants[] = {&SHMEM, &ANON, &SHMEM_PRIVATE};
    guestram_t *memory = new_memory();
    vm_t vms[3];
    for (unsigned i = 0; i < 3; i++) {
        vms[i] = named(memory, names[i], variants[i], lengths[i], 0);
        pattern_fill(vms[i].address, lengths[i], PAGE, i);
    }
    for (size_t i = LAYOUT; i-- > 0;) {
        guestram_slot_t slot = layout[i];
        slot.size = sizeof slot;
        slot.region = vms[layout[i].region].region;
        CHECK_EQ(guestram_slot_add(memory, &slot), 0);
    }
    CHECK_EQ(guestram_save(memory, scratch("snapshot"), NULL), 0);
    guestram_destroy(memory);

    memory = new_memory();
    restore(memory, scratch("snapshot"), GUESTRAM_RESTORE_LAZY);
    REQUIRE(guestram_start(memory) == 0);
    uint64_t from = 0;
    for (size_t i = 0; i < LAYOUT; i++) {
        guestram_slot_t slot = {.size = sizeof slot};
        REQUIRE(guestram_slot_next(memory, from, &slot) == 0);
        CHECK_EQ(slot.guest_physical, layout[i].guest_physical);
        CHECK_EQ(slot.length, layout[i].length);
        CHECK_EQ(slot.offset, layout[i].offset);
        vm_t vm = {.memory = memory, .region = slot.region};
        CHECK_EQ(strcmp(vm_info(&vm).name, names[layout[i].region]), 0);
        CHECK(slot.host_address == (uint8_t *)vm_info(&vm).host_address + slot.offset);
        uint64_t value, at = slot.offset + slot.length - 8;
        CHECK_EQ(touch_read((uint8_t *)slot.host_address + slot.length - 8, &value), 0);
        CHECK_EQ(value, pattern_word(at, PAGE, layout[i].region));
        from = slot.guest_physical + 1;
    }
    for (unsigned i = 0; i < 3; i++) {
        vm_t vm = {.memory = memory};
        REQUIRE(guestram_region_find(memory, names[i], &vm.region) == 0);
        CHECK_EQ(vm_info(&vm).type, variants[i]->type);
        CHECK_EQ(pattern_mismatch(vm_info(&vm).host_address, lengths[i], PAGE, i), -1);
    }
    guestram_destroy(memory);
}

TEST(regions_are_listed_in_the_order_of_their_ids) {
    guestram_t *memory = new_memory();
    uint32_t ids[40], after = 0;
    char name[16];
    for (unsigned i = 0; i < 40; i++) {
        snprintf(name, sizeof name, "r%u", i);
        ids[i] = named(memory, name, i % 2 ? &SHMEM : &ANON, PAGE, 0).region;
        if (i % 3 == 2) CHECK_EQ(guestram_region_remove(memory, ids[i]), 0);
    }
    for (unsigned i = 0; i < 40; i++) {
        if (i % 3 == 2) continue;
        CHECK_EQ(guestram_region_next(memory, after, &after), 0);
        CHECK_EQ(after, ids[i]);
    }
    CHECK_EQ(guestram_region_next(memory, after, &after), -ENOENT);
    CHECK(named(memory, "r2", &ANON, PAGE, 0).region > ids[39]); /* never used again */
    guestram_destroy(memory);
}

static atomic_bool over;

/* Reads the whole again and again. */
static void *reader(void *argument) {
    vm_t *vm = argument;
    for (uint64_t at = 0; !atomic_load(&over); at = (at + 37 * PAGE) % vm->length) {
        uint64_t value = 0;
        CHECK_EQ(touch_read(vm->address + at, &value), 0);
        CHECK_EQ(value, pattern_word(at, vm->granule, vm->seed));
    }
    return NULL;
}

TEST(hotplug_while_serving) {
    vm_t vm = vm_restored(&SHMEM, 2048, &(guestram_options_t){.size = sizeof(guestram_options_t), .window = 4096});
    pthread_t thread;
    uint8_t page[PAGE];
    atomic_store(&over, false);
    REQUIRE(pthread_create(&thread, NULL, reader, &vm) == 0);
    for (unsigned round = 0; round < 60; round++) {
        const variant_t *variant = round % 3 == 0 ? &ANON : round % 3 == 1 ? &SHMEM : &SHMEM_PRIVATE;
        vm_t dimm = named(vm.memory, "dimm", variant, 64 * PAGE, GUESTRAM_REGION_USERFAULT);
        guestram_slot_t slot = {.size = sizeof slot, .guest_physical = 8 * GIB, .length = 64 * PAGE, .region = dimm.region};
        CHECK_EQ(guestram_slot_add(vm.memory, &slot), 0);
        CHECK(vm_info(&dimm).modes != 0);
        CHECK(is_zero(dimm.address, 8 * PAGE)); /* by fault */
        memset(page, (int)round, sizeof page);
        CHECK_EQ(guestram_copy(vm.memory, GUESTRAM_GUEST_PHYSICAL, 8 * GIB + 40 * PAGE, page, PAGE, NULL), 0);
        CHECK_EQ(memcmp(dimm.address + 40 * PAGE, page, PAGE), 0);
        CHECK_EQ(guestram_region_remove(vm.memory, dimm.region), 0);
        CHECK_EQ(guestram_slot_next(vm.memory, 0, &slot), -ENOENT);
        CHECK_EQ(msync(dimm.address, PAGE, MS_ASYNC) < 0 ? errno : 0, ENOMEM); /* unmapped */
    }
    atomic_store(&over, true);
    pthread_join(thread, NULL);
    CHECK_EQ(vm_mismatch(&vm), -1);
    vm_destroy(&vm);
}

/* The caller's mapping and file: filled lazily, and left in place, unregistered. */
static void callers_memory(const variant_t *variant) {
    need_variant(variant);
    uint64_t length = 333 * PAGE;
    save_pattern(scratch("snapshot"), length, PAGE, 3);
    int fd;
    uint8_t *address;
    REQUIRE(variant_map(variant, length, &fd, &address) == 0);
    guestram_t *memory = new_memory();
    guestram_region_options_t o = region_options(variant, length);
    uint32_t id = 0;
    o.host_address = address;
    o.flags |= fd < 0 ? 0 : GUESTRAM_REGION_FD;
    o.fd = fd;
    REQUIRE(guestram_region_add(memory, &o, &id) == 0);
    if (fd >= 0) close(fd); /* the library has its own */
    restore(memory, scratch("snapshot"), GUESTRAM_RESTORE_LAZY);
    REQUIRE(guestram_start(memory) == 0);
    CHECK(vm_info(&(vm_t){.memory = memory, .region = id}).host_address == address);
    CHECK_EQ(pattern_mismatch(address, length - 33 * PAGE, PAGE, 3), -1);
    guestram_destroy(memory);
    CHECK_EQ(pattern_mismatch(address, length - 33 * PAGE, PAGE, 3), -1);
    /* Never zeros for what was not loaded: read-ahead may have brought it. */
    uint64_t value, last = (length - 1) / PAGE * PAGE;
    if (touch_read(address + last, &value) == 0) CHECK_EQ(value, pattern_word(last, PAGE, 3));
    CHECK_EQ(munmap(address, length), 0);
}
TEST_SMALL_VARIANTS(callers_memory)

/* A second mapping reads holes of the file, which makes zero pages appear in it: still not zeros
 * but the snapshot's contents for the guest. */
TEST(alias_reads_before_the_guest) {
    uint64_t length = 512 * PAGE;
    save_pattern(scratch("snapshot"), length, PAGE, 4);
    int fd;
    uint8_t *address;
    REQUIRE(variant_map(&SHMEM, length, &fd, &address) == 0);
    uint8_t *alias = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    REQUIRE(alias != MAP_FAILED);
    guestram_t *memory = new_memory();
    guestram_region_options_t o = region_options(&SHMEM, length);
    uint32_t id = 0;
    o.flags = GUESTRAM_REGION_FD;
    o.fd = fd;
    REQUIRE(guestram_region_add(memory, &o, &id) == 0);
    restore(memory, scratch("snapshot"), GUESTRAM_RESTORE_LAZY);
    REQUIRE(guestram_start(memory) == 0);
    vm_t vm = {.memory = memory, .region = id, .variant = &SHMEM, .fd = -1};
    vm.address = vm_info(&vm).host_address;
    uint64_t seen = 0;
    for (uint64_t at = 0; at < length; at += 2 * PAGE) seen |= *(volatile uint64_t *)(void *)(alias + at);
    CHECK_EQ(pattern_mismatch(vm.address, length, PAGE, 4), -1);
    CHECK_EQ(pattern_mismatch(alias, length, PAGE, 4), -1);
    CHECK_EQ(seen, 0);
    CHECK(vm_stats(&vm).minor > 0);
    guestram_destroy(memory);
    munmap(alias, length), munmap(address, length), close(fd);
}

/* _FILLED: the file is the contents; holes read zero; private clones leave it as it was. */
TEST(filled_file_is_mapped_not_copied) {
    uint64_t length = 300 * PAGE;
    twin_t file = {.uffd = -1};
    REQUIRE(variant_map(&SHMEM, length, &file.fd, &file.address) == 0);
    pattern_fill(file.address, length, PAGE, 5);
    for (unsigned private = 0; private < 2; private++) {
        guestram_t *memory = new_memory();
        guestram_region_options_t o = region_options(private ? &SHMEM_PRIVATE : &SHMEM, length);
        vm_t vm = {.memory = memory};
        o.flags |= GUESTRAM_REGION_FD | GUESTRAM_REGION_FILLED;
        o.fd = file.fd;
        REQUIRE(guestram_region_add(memory, &o, &vm.region) == 0);
        REQUIRE(guestram_start(memory) == 0);
        vm.address = vm_info(&vm).host_address;
        CHECK_EQ(pattern_mismatch(vm.address, length, PAGE, 5), -1);
        CHECK_EQ(vm_stats(&vm).bytes_read, 0);
        if (private) {
            memset(vm.address, 0xee, length);
            CHECK_EQ(pattern_mismatch(file.address, length, PAGE, 5), -1);
        }
        guestram_destroy(memory);
    }
    munmap(file.address, length), close(file.fd);
}
