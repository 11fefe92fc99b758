/* One memory from its creation to its end, every result and every byte looked at. A call that fails
 * says why, and does what it should when it is made again. */
#include "inject.h"
#include "../C/support_kvm.h"

#include <dirent.h>
#include <stdarg.h>
#include <sys/prctl.h>

enum { PAGES = 20 };

static struct {
    const variant_t *variant;
    told_t *told;
    guestram_pool_t *pool;
    guestram_t *memory;
    guestram_snapshot_t *snapshot;
    vm_t vm;
    uint32_t operations; /* of the region: 1 << GUESTRAM_OP_* */
    int kvm;             /* the VM that guest_memfd is made on */
    uint8_t *expected;
    size_t fds;
    bool poisoned; /* somebody met SIGBUS, or was told of an error by an event */
} run;

static void mark(enum phase phase) { prctl(PHASE_MARK, phase, 0, 0, 0); }

_Noreturn static void tell(outcome_t outcome) {
    run.told->outcome = outcome;
    _exit(0);
}

__attribute__((format(printf, 1, 2))) _Noreturn static void wrong(const char *format, ...) {
    char text[200], before[sizeof run.told->text];
    va_list arguments;
    mark(PAUSE);
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    memcpy(before, run.told->text, sizeof before);
    snprintf(run.told->text, sizeof run.told->text, "%s%s%.180s", text,
             before[0] ? "; before: " : "", before);
    tell(WRONG);
}
#define WRONG_IF(condition, ...) ((condition) ? wrong(__VA_ARGS__) : (void)0)

/* A refusal; the first is kept. */
static void refused(const char *call, int error) {
    WRONG_IF(!strerrorname_np(-error), "%s answers %d, which is no errno", call, error);
    WRONG_IF(!guestram_error()[0], "%s answers -%s without a message", call,
             strerrorname_np(-error));
    if (run.told->outcome == REFUSED)
        return;
    run.told->outcome = REFUSED;
    snprintf(run.told->text, sizeof run.told->text, "%s: -%s, %s", call, strerrorname_np(-error),
             guestram_error());
}

