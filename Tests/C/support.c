#include "support.h"

#include <setjmp.h>
#include <time.h>

bool is_quick(void) {
    const char *quick = getenv("TEST_QUICK");
    return quick && strcmp(quick, "1") == 0;
}

/* ---- variants -- */

const variant_t ANON = {"anon", GUESTRAM_ANON, 0, PAGE, false};
const variant_t SHMEM = {"shmem", GUESTRAM_SHMEM, 0, PAGE, false};
const variant_t SHMEM_PRIVATE = {"shmem private", GUESTRAM_SHMEM, GUESTRAM_REGION_PRIVATE, PAGE, false};
const variant_t HUGETLB = {"hugetlb", GUESTRAM_HUGETLB, 0, 2 * MIB, false};
const variant_t HUGETLB_PRIVATE = {"hugetlb private", GUESTRAM_HUGETLB, GUESTRAM_REGION_PRIVATE, 2 * MIB, false};
const variant_t HUGETLB_ANON = {"hugetlb anon", GUESTRAM_HUGETLB, GUESTRAM_REGION_PRIVATE, 2 * MIB, true};

void need_variant(const variant_t *variant) {
    twin_t twin;
    int error = twin_open(&twin, variant, variant->granule, GUESTRAM_MODE_MISSING);
    if (error < 0) {
        static char reason[128];
        snprintf(reason, sizeof reason, "userfaultfd on %s: %s", variant->name, strerror(-error));
        SKIP_LACKING(reason);
    }
    twin_close(&twin);
}

/* ---- patterns -- */

bool pattern_is_hole(uint64_t offset, uint64_t granule) { return offset / granule % 4 == 3; }

static uint64_t word(uint64_t offset, uint64_t seed) {
    uint64_t x = (offset / 8 + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ seed * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 29)) * UINT64_C(0x94d049bb133111eb);
    return (x ^ (x >> 32)) | 1; /* never zero: no page of the pattern looks like a hole */
}

uint64_t pattern_word(uint64_t offset, uint64_t granule, uint64_t seed) {
    return pattern_is_hole(offset, granule) ? 0 : word(offset, seed);
}

void pattern_fill(uint8_t *memory, uint64_t length, uint64_t granule, uint64_t seed) {
    for (uint64_t page = 0; page < length; page += PAGE) {
        if (pattern_is_hole(page, granule)) continue;
        for (uint64_t at = page; at < page + PAGE; at += 8) ((uint64_t *)(void *)memory)[at / 8] = word(at, seed);
    }
}

int64_t pattern_mismatch(const uint8_t *memory, uint64_t length, uint64_t granule, uint64_t seed) {
    for (uint64_t at = 0; at < length; at += 8) {
        uint64_t seen = ((const uint64_t *)(const void *)memory)[at / 8];
        if (seen == pattern_word(at, granule, seed)) continue;
        printf("at %#llx: %#llx, not %#llx\n", (unsigned long long)at, (unsigned long long)seen,
               (unsigned long long)pattern_word(at, granule, seed));
        return (int64_t)at;
    }
    return -1;
}

bool is_zero(const void *memory, uint64_t length) {
    const uint8_t *bytes = memory;
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, length - 1) == 0;
}

/* ---- one VM -- */

guestram_region_options_t region_options(const variant_t *variant, uint64_t length) {
    return (guestram_region_options_t){
        .size = sizeof(guestram_region_options_t), .name = "ram", .type = variant->type, .flags = variant->flags,
        .length = length, .page_size = variant->type == GUESTRAM_HUGETLB ? variant->granule : 0};
}

static void add_region(vm_t *vm, const guestram_region_options_t *options) {
    if (guestram_region_add(vm->memory, options, &vm->region) < 0) printf("region_add: %s\n", guestram_error());
    REQUIRE(vm->region != 0);
    vm->address = vm_info(vm).host_address;
}

vm_t vm_add(guestram_t *memory, const variant_t *variant, uint64_t length, uint32_t flags) {
    vm_t vm = {.memory = memory, .variant = variant, .fd = -1, .length = length, .granule = variant->granule, .seed = VM_SEED};
    guestram_region_options_t options = region_options(variant, length);
    options.flags |= flags;
    if (variant->callers) {
        REQUIRE(variant_map(variant, length, &vm.fd, &vm.address) == 0);
        options.host_address = vm.address;
        options.fd = vm.fd;
        if (vm.fd >= 0) options.flags |= GUESTRAM_REGION_FD;
    }
    add_region(&vm, &options);
    return vm;
}

static guestram_t *created(const guestram_options_t *options) {
    guestram_t *memory = NULL;
    if (guestram_create(options, &memory) < 0) printf("create: %s\n", guestram_error());
    REQUIRE(memory);
    return memory;
}

static void started(guestram_t *memory) {
    int error = guestram_start(memory);
    if (error < 0) printf("start: %s\n", guestram_error());
    REQUIRE(error == 0);
}

static void restore_pattern(const vm_t *vm, uint32_t mode) {
    const char *directory = scratch("snapshot");
    if (access(directory, F_OK) < 0) save_pattern(directory, vm->length, vm->granule, vm->seed);
    restore(vm->memory, directory, mode);
    started(vm->memory);
}

