/* Every type × operation × state of the page: the library answers what the kernel answers to the
 * raw ioctl on a twin of the memory; where a type has no operation, the library refuses it. */
#include "support.h"

enum { HOLE, CACHED, MAPPED, POISONED, MARKED, MARKED_CACHED, STATES };
static const char *const state_names[] = {"hole", "cached", "mapped", "poisoned", "WP-marked hole", "WP-marked, cached"};
static const char *const operation_names[] = {"COPY", "ZEROPAGE", "CONTINUE", "POISON", "MOVE", "WRITEPROTECT"};

struct pair {
    vm_t vm, source;       /* the library's; MOVE's source is a second region */
    twin_t twin, raw_source;
    uint8_t *alias;        /* of the library's file */
    uint64_t g;
};

static struct pair pair_open(const variant_t *variant) {
    struct pair pair = {.g = variant->granule};
    pair.vm = vm_empty(variant, STATES);
    guestram_region_info_t info = vm_info(&pair.vm);
    REQUIRE(twin_open(&pair.twin, variant, STATES * pair.g, info.modes) == 0);
    if (info.fd >= 0) {
        pair.alias = mmap(NULL, pair.vm.length, PROT_READ | PROT_WRITE, MAP_SHARED, info.fd, (off_t)info.fd_offset);
        REQUIRE(pair.alias != MAP_FAILED);
    }
    if (variant->type == GUESTRAM_ANON) {
        guestram_region_options_t o = region_options(variant, pair.vm.length);
        pair.source = pair.vm;
        o.name = "source";
        REQUIRE(guestram_region_add(pair.vm.memory, &o, &pair.source.region) == 0);
        pair.source.address = vm_info(&pair.source).host_address;
        memset(pair.source.address, 1, pair.vm.length);
        pair.raw_source = (twin_t){.uffd = -1, .fd = -1, .length = pair.vm.length};
        REQUIRE(variant_map(variant, pair.vm.length, &pair.raw_source.fd, &pair.raw_source.address) == 0);
        memset(pair.raw_source.address, 1, pair.vm.length);
    }
    return pair;
}

static void pair_close(struct pair *pair) {
    if (pair->alias) munmap(pair->alias, pair->vm.length);
    vm_destroy(&pair->vm);
    twin_close(&pair->twin);
    if (pair->raw_source.address) twin_close(&pair->raw_source);
}

/* Brings both granules number `state` into that state; false where there is no such state. */
static bool prepare(struct pair *pair, unsigned state, const uint8_t *bytes) {
    uint64_t at = state * pair->g;
    uint32_t operations = vm_info(&pair->vm).operations;
    if (state == CACHED || state == MARKED_CACHED) {
        if (!pair->alias || !pair->twin.alias) return false;
        pair->alias[at] = 1;
        pair->twin.alias[at] = 1;
    }
    if (state == MAPPED) {
        CHECK_EQ(guestram_copy(pair->vm.memory, pair->vm.region, at, bytes, pair->g, NULL), 0);
        CHECK_EQ(raw_operation(pair->twin.uffd, GUESTRAM_OP_COPY, pair->twin.address + at, bytes, pair->g), 0);
    }
    if (state == POISONED) {
        if (!(operations & 1u << GUESTRAM_OP_POISON)) return false;
        CHECK_EQ(guestram_poison(pair->vm.memory, pair->vm.region, at, pair->g, NULL), 0);
        CHECK_EQ(raw_operation(pair->twin.uffd, GUESTRAM_OP_POISON, pair->twin.address + at, NULL, pair->g), 0);
    }
    if (state == MARKED || state == MARKED_CACHED) {
        if (!(operations & 1u << GUESTRAM_OP_WRITEPROTECT)) return false;
        CHECK_EQ(guestram_writeprotect(pair->vm.memory, pair->vm.region, at, pair->g, 1), 0);
        CHECK_EQ(raw_writeprotect(pair->twin.uffd, pair->twin.address + at, pair->g, true), 0);
    }
    return true;
}

