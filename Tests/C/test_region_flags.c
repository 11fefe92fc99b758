/* What a region's flags and NUMA policy mean, seen in /proc/self/smaps and by get_mempolicy(). */
#include "support.h"

#include <sys/syscall.h>

#define MPOL_F_ADDR 2

/* The line of smaps that starts so, of the mapping at that address. */
static void smaps_line(const void *address, const char *start, char *line, int size) {
    unsigned long from, to;
    bool inside = false;
    FILE *file = fopen("/proc/self/smaps", "re");
    REQUIRE(file);
    while (fgets(line, size, file)) {
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2) inside = from <= (uintptr_t)address && (uintptr_t)address < to;
        else if (inside && strncmp(line, start, strlen(start)) == 0) break;
        line[0] = 0;
    }
    fclose(file);
}

static bool has_flag(const void *address, const char *flag) {
    char line[512];
    smaps_line(address, "VmFlags:", line, sizeof line);
    return strstr(line, flag) != NULL;
}

static long locked_kib(const void *address) {
    char line[512];
    smaps_line(address, "Locked:", line, sizeof line);
    return strtol(line + strcspn(line, "0123456789"), NULL, 10);
}

static vm_t restored_with(const variant_t *variant, guestram_region_options_t o) {
    guestram_options_t small_windows = {.size = sizeof small_windows, .window = 4096};
    need_variant(variant);
    return vm_restored_as(variant, &o, &small_windows, GUESTRAM_RESTORE_LAZY);
}

/* Locked once present; what is absent is neither locked nor filled with zeros by locking. */
static void locked_on_fault(const variant_t *variant) {
    guestram_region_options_t o = region_options(variant, 64 * PAGE);
    o.flags |= GUESTRAM_REGION_LOCKED;
    vm_t vm = restored_with(variant, o);
    uint64_t value;
    CHECK(has_flag(vm.address, " lo"));
    CHECK_EQ(vm_info(&vm).present, 0);
    CHECK_EQ(locked_kib(vm.address), 0);
    CHECK_EQ(touch_read(vm.address, &value), 0);
    CHECK_EQ(touch_read(vm.address + PAGE, &value), 0);
    CHECK_EQ(vm_info(&vm).present, 2);
    CHECK_EQ(locked_kib(vm.address), 8);
    CHECK_EQ(vm_mismatch(&vm), -1);
    CHECK_EQ(guestram_discard(vm.memory, vm.region, 0, PAGE), 0);
    CHECK(is_zero(vm.address, PAGE));
    vm_destroy(&vm);
}
TEST_SMALL_VARIANTS(locked_on_fault)

static void fork_advice(const variant_t *variant) {
    guestram_region_options_t o = region_options(variant, 64 * PAGE);
    vm_t vm = restored_with(variant, o);
    CHECK(has_flag(vm.address, " dc"));
    o.name = "forked";
    o.flags |= GUESTRAM_REGION_DOFORK;
    REQUIRE(guestram_region_add(vm.memory, &o, &vm.region) == 0);
    CHECK(!has_flag(vm_info(&vm).host_address, " dc"));
    vm_destroy(&vm);
}
TEST_SMALL_VARIANTS(fork_advice)

TEST(noreserve_is_not_accounted) {
    guestram_t *memory = NULL;
    REQUIRE(guestram_create(NULL, &memory) == 0);
    guestram_region_options_t o = region_options(&ANON, MIB);
    vm_t vm = {.memory = memory};
    REQUIRE(guestram_region_add(memory, &o, &vm.region) == 0);
    CHECK(has_flag(vm_info(&vm).host_address, " ac"));
    o.name = "overcommitted";
    o.flags |= GUESTRAM_REGION_NORESERVE;
    REQUIRE(guestram_region_add(memory, &o, &vm.region) == 0);
    CHECK(!has_flag(vm_info(&vm).host_address, " ac"));
    guestram_destroy(memory);
}

static void numa_policies(const variant_t *variant) {
    static const struct {
        uint32_t policy;
        int mode;
    } policies[] = {{GUESTRAM_POLICY_PREFERRED, 1}, {GUESTRAM_POLICY_BIND, 2}, {GUESTRAM_POLICY_INTERLEAVE, 3}};
    for (unsigned i = 0; i < 3; i++) {
        guestram_t *memory = NULL;
        guestram_region_options_t o = region_options(variant, MIB);
        vm_t vm = {0};
        int mode = -1;
        unsigned long nodes[16] = {0};
        o.policy = policies[i].policy;
        o.host_nodes = 1;
        REQUIRE(guestram_create(NULL, &memory) == 0);
        int error = guestram_region_add(memory, &o, &vm.region);
        if (error == -EOPNOTSUPP) SKIP("a kernel without NUMA");
        REQUIRE(error == 0);
        vm.memory = memory;
        CHECK_EQ(syscall(SYS_get_mempolicy, &mode, nodes, 1024UL, vm_info(&vm).host_address, MPOL_F_ADDR), 0);
        CHECK_EQ(mode & 0xff, policies[i].mode);
        CHECK_EQ(nodes[0], 1);
        guestram_destroy(memory);
    }
}
TEST_SMALL_VARIANTS(numa_policies)
