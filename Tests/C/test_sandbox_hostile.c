/*
 * What hostile code in a worker can do. The test stops a worker of the library as it is shipped,
 * by ptrace, and lets it make system calls of the test's choice: no hook in the library is needed,
 * and the filter that answers is the one in force.
 */
#include "support.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

#if defined(__x86_64__)

#include "sandbox_attempts.h"

/* Where a worker is sent to make a call. */
__asm__(".text\n"
        "gadget_syscall: syscall\n ud2\n" /* ud2: to see that it came back */
        "gadget_int80: int $0x80\n"
        "gadget_trap: ud2\n");
extern const char gadget_syscall[], gadget_int80[], gadget_trap[];

/* ---- the process with the worker -- */

static struct shared {
    struct aims aims;
    long on_main; /* what the attempt answered on the main thread */
    _Atomic long touched, wrong; /* pages */
} *shared;

static struct { pid_t pid, worker; int go[2], said[2]; } vmm;

static struct aims find_aims(void) {
    struct aims aims = {.other_process = getppid(), .uffd = -1};
    for (int base = 64, open; aims.block == 0 && base < 4096; base += 64) {
        for (open = 0; open < 64 && fcntl(base + open, F_GETFD) >= 0;) open++;
        if (open == 64) aims.block = base;
    }
    for (int fd = aims.block; aims.block && fd < aims.block + 64; fd++) {
        char path[64], link[64] = "";
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        if (readlink(path, link, sizeof link - 1) > 0 && strstr(link, "userfaultfd")) aims.uffd = fd;
    }
    aims.outside = fcntl(aims.uffd, F_DUPFD_CLOEXEC, aims.block + 64);
    return aims;
}

