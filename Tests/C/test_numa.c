/* On which node the pages lie that a policy asked for, whoever brought them: a fault, the background
 * fill or the start. Needs two nodes, as scripts/test-kernels gives them to its machines. */
#include "support.h"

#include <linux/mempolicy.h>
#include <sys/syscall.h>

/* Node n has memory. */
static bool is_node(unsigned n) {
    char path[64], line[128];
    unsigned long kib = 0;
    snprintf(path, sizeof path, "/sys/devices/system/node/node%u/meminfo", n);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file) && sscanf(line, "Node %*u MemFree: %lu", &kib) != 1) {}
    if (file) fclose(file);
    return kib > 0;
}

enum way { FAULTS, BACKGROUND, EAGERLY, WAYS };
static const char *const way_names[] = {"by faults", "in the background", "eagerly"};

static vm_t filled(const variant_t *variant, uint64_t granules, uint32_t policy, uint64_t nodes, enum way way) {
    guestram_region_options_t o = region_options(variant, granules * variant->granule);
    vm_t vm = {.variant = variant, .fd = -1, .length = o.length, .granule = variant->granule, .seed = VM_SEED};
    if (access(scratch("snapshot"), F_OK) < 0) save_pattern(scratch("snapshot"), o.length, vm.granule, vm.seed);
    REQUIRE(guestram_create(NULL, &vm.memory) == 0);
    o.policy = policy;
    o.host_nodes = nodes;
    int error = guestram_region_add(vm.memory, &o, &vm.region);
    if (error < 0) printf("region_add: %s\n", guestram_error());
    REQUIRE(error == 0);
    restore(vm.memory, scratch("snapshot"), way == EAGERLY ? GUESTRAM_RESTORE_EAGER : GUESTRAM_RESTORE_LAZY);
    REQUIRE(guestram_start(vm.memory) == 0);
    vm.address = vm_info(&vm).host_address;
    if (way == BACKGROUND) {
        CHECK_EQ(guestram_background_fill(vm.memory, UINT64_MAX), 0);
        CHECK_EQ(guestram_wait_resident(vm.memory, 20000), 0);
    }
    CHECK_EQ(vm_mismatch(&vm), -1); /* and touches what eager filling left unmapped */
    return vm;
}

static void check_policy(const vm_t *vm, int mode, unsigned long nodes) {
    unsigned long seen[16] = {0};
    int seen_mode = -1;
    CHECK_EQ(syscall(SYS_get_mempolicy, &seen_mode, seen, 1024UL, vm->address, MPOL_F_ADDR), 0);
    CHECK_EQ(seen_mode & 0xff, mode);
    CHECK_EQ(seen[0], nodes);
}

/* How many granules with contents lie on node 0 and on node 1. Holes are the kernel's zero page. */
static void count_nodes(const vm_t *vm, uint64_t counts[2]) {
    counts[0] = counts[1] = 0;
    for (uint64_t at = 0; at < vm->length; at += vm->granule) {
        void *page = vm->address + at;
        int node = -1;
        if (pattern_is_hole(at, vm->granule)) continue;
        REQUIRE(syscall(SYS_move_pages, 0, 1UL, &page, NULL, &node, 0) == 0);
        REQUIRE(node == 0 || node == 1);
        counts[node]++;
    }
}

static void pages_lie_where_the_policy_says(const variant_t *variant) {
    static const struct {
        uint32_t policy;
        int mode;
        uint64_t nodes;
    } policies[] = {{GUESTRAM_POLICY_BIND, MPOL_BIND, 1 << 1},
                    {GUESTRAM_POLICY_BIND, MPOL_BIND, 1 << 0},
                    {GUESTRAM_POLICY_PREFERRED, MPOL_PREFERRED, 1 << 1},
                    {GUESTRAM_POLICY_INTERLEAVE, MPOL_INTERLEAVE, 3}};
    if (!is_node(1)) SKIP("this machine has one NUMA node");
    need_variant(variant);
    /* Anonymous memory may become three huge pages, and these are interleaved then. */
    uint64_t granules = variant->granule != PAGE ? 8 : variant->type == GUESTRAM_ANON ? 1536 : 256;
    uint64_t data = granules / 4 * 3, counts[2];
    for (unsigned i = 0; i < sizeof policies / sizeof policies[0] * WAYS; i++) {
        uint64_t nodes = policies[i / WAYS].nodes;
        vm_t vm = filled(variant, granules, policies[i / WAYS].policy, nodes, i % WAYS);
        check_policy(&vm, policies[i / WAYS].mode, nodes);
        count_nodes(&vm, counts);
        if (nodes == 3 ? counts[0] < data / 4 || counts[1] < data / 4 : counts[nodes - 1] != data) {
            printf("%s, policy %u on nodes %#llx, %s: %llu and %llu\n", variant->name, policies[i / WAYS].policy,
                   (unsigned long long)nodes, way_names[i % WAYS], (unsigned long long)counts[0], (unsigned long long)counts[1]);
            CHECK(!"the pages lie where the policy says");
        }
        vm_destroy(&vm);
    }
}
TEST_SMALL_VARIANTS(pages_lie_where_the_policy_says)
TEST_HUGEPAGES(pages_lie_where_the_policy_says_hugetlb, 32) { pages_lie_where_the_policy_says(&HUGETLB); }
TEST_HUGEPAGES(pages_lie_where_the_policy_says_hugetlb_private, 32) { pages_lie_where_the_policy_says(&HUGETLB_PRIVATE); }