static vm_t restored(const variant_t *variant, uint64_t granules, const guestram_options_t *options, uint32_t flags) {
    need_variant(variant);
    vm_t vm = vm_add(created(options), variant, granules * variant->granule, flags);
    restore_pattern(&vm, GUESTRAM_RESTORE_LAZY);
    return vm;
}

vm_t vm_restored_as(const variant_t *variant, const guestram_region_options_t *region, const guestram_options_t *options,
                    uint32_t mode) {
    vm_t vm = {.memory = created(options), .variant = variant, .fd = -1, .length = region->length,
               .granule = variant->granule, .seed = VM_SEED};
    add_region(&vm, region);
    restore_pattern(&vm, mode);
    return vm;
}

vm_t vm_restored(const variant_t *variant, uint64_t granules, const guestram_options_t *options) {
    return restored(variant, granules, options, 0);
}

vm_t vm_tracked(const variant_t *variant, uint64_t granules, const guestram_options_t *options) {
    return restored(variant, granules, options, GUESTRAM_REGION_USERFAULT);
}

vm_t vm_empty(const variant_t *variant, uint64_t granules) {
    need_variant(variant);
    vm_t vm = vm_add(created(NULL), variant, granules * variant->granule, GUESTRAM_REGION_USERFAULT);
    started(vm.memory);
    return vm;
}

void vm_destroy(vm_t *vm) {
    guestram_destroy(vm->memory);
    if (vm->variant->callers) munmap(vm->address, vm->length);
    if (vm->fd >= 0) close(vm->fd);
    vm->memory = NULL;
}

int64_t vm_mismatch(const vm_t *vm) { return pattern_mismatch(vm->address, vm->length, vm->granule, vm->seed); }

guestram_stats_t vm_stats(const vm_t *vm) {
    guestram_stats_t before, stats = {.size = sizeof stats};
    REQUIRE(guestram_stats(vm->memory, &stats) == 0);
    for (unsigned i = 0; i < 200; i++) { /* a background fill does not stand still */
        before = stats;
        usleep(2000);
        REQUIRE(guestram_stats(vm->memory, &stats) == 0);
        if (memcmp(&before, &stats, sizeof stats) == 0) break;
    }
    return stats;
}

guestram_region_info_t vm_info(const vm_t *vm) {
    guestram_region_info_t info = {.size = sizeof info};
    vm_stats(vm);
    REQUIRE(guestram_region_info(vm->memory, vm->region, &info) == 0);
    return info;
}

void need_operation(const vm_t *vm, uint32_t operation) {
    static const char *const names[] = {"COPY", "ZEROPAGE", "CONTINUE", "POISON", "MOVE", "WRITEPROTECT"};
    static char reason[64];
    if (!(kernel_operations(vm->variant) & 1u << operation)) {
        snprintf(reason, sizeof reason, "this kernel has no %s for %s", names[operation], vm->variant->name);
        SKIP(reason);
    }
    REQUIRE(vm_info(vm).operations & 1u << operation);
}

/* ---- touches -- */

static _Thread_local sigjmp_buf *volatile landing;

static void on_refusal(int number) {
    if (landing) siglongjmp(*landing, number);
    signal(number, SIG_DFL);
}

__attribute__((constructor)) static void catch_refusals(void) {
    struct sigaction action = {.sa_handler = on_refusal};
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGSEGV, &action, NULL);
}

static int touch(void *address, bool write, uint64_t *value) {
    sigjmp_buf here;
    landing = &here;
    int refusal = sigsetjmp(here, 1);
    if (refusal) {
        landing = NULL;
        return refusal;
    }
    if (write)
        *(volatile uint64_t *)address = *value;
    else
        *value = *(const volatile uint64_t *)address;
    landing = NULL;
    return 0;
}

int touch_read(const void *address, uint64_t *value) { return touch((void *)(uintptr_t)address, false, value); }
int touch_write(void *address, uint64_t value) { return touch(address, true, &value); }

static void *touches(void *argument) {
    toucher_t *toucher = argument;
    toucher->result = touch(toucher->address, toucher->write, &toucher->value);
    atomic_store(&toucher->done, true);
    return NULL;
}

void toucher_start(toucher_t *toucher, void *address, bool write, uint64_t value) {
    *toucher = (toucher_t){.address = address, .write = write, .value = value};
    REQUIRE(pthread_create(&toucher->thread, NULL, touches, toucher) == 0);
}

bool toucher_join(toucher_t *toucher, int timeout_ms) {
    uint64_t until = now_ns() + (uint64_t)timeout_ms * 1000000;
    while (!atomic_load(&toucher->done)) {
        if (now_ns() >= until) return false;
        usleep(200);
    }
    return pthread_join(toucher->thread, NULL) == 0;
}

uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void fail_otherwise(void) {
    guestram_pool_t *pool;
    CHECK(guestram_pool_create(&(guestram_pool_options_t){.size = sizeof(guestram_pool_options_t), .workers = 4711}, &pool) < 0);
}

void check_says(const char *message, const char *word, const char *call) {
    if (!strcasestr(message, word)) printf("%s: \"%s\" does not say \"%s\"\n", call, message, word);
    CHECK(strcasestr(message, word) != NULL);
}