/* Made again after a failure it succeeds: nothing had been changed. */
#define ATTEMPT(call)                                                                              \
    do {                                                                                           \
        int error_ = (call);                                                                       \
        if (error_ < 0) {                                                                          \
            refused(#call, error_);                                                                \
            error_ = (call);                                                                       \
        }                                                                                          \
        WRONG_IF(error_ < 0, "made again, %.40s... answers %d: %s", #call, error_,                 \
                 guestram_error());                                                                \
    } while (0)

/* Nothing is left but what there was before. */
static void check_left(void) {
    mark(PAUSE);
    WRONG_IF(harness_fds() != run.fds, "%zu descriptors, %zu before", harness_fds(), run.fds);
    /* A joined thread stands in /proc for a moment longer. */
    for (unsigned i = 0; i < 1000 && harness_threads() != 1; i++)
        usleep(1000);
    WRONG_IF(harness_threads() != 1, "%zu threads", harness_threads());
    DIR *all = opendir(harness_dir());
    for (struct dirent *entry; (entry = readdir(all));)
        WRONG_IF(strstr(entry->d_name, ".tmp-"), "left behind: %s", entry->d_name);
    closedir(all);
}

_Noreturn static void no_pool(void) {
    check_left();
    tell(REFUSED);
}

static void create(void) {
    guestram_pool_options_t pool = {.size = sizeof pool, .workers = 2, .fillers = 1};
    guestram_options_t options = {.size = sizeof options, .window = 16 * KIB};
    guestram_region_options_t ram = region_options(run.variant, PAGES * run.variant->granule);
    guestram_slot_t slot = {.size = sizeof slot, .length = ram.length};
    /* Where it stays registered; guest_memfd need not be at all. */
    if (run.variant->type == GUESTRAM_SHMEM || run.variant->type == GUESTRAM_HUGETLB)
        ram.flags |= GUESTRAM_REGION_USERFAULT;
    ram.vm_fd = run.kvm;
    int error = guestram_pool_create(&pool, &run.pool);
    if (error < 0) {
        refused("guestram_pool_create", error);
        error = guestram_pool_create(&pool, &run.pool);
        /* libseccomp remembers what the kernel told it at first. */
        if (error == -ENOMEM && strstr(guestram_error(), "libseccomp"))
            no_pool();
    }
    WRONG_IF(error < 0, "made again, guestram_pool_create answers %d: %s", error, guestram_error());
    options.pool = run.pool;
    ATTEMPT(guestram_create(&options, &run.memory));
    ATTEMPT(guestram_region_add(run.memory, &ram, &run.vm.region));
    slot.region = run.vm.region;
    ATTEMPT(guestram_slot_add(run.memory, &slot));
    guestram_region_info_t info = {.size = sizeof info};
    ATTEMPT(guestram_region_info(run.memory, run.vm.region, &info));
    run.vm.address = info.host_address;
}

static void restore_it(void) {
    const void *state;
    size_t length;
    ATTEMPT(guestram_snapshot_open(scratch("saved"), &run.snapshot));
    ATTEMPT(guestram_restore(run.memory, run.snapshot, NULL));
    ATTEMPT(guestram_snapshot_state(run.snapshot, &state, &length));
    guestram_snapshot_close(run.snapshot);
}

static void check_page(unsigned page, const char *when) {
    uint64_t granule = run.variant->granule, value;
    uint8_t *at = run.vm.address + page * granule;
    if (touch_read(at, &value) == SIGBUS) {
        run.poisoned = true;
        return;
    }
    WRONG_IF(memcmp(at, run.expected + page * granule, granule) != 0,
             "%s: page %u is %#llx..., not %#llx", when, page, (unsigned long long)value,
             (unsigned long long)*(uint64_t *)(void *)(run.expected + page * granule));
}

static void check_all(const char *when) {
    for (unsigned page = 0; page < PAGES; page++)
        check_page(page, when);
}

static void write_page(unsigned page) {
    uint64_t *at = (uint64_t *)(void *)(run.vm.address + page * run.variant->granule);
    if (touch_write(at, page + 1) == SIGBUS)
        run.poisoned = true;
    else
        *(uint64_t *)(void *)(run.expected + page * run.variant->granule) = page + 1;
}

/* A call on a range of absent pages; what it has not done is as before. */
#define RANGE(call, what)                                                                          \
    do {                                                                                           \
        int error_ = (call);                                                                       \
        if (error_ < 0)                                                                            \
            refused(#call, error_);                                                                \
        if (error_ == 0) {                                                                         \
            what;                                                                                  \
        }                                                                                          \
    } while (0)

static bool has(uint32_t operation) { return run.operations & 1u << operation; }

static void copy_and_zero(void) {
    uint64_t granule = run.variant->granule, done = 0;
    uint8_t *at = run.expected, *source = at + 16 * granule; /* the pattern of other pages */
    int error = guestram_copy(run.memory, run.vm.region, 8 * granule, source, 0, &done);
    WRONG_IF(error != -EINVAL, "a copy of no length answers %d", error);
    error = guestram_copy(run.memory, run.vm.region, 8 * granule, source, 2 * granule, &done);
    if (error < 0)
        refused("guestram_copy", error);
    WRONG_IF(error == 0 && done != 2 * granule, "guestram_copy has done %llu",
             (unsigned long long)done);
    memcpy(at + 8 * granule, source, done);
    if (has(GUESTRAM_OP_ZEROPAGE))
        RANGE(guestram_zeropage(run.memory, run.vm.region, 10 * granule, granule, &done),
              memset(at + 10 * granule, 0, granule));
}

static void ranges(void) {
    uint64_t granule = run.variant->granule, dirty = 0;
    guestram_t *memory = run.memory;
    uint32_t region = run.vm.region;
    if (has(GUESTRAM_OP_COPY))
        copy_and_zero();
    int error = guestram_discard(memory, region, 12 * granule, 2 * granule);
    if (error < 0)
        refused("guestram_discard", error);
    /* What is served is marked before it is freed: it will not be brought any more. */
    if (error == 0 || run.operations)
        memset(run.expected + 12 * granule, 0, 2 * granule);
    RANGE(guestram_prefetch(memory, region, 14 * granule, 2 * granule), );
    if (!has(GUESTRAM_OP_WRITEPROTECT))
        return;
    error = guestram_writeprotect(memory, region, 0, 2 * granule, 1);
    if (error < 0)
        refused("guestram_writeprotect", error);
    write_page(1);
    RANGE(guestram_dirty_read(memory, region, 0, 2 * granule, &dirty, 1),
          WRONG_IF(error == 0 && !(dirty & 2) && !run.poisoned, "a write was not seen: %llx",
                   (unsigned long long)dirty));
}

static void events(void) {
    guestram_event_t event = {.size = sizeof event};
    while (guestram_next_event(run.memory, &event) == 0)
        if (event.type == GUESTRAM_EVENT_PAGE_ERROR)
            run.poisoned = true;
}

static void serve(void) {
    ATTEMPT(guestram_start(run.memory));
    guestram_region_info_t info = {.size = sizeof info};
    ATTEMPT(guestram_region_info(run.memory, run.vm.region, &info));
    run.operations = info.operations;
    check_page(0, "served"), check_page(3, "served"), check_page(5, "served");
    write_page(1), write_page(7);
    ranges();
    for (unsigned page = 0; page < 16; page++)
        check_page(page, "after ranges");
    RANGE(guestram_background_fill(run.memory, UINT64_MAX), );
    int error = guestram_wait_resident(run.memory, 3000);
    if (error < 0)
        refused("guestram_wait_resident", error);
    WRONG_IF(error == -ETIMEDOUT, "not resident after 3 s");
    check_all("resident");
    events();
}

static guestram_stats_t stats(void) {
    guestram_stats_t stats = {.size = sizeof stats};
    ATTEMPT(guestram_stats(run.memory, &stats));
    return stats;
}

/* What is in the file is what was in the memory. */
static void check_saved(const char *directory) {
    char path[600];
    guestram_snapshot_region_t region = {.size = sizeof region};
    guestram_snapshot_t *snapshot = opened(directory);
    WRONG_IF(guestram_snapshot_region(snapshot, 0, &region) < 0, "the snapshot has no region");
    guestram_snapshot_close(snapshot);
    snprintf(path, sizeof path, "%s/memory", directory);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    uint64_t length = PAGES * run.variant->granule;
    uint8_t *bytes = mmap(NULL, length, PROT_READ, MAP_SHARED, file, (off_t)region.file_offset);
    WRONG_IF(bytes == MAP_FAILED, "%s cannot be mapped", path);
    WRONG_IF(memcmp(bytes, run.expected, length) != 0, "the snapshot holds other bytes");
    munmap(bytes, length);
    close(file);
}

static void save(void) {
    const char *directory = scratch("again");
    guestram_save_options_t options = {.size = sizeof options, .state = "state", .state_length = 5};
    int error = guestram_save(run.memory, directory, &options);
    bool first = error == 0;
    if (error < 0) {
        refused("guestram_save", error);
        /* Renamed, and then the parent could not be synced: it is whole, and there. */
        if (access(directory, F_OK) == 0)
            error = 0;
        else
            error = guestram_save(run.memory, directory, &options);
    }
    mark(PAUSE);
    bool lost = stats().pages_poisoned > 0;
    WRONG_IF(error < 0 && !lost, "made again, guestram_save answers %d: %s", error,
             guestram_error());
    WRONG_IF(error == 0 && lost && first, "poisoned pages were saved");
    if (error == 0)
        check_saved(directory);
    check_all("after the save");
}

_Noreturn void drive(const variant_t *variant, told_t *told) {
    run.variant = variant;
    run.told = told;
    run.kvm = variant->type == GUESTRAM_GUEST_MEMFD ? guest_open().vm : -1;
    run.expected = malloc(PAGES * variant->granule);
    memset(run.expected, 0, PAGES * variant->granule);
    pattern_fill(run.expected, PAGES * variant->granule, variant->granule, VM_SEED);
    run.fds = harness_fds();
    mark(CREATE), create();
    mark(RESTORE), restore_it();
    mark(SERVE), serve();
    mark(SAVE), save();
    WRONG_IF(run.poisoned && stats().pages_poisoned == 0, "SIGBUS, and no page is poisoned");
    mark(DESTROY);
    guestram_destroy(run.memory);
    ATTEMPT(guestram_pool_destroy(run.pool));
    check_left();
    if (run.poisoned && told->outcome == HELD) {
        snprintf(told->text, sizeof told->text, "SIGBUS, and the page is poisoned");
        tell(REFUSED);
    }
    tell(told->outcome);
}

void drive_prepare(const variant_t *variant) {
    guestram_t *memory;
    guestram_save_options_t options = {.size = sizeof options, .state = "state", .state_length = 5};
    REQUIRE(guestram_create(NULL, &memory) == 0);
    vm_t vm = vm_add(memory, &ANON, PAGES * variant->granule, GUESTRAM_REGION_NORESERVE);
    pattern_fill(vm.address, vm.length, variant->granule, VM_SEED);
    REQUIRE(guestram_save(memory, scratch("saved"), &options) == 0);
    guestram_destroy(memory);
}