static int library(struct pair *pair, uint32_t operation, uint64_t at, const uint8_t *bytes, uint64_t *done) {
    guestram_t *memory = pair->vm.memory;
    uint32_t region = pair->vm.region;
    switch (operation) {
    case GUESTRAM_OP_COPY: return guestram_copy(memory, region, at, bytes, pair->g, done);
    case GUESTRAM_OP_ZEROPAGE: return guestram_zeropage(memory, region, at, pair->g, done);
    case GUESTRAM_OP_CONTINUE: return guestram_continue(memory, region, at, pair->g, done);
    case GUESTRAM_OP_POISON: return guestram_poison(memory, region, at, pair->g, done);
    case GUESTRAM_OP_MOVE:
        return guestram_move(memory, region, at, pair->source.region ? pair->source.region : region,
                             pair->source.region ? at : (at + pair->g) % pair->vm.length, pair->g, done);
    default: {
        int error = guestram_writeprotect(memory, region, at, pair->g, 1);
        *done = error == 0 ? pair->g : 0;
        return error;
    }
    }
}

static void answers_as_the_kernel(const variant_t *variant) {
    need_variant(variant);
    uint8_t *bytes = calloc(1, variant->granule);
    REQUIRE(bytes);
    for (uint32_t operation = 0; operation <= GUESTRAM_OP_WRITEPROTECT; operation++) {
        struct pair pair = pair_open(variant);
        CHECK_EQ(vm_info(&pair.vm).operations, kernel_operations(variant));
        CHECK_EQ(vm_info(&pair.vm).modes, kernel_modes(variant));
        for (unsigned state = 0; state < STATES; state++) {
            uint64_t at = state * pair.g, done = 12345;
            if (!prepare(&pair, state, bytes)) continue;
            int answer = library(&pair, operation, at, bytes, &done), expected = -EOPNOTSUPP;
            if (kernel_operations(variant) & 1u << operation)
                expected = raw_operation(pair.twin.uffd, operation, pair.twin.address + at,
                                         operation == GUESTRAM_OP_MOVE ? pair.raw_source.address + at : bytes, pair.g);
            if (answer != expected)
                printf("%s, %s on %s: %d, the kernel %d (%s)\n", variant->name, operation_names[operation],
                       state_names[state], answer, expected, answer ? guestram_error() : "");
            CHECK_EQ(answer, expected);
            CHECK_EQ(done, answer == 0 ? pair.g : 0);
        }
        pair_close(&pair);
    }
    free(bytes);
}
TEST_SMALL_VARIANTS(answers_as_the_kernel)
TEST_HUGEPAGES(answers_as_the_kernel_hugetlb, 24) { answers_as_the_kernel(&HUGETLB); }
TEST_HUGEPAGES(answers_as_the_kernel_hugetlb_private, 24) { answers_as_the_kernel(&HUGETLB_PRIVATE); }
TEST_HUGEPAGES(answers_as_the_kernel_hugetlb_anon, 24) { answers_as_the_kernel(&HUGETLB_ANON); }

/* What the probe says is what the kernel takes for each type, whichever library made it. */
TEST_HUGEPAGES(probe_agrees_with_the_kernel, 2) {
    guestram_probe_t probe = {.size = sizeof probe};
    static const variant_t *const variants[] = {&ANON, &SHMEM, &HUGETLB};
    uint64_t features = 0;
    int uffd = raw_userfaultfd(&features);
    CHECK_EQ(guestram_probe(&probe), 0);
    CHECK_EQ(probe.userfaultfd, uffd < 0 ? uffd : 0);
    if (uffd < 0) SKIP_LACKING("userfaultfd");
    close(uffd);
    CHECK_EQ(probe.uffd_features & features, features);
    CHECK_EQ(probe.kernel_faults, 1);
    for (unsigned i = 0; i < 3; i++) {
        twin_t twin;
        int error = twin_open(&twin, variants[i], variants[i]->granule, kernel_modes(variants[i]));
        if (error == 0) twin_close(&twin);
        CHECK_EQ(error, 0);
        CHECK_EQ(probe.error[i], 0);
        CHECK_EQ(probe.modes[i], kernel_modes(variants[i]));
        CHECK_EQ(probe.operations[i], kernel_operations(variants[i]));
    }
}
