/* Every operation on every type: what the guest sees after it, and what is said of it. */
#include "support.h"

static guestram_options_t small_windows = {.size = sizeof(guestram_options_t), .window = 4096};
static uint64_t few(const variant_t *variant) { return variant->granule == PAGE ? 64 : 7; }

static uint64_t word_at(const vm_t *vm, uint64_t offset) { return *(volatile uint64_t *)(void *)(vm->address + offset); }

static void missing(const variant_t *variant) {
    vm_t vm = vm_restored(variant, few(variant), &small_windows);
    uint64_t value = 0;
    CHECK(vm_info(&vm).modes & GUESTRAM_MODE_MISSING);
    CHECK_EQ(touch_read(vm.address, &value), 0);
    CHECK_EQ(value, pattern_word(0, vm.granule, vm.seed));
    CHECK_EQ(touch_write(vm.address + vm.granule, 1), 0);
    CHECK_EQ(vm_stats(&vm).missing, 2);
    CHECK_EQ(vm_stats(&vm).minor, 0);
    vm_destroy(&vm);
}
TEST_EVERY_VARIANT(missing)

/* A file that is the contents. */
static vm_t filled(const variant_t *variant, twin_t *file) {
    need_variant(variant);
    if (!(kernel_modes(variant) & GUESTRAM_MODE_MINOR)) SKIP("this kernel has no minor faults for the type");
    variant_t shared = *variant;
    shared.flags = 0;
    uint64_t length = few(variant) * variant->granule;
    *file = (twin_t){.uffd = -1, .length = length};
    REQUIRE(variant_map(&shared, length, &file->fd, &file->address) == 0);
    pattern_fill(file->address, length, variant->granule, VM_SEED);
    guestram_t *memory = NULL;
    REQUIRE(guestram_create(&small_windows, &memory) == 0);
    guestram_region_options_t o = region_options(variant, length);
    vm_t vm = {.memory = memory, .variant = variant, .fd = -1, .length = length, .granule = variant->granule, .seed = VM_SEED};
    o.flags |= GUESTRAM_REGION_FD | GUESTRAM_REGION_FILLED;
    o.fd = file->fd;
    int error = guestram_region_add(memory, &o, &vm.region);
    if (error < 0) printf("%s\n", guestram_error());
    REQUIRE(error == 0 && guestram_start(memory) == 0);
    vm.address = vm_info(&vm).host_address;
    return vm;
}

static void minor(const variant_t *variant) {
    twin_t file;
    vm_t vm = filled(variant, &file);
    uint64_t value = 0;
    CHECK(vm_info(&vm).modes & GUESTRAM_MODE_MINOR);
    CHECK_EQ(touch_read(vm.address + 8, &value), 0);
    CHECK_EQ(value, pattern_word(8, vm.granule, vm.seed));
    CHECK_EQ(vm_stats(&vm).minor, 1);
    CHECK_EQ(vm_stats(&vm).missing, 0);
    CHECK_EQ(touch_read(vm.address + 3 * vm.granule, &value), 0); /* a hole */
    CHECK_EQ(value, 0);
    CHECK_EQ(vm_mismatch(&vm), -1);
    CHECK_EQ(vm_stats(&vm).bytes_read, 0);
    vm_destroy(&vm);
    twin_close(&file);
}

static void minor_then_write(const variant_t *variant) {
    bool private = variant->flags & GUESTRAM_REGION_PRIVATE;
    twin_t file;
    vm_t vm = filled(variant, &file);
    uint64_t value = 0;
    CHECK_EQ(touch_read(vm.address, &value), 0);
    for (uint64_t at = 0; at < vm.length; at += vm.granule) CHECK_EQ(touch_write(vm.address + at, at + 1), 0);
    for (uint64_t at = 0; at < vm.length; at += vm.granule) {
        CHECK_EQ(word_at(&vm, at), at + 1);
        CHECK_EQ(word_at(&vm, at + 8), pattern_word(at + 8, vm.granule, vm.seed));
        CHECK_EQ(*(uint64_t *)(void *)(file.address + at), private ? pattern_word(at, vm.granule, vm.seed) : at + 1);
    }
    vm_destroy(&vm);
    if (private) CHECK_EQ(pattern_mismatch(file.address, file.length, vm.granule, vm.seed), -1);
    twin_close(&file);
}

