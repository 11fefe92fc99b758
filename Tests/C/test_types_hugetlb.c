/* Huge pages run out; and pages of 1 GiB. */
#include "support.h"

static uint64_t free_pages(const char *kib) {
    char path[128], text[32] = "0";
    snprintf(path, sizeof path, "/sys/kernel/mm/hugepages/hugepages-%skB/free_hugepages", kib);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file >= 0 && read(file, text, sizeof text - 1) < 0) text[0] = 0;
    if (file >= 0) close(file);
    return strtoull(text, NULL, 10);
}

/* Takes all of the pool but `left` pages until the test's process ends. */
static void leave_pages(uint64_t left) {
    uint64_t length = (free_pages("2048") - left) * 2 * MIB;
    if (length == 0) return;
    void *hog = mmap(NULL, length, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_POPULATE | (21 << MAP_HUGE_SHIFT), -1, 0);
    REQUIRE(hog != MAP_FAILED);
    REQUIRE(free_pages("2048") == left);
}

static void more_than_the_pool_is_refused(const variant_t *variant) {
    need_variant(variant);
    leave_pages(4);
    guestram_t *memory = NULL;
    uint32_t id = 0;
    REQUIRE(guestram_create(NULL, &memory) == 0);
    guestram_region_options_t o = region_options(variant, 10 * MIB);
    CHECK_FAILS(guestram_region_add(memory, &o, &id), ENOMEM, "nr_hugepages");
    o.length = 8 * MIB;
    CHECK_EQ(guestram_region_add(memory, &o, &id), 0);
    guestram_destroy(memory);
    CHECK_EQ(free_pages("2048"), 4);
}
TEST_HUGEPAGES(more_than_the_pool_is_refused_shared, 8) { more_than_the_pool_is_refused(&HUGETLB); }
TEST_HUGEPAGES(more_than_the_pool_is_refused_private, 8) { more_than_the_pool_is_refused(&HUGETLB_PRIVATE); }

/* The kernel answers EEXIST to a COPY for which it has no page: the library says what it is. */
static void exhaustion_is_told_from_presence(const variant_t *variant) {
    need_variant(variant);
    leave_pages(4);
    guestram_t *memory = NULL;
    REQUIRE(guestram_create(NULL, &memory) == 0);
    vm_t vm = vm_add(memory, variant, 16 * MIB, GUESTRAM_REGION_NORESERVE | GUESTRAM_REGION_USERFAULT);
    REQUIRE(guestram_start(memory) == 0);
    uint8_t *bytes = calloc(1, 2 * MIB);
    uint64_t done;
    for (uint64_t at = 0; at < 8 * MIB; at += 2 * MIB)
        CHECK_EQ(guestram_copy(memory, vm.region, at, bytes, 2 * MIB, &done), 0);
    CHECK_EQ(guestram_copy(memory, vm.region, 0, bytes, 2 * MIB, &done), -EEXIST);
    CHECK_FAILS(guestram_copy(memory, vm.region, 8 * MIB, bytes, 2 * MIB, &done), ENOMEM, "hugepage");
    CHECK_EQ(done, 0);
    toucher_t toucher; /* not a fault without end */
    toucher_start(&toucher, vm.address + 10 * MIB, false, 0);
    CHECK_EQ(toucher_join(&toucher, kernel_poisons() ? 5000 : 100), kernel_poisons());
    if (kernel_poisons()) CHECK_EQ(toucher.result, SIGBUS);
    guestram_event_t event = {.size = sizeof event};
    EVENTUALLY(guestram_next_event(memory, &event) == 0);
    CHECK_EQ(event.type, GUESTRAM_EVENT_PAGE_ERROR);
    CHECK_EQ(event.error, ENOMEM);
    CHECK_EQ(event.offset, 10 * MIB);
    if (!kernel_poisons()) {
        CHECK_EQ(guestram_stop(memory, 0), 0);
        REQUIRE(toucher_join(&toucher, 5000));
        CHECK_EQ(toucher.result, SIGBUS); /* the kernel's own: its contents are zeros, and no page is there */
    }
    free(bytes);
    vm_destroy(&vm);
}
TEST_HUGEPAGES(exhaustion_is_told_from_presence_shared, 8) { exhaustion_is_told_from_presence(&HUGETLB); }
TEST_HUGEPAGES(exhaustion_is_told_from_presence_private, 8) { exhaustion_is_told_from_presence(&HUGETLB_PRIVATE); }

static void exhaustion_while_restoring(const variant_t *variant) {
    need_variant(variant);
    if (!kernel_poisons()) SKIP("no POISON before Linux 6.6: the threads would wait");
    save_pattern(scratch("snapshot"), 16 * MIB, 2 * MIB, VM_SEED);
    leave_pages(3);
    guestram_t *memory = NULL;
    REQUIRE(guestram_create(NULL, &memory) == 0);
    vm_t vm = vm_add(memory, variant, 16 * MIB, GUESTRAM_REGION_NORESERVE);
    restore(memory, scratch("snapshot"), GUESTRAM_RESTORE_LAZY);
    REQUIRE(guestram_start(memory) == 0);
    unsigned good = 0, lost = 0;
    for (uint64_t at = 0; at < vm.length; at += vm.granule) {
        uint64_t value = 0;
        if (touch_read(vm.address + at, &value) == SIGBUS) {
            lost++;
            continue;
        }
        good++;
        CHECK_EQ(value, pattern_word(at, vm.granule, vm.seed));
    }
    CHECK_EQ(good, 3);
    CHECK_EQ(lost, 5);
    CHECK_EQ(guestram_wait_resident(memory, 1000), -EIO);
    vm_destroy(&vm);
}
TEST_HUGEPAGES(exhaustion_while_restoring_shared, 8) { exhaustion_while_restoring(&HUGETLB); }
TEST_HUGEPAGES(exhaustion_while_restoring_private, 8) { exhaustion_while_restoring(&HUGETLB_PRIVATE); }

TEST(pages_of_1_gib, .seconds = 120) {
    if (free_pages("1048576") == 0) SKIP("no free hugepage of 1 GiB, and none can be put together for certain while running");
    guestram_t *memory = NULL;
    REQUIRE(guestram_create(NULL, &memory) == 0);
    vm_t vm = vm_add(memory, &ANON, GIB, GUESTRAM_REGION_NORESERVE);
    CHECK_EQ(touch_write(vm.address + 5 * MIB, 55), 0);
    CHECK_EQ(touch_write(vm.address + GIB - 8, 66), 0);
    REQUIRE(guestram_save(memory, scratch("snapshot"), NULL) == 0);
    vm_destroy(&vm);

    uint64_t value = 0;
    uint32_t id;
    REQUIRE(guestram_create(NULL, &memory) == 0);
    guestram_region_options_t o = region_options(&HUGETLB, GIB);
    o.page_size = GIB;
    REQUIRE(guestram_region_add(memory, &o, &id) == 0);
    restore(memory, scratch("snapshot"), GUESTRAM_RESTORE_LAZY);
    REQUIRE(guestram_start(memory) == 0);
    vm = (vm_t){.memory = memory, .region = id, .variant = &HUGETLB, .fd = -1};
    vm.address = vm_info(&vm).host_address;
    CHECK_EQ(vm_info(&vm).granule, GIB);
    CHECK_EQ(touch_read(vm.address + GIB - 8, &value), 0);
    CHECK_EQ(value, 66);
    CHECK_EQ(touch_read(vm.address + 5 * MIB, &value), 0);
    CHECK_EQ(value, 55);
    CHECK_EQ(vm_stats(&vm).faults, 1);
    vm_destroy(&vm);
}
