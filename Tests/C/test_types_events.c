/* What the VMM does to the mapping while it is served: discard, punch, unmap, remap, fork. */
#include "support.h"

#include <sys/wait.h>

static guestram_options_t small_windows = {.size = sizeof(guestram_options_t), .window = 4096};
static uint64_t few(const variant_t *variant) { return variant->granule == PAGE ? 64 : 7; }

static uint64_t word_at(const vm_t *vm, uint64_t offset) { return *(volatile uint64_t *)(void *)(vm->address + offset); }

static bool is_shared(const variant_t *variant) {
    return variant->type != GUESTRAM_ANON && !(variant->flags & GUESTRAM_REGION_PRIVATE);
}

static void wait_for_event(vm_t *vm, uint32_t type, uint64_t offset, uint64_t length) {
    guestram_event_t event = {.size = sizeof event};
    EVENTUALLY(guestram_next_event(vm->memory, &event) == 0);
    CHECK_EQ(event.type, type);
    CHECK_EQ(event.region, vm->region);
    CHECK_EQ(event.offset, offset);
    CHECK_EQ(event.length, length);
}

static void discard(const variant_t *variant) {
    vm_t vm = vm_tracked(variant, few(variant), &small_windows);
    uint64_t g = vm.granule;
    CHECK_EQ(touch_write(vm.address, 1), 0);
    CHECK_EQ(guestram_discard(vm.memory, vm.region, 0, 3 * g), 0); /* present, absent, absent */
    CHECK_EQ(vm_stats(&vm).pages_discarded, 3);
    if (is_shared(variant)) CHECK_EQ(vm_stats(&vm).events_remove, 0); /* the file is punched */
    CHECK(is_zero(vm.address, 3 * g));
    CHECK_EQ(vm_stats(&vm).bytes_read, g);
    CHECK_EQ(touch_write(vm.address + g, 2), 0);
    CHECK_EQ(word_at(&vm, g), 2);
    CHECK_EQ(word_at(&vm, 4 * g), pattern_word(4 * g, g, vm.seed));
    CHECK_EQ(guestram_discard(vm.memory, vm.region, g, g), 0);
    CHECK_EQ(word_at(&vm, g), 0);
    vm_destroy(&vm);
}
TEST_EVERY_VARIANT(discard)

/* The VMM's own call. What was absent reads zero and is never brought; what was present reads zero
 * too, except that DONTNEED leaves a shared file as it was written last. */
static void check_advised(const variant_t *variant, int advice, bool armed) {
    vm_t vm = vm_tracked(variant, few(variant), &small_windows);
    uint64_t g = vm.granule, value = 0, bits = 0;
    if (armed) {
        need_operation(&vm, GUESTRAM_OP_WRITEPROTECT);
        CHECK_EQ(guestram_writeprotect(vm.memory, vm.region, 0, vm.length, 1), 0);
    }
    CHECK_EQ(touch_write(vm.address, 77), 0);
    CHECK_EQ(touch_read(vm.address + 4 * g, &value), 0);
    if (armed) CHECK_EQ(guestram_dirty_read(vm.memory, vm.region, 0, 5 * g, &bits, 1), 0);
    CHECK_EQ(madvise(vm.address, 5 * g, advice) < 0 ? -errno : 0, 0);
    CHECK_EQ(vm_stats(&vm).events_remove, 1);
    CHECK(is_zero(vm.address + g, 3 * g));
    CHECK_EQ(touch_read(vm.address, &value), 0);
    bool kept = is_shared(variant) && advice == MADV_DONTNEED;
    CHECK(value == 0 || (kept && value == 77));
    CHECK_EQ(touch_read(vm.address + 4 * g, &value), 0);
    CHECK(value == 0 || (kept && value == pattern_word(4 * g, g, vm.seed)));
    CHECK_EQ(touch_write(vm.address + g, 5), 0);
    CHECK_EQ(touch_write(vm.address + 5 * g, 6), 0);
    CHECK_EQ(word_at(&vm, g), 5);
    CHECK_EQ(word_at(&vm, 5 * g + 8), pattern_word(5 * g + 8, g, vm.seed));
    if (armed) {
        /* Outside the range it is exact. Inside, the kernel may have dropped the marker; the write
         * after a discard must all the same not be lost. */
        CHECK_EQ(guestram_dirty_read(vm.memory, vm.region, 0, 7 * g, &bits, 0), 0);
        CHECK(bits & 1u << 5);
        CHECK(!(bits & 1u << 6));
        CHECK(bits & 1u << 1);
    }
    vm_destroy(&vm);
}