static void answer_attempt(const struct attempt *attempt) {
    const long *a = attempt->arguments;
    pid_t self = getpid();
    long result = syscall(attempt->number, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (getpid() != self) _exit(0); /* a child of fork, clone, ... */
    shared->on_main = result < 0 ? -errno : result;
}

/* Events go to the test by their number, until it says stop; then memory must be served as before. */
static void report_denied(vm_t *vm) {
    for (char stop; ; ) {
        struct pollfd fds[] = {{guestram_event_fd(vm->memory), POLLIN, 0}, {vmm.go[0], POLLIN, 0}};
        poll(fds, 2, -1);
        guestram_event_t event = {.size = sizeof event};
        while (guestram_next_event(vm->memory, &event) == 0)
            if (event.type == GUESTRAM_EVENT_DENIED)
                REQUIRE(write(vmm.said[1], &event.error, sizeof event.error) == sizeof event.error);
        if (fds[1].revents) {
            CHECK_EQ(read(vmm.go[0], &stop, 1), 1);
            return;
        }
    }
}

static void run_vmm(uint32_t mode, int index) {
    guestram_pool_options_t pool_options = {
        .size = sizeof pool_options, .workers = 1, .fillers = 1, .sandbox = mode};
    guestram_options_t options = {.size = sizeof options};
    guestram_t *memory;
    REQUIRE(guestram_pool_create(&pool_options, &options.pool) == 0);
    REQUIRE(guestram_create(&options, &memory) == 0);
    vm_t vm = vm_add(memory, &ANON, 16 * PAGE, GUESTRAM_REGION_USERFAULT);
    REQUIRE(guestram_start(memory) == 0);
    shared->aims = find_aims();
    if (index >= 0) {
        const struct attempt *attempt = &attempts(&shared->aims)[index];
        if (!attempt->compat && attempt->on_main != NOT_RUN) answer_attempt(attempt);
    }
    REQUIRE(write(vmm.said[1], "", 1) == 1);
    report_denied(&vm);
    uint64_t value;
    CHECK_EQ(touch_read(vm.address + PAGE, &value), 0);
    guestram_destroy(memory);
    CHECK_EQ(guestram_pool_destroy(options.pool), 0);
    _exit(0);
}

/* Reads a lazily restored memory page by page, and looks at each. */
static void run_reader(uint32_t mode, int pages) {
    guestram_pool_options_t pool_options = {.size = sizeof pool_options, .workers = 1, .sandbox = mode};
    guestram_options_t options = {.size = sizeof options, .window = PAGE};
    REQUIRE(guestram_pool_create(&pool_options, &options.pool) == 0);
    vm_t vm = vm_restored(&ANON, (uint64_t)pages, &options);
    REQUIRE(write(vmm.said[1], "", 1) == 1);
    for (uint64_t offset = 0; offset < vm.length; offset += PAGE) {
        uint64_t value = *(volatile uint64_t *)(void *)(vm.address + offset);
        shared->wrong += value != pattern_word(offset, vm.granule, vm.seed);
        shared->touched++;
        usleep(200);
    }
    _exit(0);
}

static pid_t find_worker(pid_t pid) {
    for (pid_t tid = pid; tid < pid + 64; tid++) {
        char path[64], name[32] = "";
        snprintf(path, sizeof path, "/proc/%d/task/%d/comm", pid, tid);
        FILE *file = fopen(path, "re");
        if (!file) continue;
        if (fgets(name, sizeof name, file) && strcmp(name, "guestram/fault\n") == 0) pid = -tid;
        fclose(file);
        if (pid < 0) return tid;
    }
    return -1;
}

static void start(void (*body)(uint32_t mode, int argument), uint32_t mode, int argument) {
    guestram_probe_t probe = {.size = sizeof probe};
    REQUIRE(guestram_probe(&probe) == 0);
    if (!probe.seccomp) SKIP("this kernel has no seccomp filters");
    if (probe.userfaultfd) SKIP_LACKING("no userfaultfd can be opened");
    if (!shared) shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memset(shared, 0, sizeof *shared);
    REQUIRE(pipe2(vmm.go, O_CLOEXEC) == 0 && pipe2(vmm.said, O_CLOEXEC) == 0);
    if ((vmm.pid = fork()) == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        body(mode, argument);
    }
    char byte;
    close(vmm.said[1]);
    REQUIRE(read(vmm.said[0], &byte, 1) == 1);
    REQUIRE((vmm.worker = find_worker(vmm.pid)) > 0);
}

/* A process with a memory; index >= 0: whose main thread has tried that attempt. */
static void start_vmm(uint32_t mode, int index) {
    start(run_vmm, mode, index);
    REQUIRE(shared->aims.block > 0 && shared->aims.uffd > 0 && shared->aims.outside > 0);
}

/* Its wait status. */
static int end_vmm(bool by_force) {
    int status = -1;
    if (by_force) kill(vmm.pid, SIGKILL);
    else CHECK_EQ(write(vmm.go[1], "", 1), 1);
    waitpid(vmm.worker, NULL, __WALL); /* ours only while it is traced */
    waitpid(vmm.pid, &status, 0);
    close(vmm.go[0]), close(vmm.go[1]), close(vmm.said[0]);
    return status;
}

/* ---- the worker in our hands -- */

static struct user_regs_struct seize_worker(void) {
    struct user_regs_struct regs;
    if (ptrace(PTRACE_SEIZE, vmm.worker, NULL, PTRACE_O_TRACESYSGOOD) < 0) {
        end_vmm(true);
        SKIP_LACKING("ptrace of a child of one's own is not allowed");
    }
    REQUIRE(ptrace(PTRACE_INTERRUPT, vmm.worker, NULL, NULL) == 0);
    REQUIRE(waitpid(vmm.worker, NULL, __WALL) == vmm.worker);
    REQUIRE(ptrace(PTRACE_GETREGS, vmm.worker, NULL, &regs) == 0);
    return regs;
}

static void let_worker_go(struct user_regs_struct regs) {
    /* A call that the kernel would restart by itself, were it not for our stop. */
    long result = (long)regs.rax;
    if ((long)regs.orig_rax >= 0 && result <= -512 && result >= -516) {
        regs.rax = regs.orig_rax;
        regs.rip -= 2;
    }
    REQUIRE(ptrace(PTRACE_SETREGS, vmm.worker, NULL, &regs) == 0);
    REQUIRE(ptrace(PTRACE_DETACH, vmm.worker, NULL, NULL) == 0);
}

/* The call's result, if the filter lets the worker live. */
static long inject(struct user_regs_struct regs, const struct attempt *attempt) {
    const long *a = attempt->arguments;
    regs.rip = (uintptr_t)(attempt->compat ? gadget_int80 : gadget_syscall);
    regs.orig_rax = (unsigned long long)-1;
    regs.rax = (unsigned long long)attempt->number;
    regs.rdi = (unsigned long long)a[0], regs.rsi = (unsigned long long)a[1];
    regs.rdx = (unsigned long long)a[2], regs.r10 = (unsigned long long)a[3];
    regs.r8 = (unsigned long long)a[4], regs.r9 = (unsigned long long)a[5];
    REQUIRE(ptrace(PTRACE_SETREGS, vmm.worker, NULL, &regs) == 0);
    for (int stop = 0; stop < 2; stop++) { /* before the filter sees it; after */
        int status;
        REQUIRE(ptrace(PTRACE_SYSCALL, vmm.worker, NULL, NULL) == 0);
        REQUIRE(waitpid(vmm.worker, &status, __WALL) == vmm.worker);
        REQUIRE(WIFSTOPPED(status) && WSTOPSIG(status) == (SIGTRAP | 0x80));
    }
    REQUIRE(ptrace(PTRACE_GETREGS, vmm.worker, NULL, &regs) == 0);
    return (long)regs.rax;
}

/* After inject(): whether the worker comes as far as the next instruction. */
static bool worker_lives(void) {
    int status;
    ptrace(PTRACE_CONT, vmm.worker, NULL, NULL);
    REQUIRE(waitpid(vmm.worker, &status, __WALL) == vmm.worker);
    return WIFSTOPPED(status);
}

static bool is_expected(long result, long expected) {
    return expected == ANSWERS || (expected == SUCCEEDS ? result >= 0 : result == expected);
}

/* ---- the tests -- */

TEST(enforce_kills_the_process_at_every_other_call, .seconds = 120) {
    struct aims none = {0};
    int count = 0, on_main = 0;
    for (; attempts(&none)[count].name; count++) {
        start_vmm(GUESTRAM_SANDBOX_ENFORCE, count);
        const struct attempt *attempt = &attempts(&shared->aims)[count];
        if (!attempt->compat && attempt->on_main != NOT_RUN) {
            on_main++;
            if (!is_expected(shared->on_main, attempt->on_main))
                harness_fail(__FILE__, __LINE__, "%s answers %ld on the main thread", attempt->name,
                             shared->on_main);
        }
        long result = inject(seize_worker(), attempt);
        bool lives = worker_lives();
        int status = end_vmm(lives);
        if (lives)
            harness_fail(__FILE__, __LINE__, "%s was let through: %ld", attempt->name, result);
        else if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
            harness_fail(__FILE__, __LINE__, "%s ended with status %#x", attempt->name, (unsigned)status);
    }
    printf("  %d calls, each killed a process in its worker; %d of them made on its main thread first\n",
           count, on_main);
    CHECK(count >= 60);
    CHECK(on_main >= 60);
}

TEST(log_fails_and_reports_every_other_call) {
    start_vmm(GUESTRAM_SANDBOX_LOG, -1);
    struct user_regs_struct regs = seize_worker();
    for (const struct attempt *attempt = attempts(&shared->aims); attempt->name; attempt++) {
        long result = inject(regs, attempt);
        int32_t number = -1;
        struct pollfd said = {vmm.said[0], POLLIN, 0};
        bool reported = poll(&said, 1, 5000) == 1 && read(vmm.said[0], &number, sizeof number) == sizeof number;
        if (result == -EPERM && reported && number == attempt->number) continue;
        harness_fail(__FILE__, __LINE__, "%s: answers %ld, reported %d, not %ld", attempt->name,
                     result, number, attempt->number);
        break;
    }
    let_worker_go(regs);
    CHECK_EQ(end_vmm(false), 0);
}

/* That the attempts above fail by the filter and not by the way they are made. */
TEST(what_is_on_the_list_passes) {
    start_vmm(GUESTRAM_SANDBOX_ENFORCE, -1);
    struct user_regs_struct regs = seize_worker();
    for (const struct attempt *attempt = allowed(&shared->aims); attempt->name; attempt++) {
        long result = inject(regs, attempt);
        if (!is_expected(result, attempt->on_main))
            harness_fail(__FILE__, __LINE__, "%s answers %ld", attempt->name, result);
    }
    let_worker_go(regs);
    CHECK_EQ(end_vmm(false), 0);
}

/* `end` stops a worker for good while a reader waits for it. */
static void check_end(void (*end)(struct user_regs_struct regs), int signal) {
    start(run_reader, GUESTRAM_SANDBOX_ENFORCE, 2000);
    EVENTUALLY(shared->touched >= 20);
    end(seize_worker());
    bool lives = worker_lives();
    int status = end_vmm(lives);
    CHECK(!lives);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == signal);
    CHECK(shared->touched < 2000);
    CHECK_EQ(shared->wrong, 0);
}

static void end_by_denied_call(struct user_regs_struct regs) {
    inject(regs, &(struct attempt){.name = "getpid", .number = SYS_getpid});
}
TEST(a_denied_call_ends_the_process_before_a_reader_sees_a_zero) { check_end(end_by_denied_call, SIGSYS); }

static void end_by_trap(struct user_regs_struct regs) {
    regs.rip = (uintptr_t)gadget_trap;
    regs.orig_rax = (unsigned long long)-1;
    REQUIRE(ptrace(PTRACE_SETREGS, vmm.worker, NULL, &regs) == 0);
    REQUIRE(ptrace(PTRACE_CONT, vmm.worker, NULL, NULL) == 0);
    int status;
    REQUIRE(waitpid(vmm.worker, &status, __WALL) == vmm.worker);
    REQUIRE(WIFSTOPPED(status) && WSTOPSIG(status) == SIGILL);
    REQUIRE(ptrace(PTRACE_CONT, vmm.worker, NULL, (void *)(uintptr_t)SIGILL) == 0);
}
TEST(a_trap_ends_the_process_before_a_reader_sees_a_zero) { check_end(end_by_trap, SIGILL); }

#else
TEST(hostile_worker) { SKIP("written for x86-64 registers"); }
#endif