#define TEST_FILE_VARIANTS(body)                                    \
    TEST(body##_shmem) { body(&SHMEM); }                            \
    TEST(body##_shmem_private) { body(&SHMEM_PRIVATE); }            \
    TEST_HUGEPAGES(body##_hugetlb, 16) { body(&HUGETLB); }          \
    TEST_HUGEPAGES(body##_hugetlb_private, 16) { body(&HUGETLB_PRIVATE); }
TEST_FILE_VARIANTS(minor)
TEST_FILE_VARIANTS(minor_then_write)

static bool dirty(const vm_t *vm, uint64_t granule) {
    uint64_t bitmap[2] = {0};
    CHECK_EQ(guestram_dirty_read(vm->memory, vm->region, 0, vm->length, bitmap, 0), 0);
    return bitmap[granule / 64] >> granule % 64 & 1;
}

static void clear_dirty(const vm_t *vm) {
    uint64_t bitmap[2] = {0};
    CHECK_EQ(guestram_dirty_read(vm->memory, vm->region, 0, vm->length, bitmap, 1), 0);
}

static void writeprotect_present(const variant_t *variant) {
    vm_t vm = vm_tracked(variant, few(variant), NULL);
    need_operation(&vm, GUESTRAM_OP_WRITEPROTECT);
    CHECK_EQ(vm_mismatch(&vm), -1); /* all is present */
    CHECK_EQ(guestram_writeprotect(vm.memory, vm.region, 0, vm.length, 1), 0);
    clear_dirty(&vm);
    CHECK_EQ(vm_mismatch(&vm), -1);
    CHECK(!dirty(&vm, 1) && !dirty(&vm, 2));
    CHECK_EQ(touch_write(vm.address + 2 * vm.granule + 8, 5), 0);
    CHECK(!dirty(&vm, 1) && dirty(&vm, 2) && !dirty(&vm, 3));
    CHECK(dirty(&vm, 2)); /* not cleared by reading it */
    clear_dirty(&vm);
    CHECK(!dirty(&vm, 2));
    CHECK_EQ(guestram_writeprotect(vm.memory, vm.region, 0, vm.length, 1), 0);
    CHECK_EQ(touch_write(vm.address + 2 * vm.granule + 16, 5), 0);
    CHECK(dirty(&vm, 2)); /* seen again once armed again */
    CHECK_EQ(guestram_writeprotect(vm.memory, vm.region, 0, vm.length, 0), 0);
    clear_dirty(&vm);
    uint64_t wp = vm_stats(&vm).wp;
    CHECK_EQ(touch_write(vm.address + 5 * vm.granule, 6), 0);
    CHECK_EQ(vm_stats(&vm).wp, wp);
    CHECK_EQ(word_at(&vm, 5 * vm.granule), 6);
    vm_destroy(&vm);
}
TEST_EVERY_VARIANT(writeprotect_present)

/* Armed before anything is there: fills keep the marks. */
static void writeprotect_unpopulated(const variant_t *variant) {
    vm_t vm = vm_tracked(variant, few(variant), &small_windows);
    need_operation(&vm, GUESTRAM_OP_WRITEPROTECT);
    uint64_t g = vm.granule, value;
    CHECK_EQ(guestram_writeprotect(vm.memory, vm.region, 0, vm.length, 1), 0);
    clear_dirty(&vm);
    CHECK_EQ(touch_read(vm.address + 4 * g, &value), 0); /* filled by a read, */
    CHECK(!dirty(&vm, 4));
    CHECK_EQ(touch_write(vm.address + 4 * g, 40), 0);    /* then written */
    CHECK_EQ(touch_write(vm.address + 5 * g, 50), 0);    /* filled by a write */
    CHECK_EQ(touch_write(vm.address + 3 * g, 30), 0);    /* a hole */
    CHECK(dirty(&vm, 4) && dirty(&vm, 5) && dirty(&vm, 3) && !dirty(&vm, 6));
    CHECK_EQ(word_at(&vm, 4 * g), 40);
    CHECK_EQ(word_at(&vm, 5 * g), 50);
    CHECK_EQ(word_at(&vm, 5 * g + 8), pattern_word(5 * g + 8, g, vm.seed));
    CHECK_EQ(word_at(&vm, 3 * g + 8), 0);
    CHECK_EQ(guestram_prefetch(vm.memory, vm.region, 6 * g, g), 0);
    EVENTUALLY(vm_info(&vm).present >= 4);
    CHECK(!dirty(&vm, 6));
    CHECK_EQ(touch_write(vm.address + 6 * g, 60), 0);
    CHECK(dirty(&vm, 6));
    vm_destroy(&vm);
}
TEST_EVERY_VARIANT(writeprotect_unpopulated)

static void dirty_merge(const variant_t *variant) {
    vm_t vm = vm_tracked(variant, few(variant), NULL);
    uint64_t bits = 0x5;
    clear_dirty(&vm);
    CHECK_EQ(guestram_dirty_merge(vm.memory, vm.region, 2 * vm.granule, 4 * vm.granule, &bits), 0);
    CHECK(dirty(&vm, 2) && !dirty(&vm, 3) && dirty(&vm, 4) && !dirty(&vm, 5));
    bits = 0;
    CHECK_EQ(guestram_dirty_read(vm.memory, vm.region, 3 * vm.granule, 3 * vm.granule, &bits, 1), 0);
    CHECK_EQ(bits, 0x2);
    CHECK(dirty(&vm, 2) && !dirty(&vm, 4));
    vm_destroy(&vm);
}
TEST_EVERY_VARIANT(dirty_merge)

static void poison(const variant_t *variant) {
    vm_t vm = vm_tracked(variant, few(variant), &small_windows);
    need_operation(&vm, GUESTRAM_OP_POISON);
    uint64_t g = vm.granule, value = 1, done = 0;
    CHECK_EQ(guestram_poison(vm.memory, vm.region, g, 2 * g, &done), 0);
    CHECK_EQ(done, 2 * g);
    CHECK_EQ(touch_read(vm.address + g, &value), SIGBUS);
    CHECK_EQ(touch_write(vm.address + 2 * g, 1), SIGBUS);
    CHECK_EQ(touch_read(vm.address + 4 * g, &value), 0);
    CHECK_EQ(vm_info(&vm).poisoned, 2);
    CHECK_EQ(vm_stats(&vm).pages_poisoned, 2);
    CHECK_EQ(write(memfd_create("x", MFD_CLOEXEC), vm.address + g, 8), -1); /* a system call's */
    CHECK_EQ(errno, EFAULT);
    CHECK_FAILS(guestram_save(vm.memory, scratch("poisoned"), NULL), EIO, "poison");
    CHECK_EQ(guestram_poison(vm.memory, vm.region, 4 * g, g, &done), -EEXIST);
    CHECK_EQ(done, 0);
    uint8_t *bytes = malloc(g);
    memset(bytes, 9, g);
    CHECK_EQ(guestram_copy(vm.memory, vm.region, g, bytes, g, NULL), 0);
    CHECK_EQ(touch_read(vm.address + g, &value), 0);
    CHECK_EQ(value, UINT64_C(0x0909090909090909));
    CHECK_EQ(vm_info(&vm).poisoned, 1);
    free(bytes);
    vm_destroy(&vm);
}
TEST_EVERY_VARIANT(poison)

static void zeropage_and_copy_replace_the_snapshot(const variant_t *variant) {
    vm_t vm = vm_tracked(variant, few(variant), &small_windows);
    uint64_t g = vm.granule, done = 0;
    uint8_t *bytes = malloc(2 * g);
    memset(bytes, 7, 2 * g);
    CHECK_EQ(guestram_copy(vm.memory, vm.region, 0, bytes, 2 * g, &done), 0);
    CHECK_EQ(done, 2 * g);
    CHECK_EQ(memcmp(vm.address, bytes, 2 * g), 0);
    CHECK_EQ(guestram_copy(vm.memory, vm.region, g, bytes, 2 * g, &done), -EEXIST);
    CHECK_EQ(done, 0);
    if (vm_info(&vm).operations & 1u << GUESTRAM_OP_ZEROPAGE) {
        CHECK_EQ(guestram_zeropage(vm.memory, vm.region, 4 * g, 2 * g, &done), 0);
        CHECK_EQ(done, 2 * g);
        CHECK(is_zero(vm.address + 4 * g, 2 * g));
        CHECK_EQ(vm_stats(&vm).pages_zeroed, 2);
    } else {
        CHECK_EQ(variant->type, GUESTRAM_HUGETLB);
        CHECK_FAILS(guestram_zeropage(vm.memory, vm.region, 4 * g, 2 * g, &done), EOPNOTSUPP, "hugetlb");
    }
    CHECK_EQ(vm_stats(&vm).pages_copied, 2);
    CHECK_EQ(vm_stats(&vm).pages_loaded, 0);
    CHECK_EQ(word_at(&vm, 6 * g), pattern_word(6 * g, g, vm.seed));
    free(bytes);
    vm_destroy(&vm);
}
TEST_EVERY_VARIANT(zeropage_and_copy_replace_the_snapshot)

TEST(partial_results_tell_what_was_done) {
    vm_t vm = vm_empty(&ANON, 64);
    static uint8_t bytes[16 * PAGE];
    for (uint64_t at = 0; at < 16; at++) { /* a boundary at each page */
        uint64_t done = 77, value;
        CHECK_EQ(guestram_discard(vm.memory, vm.region, 0, vm.length), 0);
        CHECK_EQ(touch_read(vm.address + at * PAGE, &value), 0);
        CHECK_EQ(guestram_copy(vm.memory, vm.region, 0, bytes, sizeof bytes, &done), -EEXIST);
        CHECK_EQ(done, at * PAGE);
        CHECK_EQ(guestram_zeropage(vm.memory, vm.region, (at + 1) * PAGE, PAGE, &done), 0);
    }
    vm_destroy(&vm);
}

TEST(move_between_regions) {
    vm_t to = vm_tracked(&ANON, 64, &small_windows);
    need_operation(&to, GUESTRAM_OP_MOVE);
    guestram_region_options_t o = region_options(&ANON, 64 * PAGE);
    vm_t from = to;
    o.name = "from";
    o.flags = GUESTRAM_REGION_USERFAULT;
    REQUIRE(guestram_region_add(to.memory, &o, &from.region) == 0);
    from.address = vm_info(&from).host_address;
    memset(from.address, 3, 16 * PAGE);
    uint64_t done = 0;
    CHECK_EQ(guestram_move(to.memory, to.region, 8 * PAGE, from.region, 4 * PAGE, 8 * PAGE, &done), 0);
    CHECK_EQ(done, 8 * PAGE);
    for (uint64_t at = 0; at < 8 * PAGE; at += 8) CHECK_EQ(word_at(&to, 8 * PAGE + at), UINT64_C(0x0303030303030303));
    CHECK(is_zero(from.address + 4 * PAGE, 8 * PAGE));
    CHECK_EQ(word_at(&to, 7 * PAGE), pattern_word(7 * PAGE, PAGE, to.seed));
    CHECK_EQ(word_at(&to, 16 * PAGE), pattern_word(16 * PAGE, PAGE, to.seed));
    CHECK_EQ(guestram_move(to.memory, to.region, 8 * PAGE, from.region, 0, PAGE, &done), -EEXIST);
    CHECK_EQ(guestram_move(to.memory, to.region, 32 * PAGE, from.region, 40 * PAGE, PAGE, &done), -ENOENT); /* a hole */
    CHECK_EQ(word_at(&to, 32 * PAGE), pattern_word(32 * PAGE, PAGE, to.seed));
    /* What was moved away is not brought again from the snapshot. */
    CHECK_EQ(guestram_move(to.memory, from.region, 20 * PAGE, to.region, 8 * PAGE, 4 * PAGE, &done), 0);
    CHECK(is_zero(to.address + 8 * PAGE, 4 * PAGE));
    vm_destroy(&to);
}
