/* A part of a region that mremap() moved away: what was absent there never reads zero, also after
 * the memory is gone; what was there stays. */
#include "support.h"

static void wait_for_refusal(vm_t *vm) {
    guestram_event_t event = {.size = sizeof event};
    EVENTUALLY(guestram_next_event(vm->memory, &event) == 0);
    CHECK_EQ(event.type, GUESTRAM_EVENT_REMAP_REFUSED);
}

static uint8_t *move_to(uint8_t *from, uint64_t length, uint8_t *place, int flags) {
    uint8_t *moved = mremap(from, length, length, MREMAP_MAYMOVE | MREMAP_FIXED | flags, place);
    if (moved == MAP_FAILED) SKIP("this kernel cannot move it so");
    REQUIRE(moved == place);
    return moved;
}

static uint8_t *move(uint8_t *from, uint64_t length, int flags) {
    return move_to(from, length, mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), flags);
}

static vm_t lazy(const variant_t *variant) {
    static guestram_options_t options = {.size = sizeof(guestram_options_t), .window = 4096};
    return vm_tracked(variant, 64, &options);
}

/* Into the hole that it left as well: a mapping of its own amid the region's addresses. */
static void after_destroy(const variant_t *variant, bool into_hole) {
    vm_t vm = lazy(variant);
    uint64_t value;
    CHECK_EQ(touch_read(vm.address + 20 * PAGE, &value), 0);
    uint8_t *moved = move(vm.address + 16 * PAGE, 8 * PAGE, 0);
    wait_for_refusal(&vm);
    uint8_t *again = move(moved, 8 * PAGE, 0); /* a part that moves on */
    uint8_t *hole = vm.address + 16 * PAGE;
    if (into_hole && again != hole) again = move_to(again, 8 * PAGE, hole, 0);
    munmap(again + 6 * PAGE, 2 * PAGE);
    void *other = mmap(again + 6 * PAGE, PAGE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    REQUIRE(other == again + 6 * PAGE);
    vm_destroy(&vm);
    for (unsigned page = 0; page < 6; page++) {
        int result = touch_read(again + page * PAGE, &value);
        if (page == 4 && kernel_poisons())
            CHECK(result == 0 && value == pattern_word(20 * PAGE, PAGE, vm.seed));
        else
            CHECK_EQ(result, UNSERVED);
    }
    CHECK_EQ(touch_read(other, &value), 0); /* it is another's */
    munmap(again, 7 * PAGE);
}
TEST(moved_part_never_reads_zero_anon) { after_destroy(&ANON, false); }
TEST(moved_part_never_reads_zero_shmem) { after_destroy(&SHMEM, false); }
TEST(moved_part_never_reads_zero_shmem_private) { after_destroy(&SHMEM_PRIVATE, false); }
TEST(part_moved_out_and_back_never_reads_zero_anon) { after_destroy(&ANON, true); }
TEST(part_moved_out_and_back_never_reads_zero_shmem) { after_destroy(&SHMEM, true); }
TEST(part_moved_out_and_back_never_reads_zero_shmem_private) { after_destroy(&SHMEM_PRIVATE, true); }

/* MREMAP_DONTUNMAP: the region is followed, and the old range stays registered. */
static void left_behind(const variant_t *variant) {
    vm_t vm = lazy(variant);
    uint64_t value;
    uint8_t *before = vm.address;
    CHECK_EQ(touch_read(before, &value), 0);
    vm.address = move(before, vm.length, MREMAP_DONTUNMAP);
    EVENTUALLY(vm_info(&vm).host_address == vm.address);
    if (kernel_poisons()) CHECK_EQ(touch_read(before, &value), SIGBUS);
    CHECK_EQ(vm_mismatch(&vm), -1);
    vm_destroy(&vm);
    CHECK_EQ(touch_read(before + PAGE, &value), UNSERVED);
    munmap(before, vm.length);
}
TEST(range_left_behind_never_reads_zero_anon) { left_behind(&ANON); }
TEST(range_left_behind_never_reads_zero_shmem) { left_behind(&SHMEM); }
TEST(range_left_behind_never_reads_zero_shmem_private) { left_behind(&SHMEM_PRIVATE); }