static void dontneed(const variant_t *variant) { check_advised(variant, MADV_DONTNEED, false); }
static void dontneed_while_armed(const variant_t *variant) { check_advised(variant, MADV_DONTNEED, true); }
TEST_EVERY_VARIANT(dontneed)
TEST_EVERY_VARIANT(dontneed_while_armed)

TEST(remove_shmem) { check_advised(&SHMEM, MADV_REMOVE, false); }
TEST(remove_while_armed_shmem) { check_advised(&SHMEM, MADV_REMOVE, true); }
TEST_HUGEPAGES(remove_hugetlb, 16) { check_advised(&HUGETLB, MADV_REMOVE, false); }
TEST_HUGEPAGES(remove_while_armed_hugetlb, 16) { check_advised(&HUGETLB, MADV_REMOVE, true); }

/* fallocate() sends no event: the library learns of it by the next fault, on what was present. */
static void punched(const variant_t *variant) {
    vm_t vm = vm_tracked(variant, few(variant), &small_windows);
    uint64_t g = vm.granule;
    int fd = vm_info(&vm).fd;
    uint64_t start = vm_info(&vm).fd_offset;
    REQUIRE(fd >= 0);
    CHECK_EQ(touch_write(vm.address + g, 1), 0);
    CHECK_EQ(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(start + g), (off_t)g), 0);
    CHECK(is_zero(vm.address + g, g));
    CHECK_EQ(word_at(&vm, 2 * g), pattern_word(2 * g, g, vm.seed));
    vm_destroy(&vm);
}
TEST(punched_shmem) { punched(&SHMEM); }
TEST_HUGEPAGES(punched_hugetlb, 16) { punched(&HUGETLB); }

/* ---- the mapping itself -- */

static vm_t callers_vm(const variant_t *variant) {
    static variant_t callers;
    callers = *variant;
    callers.callers = true;
    return vm_restored(&callers, 64, &small_windows);
}

