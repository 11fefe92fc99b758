/* The process whose memory is served goes away while faults are answered and pages are filled. From
 * then on the kernel says ESRCH: nobody may hang for it, crash, or keep its descriptor. */
#include "support.h"

#include <poll.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static guestram_options_t small_windows = {.size = sizeof(guestram_options_t), .window = 4096};

static uint64_t time_factor(void) {
    const char *factor = getenv("TEST_TIME_FACTOR");
    return factor ? (uint64_t)atoi(factor) : 1;
}

struct reader {
    const vm_t *vm;
    uint64_t from; /* reads from there on to the end, again and again */
    atomic_bool over;
    uint64_t longest_ns;
};

static void *reads(void *argument) {
    struct reader *reader = argument;
    const vm_t *vm = reader->vm;
    for (uint64_t at = reader->from; !atomic_load(&reader->over); usleep(50)) {
        uint64_t value = 0, begin = now_ns();
        CHECK_EQ(touch_read(vm->address + at, &value), 0);
        uint64_t took = now_ns() - begin;
        if (took > reader->longest_ns) reader->longest_ns = took;
        CHECK_EQ(value, pattern_word(at, vm->granule, vm->seed));
        at = at + PAGE < vm->length ? at + PAGE : reader->from;
    }
    return NULL;
}

/* ---- a forked child, whose userfaultfd was handed to the library -- */

#define GRANULES 4096u

enum way { EXITS, IS_KILLED, EXECS, WAYS };

/* With all threads on one CPU, a child that goes `first` is gone before anybody else gets to run. */
static void go_first(bool first) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    struct sched_param param = {.sched_priority = first};
    if (sched_setaffinity(0, sizeof one, &one) < 0 || sched_setscheduler(0, first ? SCHED_FIFO : SCHED_OTHER, &param) < 0)
        SKIP_LACKING("the right to SCHED_FIFO (CAP_SYS_NICE)");
}

_Noreturn static void live_and_end(const vm_t *vm, enum way way) {
    uint64_t value;
    alarm(10);
    if (way == EXECS) execl("/proc/self/exe", "test", "-l", "no such test", NULL);
    /* Absent: SIGBUS, as often as it is tried, until the signal comes. */
    for (uint64_t at = PAGE; way == IS_KILLED; at = (at + 2 * PAGE) % (vm->length / 2)) touch_read(vm->address + at, &value);
    _exit(way != EXITS);
}

static void child_goes_before_it_is_taken_care_of(const variant_t *variant) {
    need_variant(variant);
    if (!kernel_poisons()) SKIP("GUESTRAM_REGION_DOFORK needs UFFDIO_POISON");
    uint64_t value;
    guestram_t *memory = NULL;
    go_first(false);
    save_pattern(scratch("snapshot"), GRANULES * PAGE, PAGE, VM_SEED);
    REQUIRE(guestram_create(&small_windows, &memory) == 0);
    vm_t vm = vm_add(memory, variant, GRANULES * PAGE, GUESTRAM_REGION_DOFORK);
    restore(memory, scratch("snapshot"), GUESTRAM_RESTORE_LAZY);
    REQUIRE(guestram_start(memory) == 0);
    /* In the first half every other granule is absent: many steps for whoever answers for a child. */
    for (uint64_t at = 0; at < vm.length / 2; at += 2 * PAGE) CHECK_EQ(touch_read(vm.address + at, &value), 0);

    struct reader reader = {.vm = &vm, .from = vm.length / 2};
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, reads, &reader) == 0);
    size_t fds = harness_fds();
    unsigned gone_first = 0, children = is_quick() ? 15 : 60;
    for (unsigned i = 0; i < children; i++) {
        enum way way = i % WAYS;
        int status = 0;
        go_first(i % 2);
        pid_t child = fork();
        REQUIRE(child >= 0);
        if (child == 0) live_and_end(&vm, way);
        if (way == IS_KILLED) kill(child, SIGKILL);
        REQUIRE(waitpid(child, &status, 0) == child);
        gone_first += harness_fds() > fds;
        CHECK_EQ(status, way == IS_KILLED ? SIGKILL : 0);
        go_first(false);
        EVENTUALLY(harness_fds() == fds);
        REQUIRE(harness_fds() == fds);
    }
    atomic_store(&reader.over, true);
    pthread_join(thread, NULL);
    printf("%s: %u of %u children were gone first\n", variant->name, gone_first, children);
    CHECK(gone_first >= children / 4); /* or this tries nothing */
    CHECK(reader.longest_ns < UINT64_C(1000000000) * time_factor());
    CHECK(vm_stats(&vm).events_fork >= children);
    CHECK_EQ(vm_mismatch(&vm), -1);
    CHECK_EQ(vm_stats(&vm).pages_poisoned, 0);
    vm_destroy(&vm);
}
TEST_SMALL_VARIANTS(child_goes_before_it_is_taken_care_of)

/* ---- the VMM itself -- */

_Noreturn static void be_a_vmm(const variant_t *variant, int ready, bool exits) {
    static vm_t vm;
    static struct reader readers[4];
    vm = vm_restored(variant, 4096, &small_windows);
    for (unsigned i = 0; i < 4; i++) {
        pthread_t thread;
        readers[i] = (struct reader){.vm = &vm, .from = i * vm.length / 4};
        REQUIRE(pthread_create(&thread, NULL, reads, &readers[i]) == 0);
    }
    CHECK_EQ(guestram_background_fill(vm.memory, 32 * MIB), 0);
    CHECK_EQ(write(ready, "", 1), 1);
    usleep(3000);
    if (exits) exit(0); /* with every destructor, while the threads run on */
    for (;;) pause();
}

static void vmm_goes_while_it_is_served(const variant_t *variant) {
    need_variant(variant);
    save_pattern(scratch("snapshot"), 4096 * PAGE, PAGE, VM_SEED);
    for (unsigned i = 0; i < (is_quick() ? 10u : 30u); i++) {
        bool exits = i % 2;
        int ready[2], status = 0;
        char byte;
        REQUIRE(pipe2(ready, O_CLOEXEC) == 0);
        pid_t vmm = fork();
        REQUIRE(vmm >= 0);
        if (vmm == 0) be_a_vmm(variant, ready[1], exits);
        close(ready[1]);
        CHECK_EQ(read(ready[0], &byte, 1), 1);
        usleep(i * 500);
        if (!exits) kill(vmm, SIGKILL);
        struct pollfd end = {.fd = (int)syscall(SYS_pidfd_open, vmm, 0), .events = POLLIN};
        REQUIRE(poll(&end, 1, 2000 * (int)time_factor()) == 1);
        REQUIRE(waitpid(vmm, &status, 0) == vmm);
        CHECK_EQ(status, exits ? 0 : SIGKILL);
        close(end.fd), close(ready[0]);
    }
}
TEST_SMALL_VARIANTS(vmm_goes_while_it_is_served)