static void unmapped_in_part(const variant_t *variant) {
    vm_t vm = callers_vm(variant);
    uint64_t value;
    CHECK_EQ(touch_read(vm.address + 20 * PAGE, &value), 0);
    CHECK_EQ(munmap(vm.address + 16 * PAGE, 8 * PAGE), 0);
    wait_for_event(&vm, GUESTRAM_EVENT_UNMAPPED, 16 * PAGE, 8 * PAGE);
    CHECK_EQ(vm_stats(&vm).events_unmap, 1);
    /* Somebody else's memory now: not ours to fill or to free. */
    uint64_t *other = mmap(vm.address + 16 * PAGE, PAGE, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    REQUIRE((uint8_t *)other == vm.address + 16 * PAGE);
    *other = 42;
    CHECK_EQ(pattern_mismatch(vm.address, 16 * PAGE, PAGE, vm.seed), -1);
    for (uint64_t at = 24 * PAGE; at < vm.length; at += PAGE) CHECK_EQ(word_at(&vm, at), pattern_word(at, PAGE, vm.seed));
    CHECK(guestram_copy(vm.memory, vm.region, 17 * PAGE, vm.address, PAGE, NULL) < 0);
    CHECK_EQ(guestram_wait_resident(vm.memory, 2000), 0); /* what is gone is not waited for */
    guestram_destroy(vm.memory);
    CHECK_EQ(*other, 42);
    munmap(vm.address, vm.length);
}
TEST_SMALL_VARIANTS(unmapped_in_part)

static void moved_as_a_whole(const variant_t *variant) {
    vm_t vm = vm_restored(variant, 64, &small_windows);
    uint64_t value;
    uint8_t *before = vm.address;
    CHECK_EQ(touch_read(vm.address + 4 * PAGE, &value), 0);
    uint8_t *place = mmap(NULL, vm.length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    vm.address = mremap(vm.address, vm.length, vm.length, MREMAP_MAYMOVE | MREMAP_FIXED, place);
    REQUIRE(vm.address == place);
    wait_for_event(&vm, GUESTRAM_EVENT_REMAPPED, 0, vm.length);
    CHECK(vm_info(&vm).host_address == vm.address);
    CHECK_EQ(vm_mismatch(&vm), -1);
    CHECK_EQ(vm_stats(&vm).events_remap, 1);
    CHECK_EQ(guestram_discard(vm.memory, vm.region, 0, PAGE), 0);
    CHECK_EQ(word_at(&vm, 0), 0);
    /* The old address is free for others, and destroy unmaps the new one. */
    void *other = mmap(before, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    CHECK(other == (void *)before);
    vm_destroy(&vm);
    CHECK_EQ(msync(vm.address, PAGE, MS_ASYNC) < 0 ? errno : 0, ENOMEM);
    CHECK_EQ(msync(before, PAGE, MS_ASYNC), 0);
}
TEST_SMALL_VARIANTS(moved_as_a_whole)

static void moved_in_part(const variant_t *variant) {
    vm_t vm = callers_vm(variant);
    uint64_t value;
    CHECK_EQ(touch_read(vm.address + 16 * PAGE, &value), 0);
    uint8_t *place = mmap(NULL, 8 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint8_t *moved = mremap(vm.address + 16 * PAGE, 8 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, place);
    REQUIRE(moved == place);
    wait_for_event(&vm, GUESTRAM_EVENT_REMAP_REFUSED, 16 * PAGE, 8 * PAGE);
    CHECK_EQ(touch_read(moved, &value), 0);
    CHECK_EQ(value, pattern_word(16 * PAGE, PAGE, vm.seed));
    toucher_t toucher;
    toucher_start(&toucher, moved + PAGE, false, 0); /* was absent: waits where there is no POISON */
    CHECK_EQ(toucher_join(&toucher, kernel_poisons() ? 5000 : 100), kernel_poisons());
    if (kernel_poisons()) CHECK_EQ(toucher.result, SIGBUS);
    CHECK_EQ(pattern_mismatch(vm.address, 16 * PAGE, PAGE, vm.seed), -1);
    CHECK_EQ(word_at(&vm, 24 * PAGE), pattern_word(24 * PAGE, PAGE, vm.seed));
    munmap(moved, 8 * PAGE);
    guestram_destroy(vm.memory);
    if (!kernel_poisons()) CHECK(toucher_join(&toucher, 5000) && toucher.result == SIGSEGV);
    munmap(vm.address, vm.length);
}
TEST_SMALL_VARIANTS(moved_in_part)

/* ---- fork -- */

/* The child's status after touching: 0 the value is right, 1 it is wrong, 2 SIGBUS, 3 SIGSEGV. */
static int in_child(const vm_t *vm, uint64_t offset) {
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        uint64_t value = 0;
        alarm(5);
        int refusal = touch_read(vm->address + offset, &value);
        if (refusal) _exit(refusal == SIGBUS ? 2 : 3);
        _exit(value != pattern_word(offset, vm->granule, vm->seed));
    }
    int status = 0;
    CHECK_EQ(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void fork_leaves_the_guest_to_the_parent(const variant_t *variant) {
    vm_t vm = vm_restored(variant, few(variant), &small_windows);
    uint64_t value;
    CHECK_EQ(touch_read(vm.address, &value), 0);
    CHECK_EQ(in_child(&vm, 0), 3); /* MADV_DONTFORK */
    CHECK_EQ(in_child(&vm, vm.granule), 3);
    CHECK_EQ(vm_mismatch(&vm), -1);
    vm_destroy(&vm);
}
TEST_EVERY_VARIANT(fork_leaves_the_guest_to_the_parent)

static void fork_with_the_guest(const variant_t *variant) {
    need_variant(variant);
    save_pattern(scratch("snapshot"), 64 * PAGE, PAGE, VM_SEED);
    guestram_t *memory = NULL;
    REQUIRE(guestram_create(&small_windows, &memory) == 0);
    if (!kernel_poisons()) {
        guestram_region_options_t o = region_options(variant, 64 * PAGE);
        uint32_t id;
        o.flags |= GUESTRAM_REGION_DOFORK | GUESTRAM_REGION_USERFAULT;
        CHECK_FAILS(guestram_region_add(memory, &o, &id), EOPNOTSUPP, "DOFORK");
        guestram_destroy(memory);
        return;
    }
    vm_t vm = vm_add(memory, variant, 64 * PAGE, GUESTRAM_REGION_DOFORK);
    restore(memory, scratch("snapshot"), GUESTRAM_RESTORE_LAZY);
    REQUIRE(guestram_start(memory) == 0);
    uint64_t value;
    CHECK_EQ(touch_read(vm.address, &value), 0);
    CHECK_EQ(in_child(&vm, 0), 0);
    CHECK_EQ(in_child(&vm, PAGE), 2); /* absent: neither zeros nor a hang */
    CHECK(vm_stats(&vm).events_fork >= 1);
    CHECK_EQ(vm_mismatch(&vm), -1);
    vm_destroy(&vm);
}
TEST_SMALL_VARIANTS(fork_with_the_guest)
