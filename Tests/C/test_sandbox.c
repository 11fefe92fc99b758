/*
 * The sandbox as its user sees it: the list, the layers, what /proc says of every thread, and the
 * traps. test_sandbox_hostile.c tries to get out.
 */
#include "sandbox_pool.h"

#include <dirent.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/capability.h>
#include <sys/wait.h>

#define ALL_LAYERS                                                                                \
    (GUESTRAM_SANDBOX_SIGNALS | GUESTRAM_SANDBOX_NO_NEW_PRIVS | GUESTRAM_SANDBOX_CAPABILITIES |   \
     GUESTRAM_SANDBOX_SECUREBITS | GUESTRAM_SANDBOX_LANDLOCK | GUESTRAM_SANDBOX_SECCOMP)
/* All but SIGKILL, SIGSTOP and glibc's own two, by which its setresuid() reaches every thread. */
#define SIGNALS_BLOCKED UINT64_C(0xfffffffe7ffbfeff)

static guestram_sandbox_info_t info_of(guestram_pool_t *pool) {
    guestram_sandbox_info_t info = {.size = sizeof info};
    REQUIRE(guestram_sandbox_info(pool, &info) == 0);
    return info;
}

static bool have_capability(int capability) {
    uint64_t effective = 0;
    char line[128];
    FILE *file = fopen("/proc/thread-self/status", "re");
    while (fgets(line, sizeof line, file)) sscanf(line, "CapEff: %" SCNx64, &effective);
    fclose(file);
    return effective >> capability & 1;
}

/* Runs the body in a child and gives its wait status. */
static int status_of_child(void (*body)(void)) {
    int status = -1;
    pid_t child = fork();
    if (child == 0) {
        body();
        _exit(0);
    }
    waitpid(child, &status, 0);
    return status;
}

/* ---- what one thread looks like to the kernel -- */

struct thread_state {
    char name[32];
    uint64_t blocked, inheritable, permitted, effective, bounding, ambient;
    int no_new_privs, seccomp;
};

static struct thread_state state_of(pid_t tid) {
    struct thread_state state = {.no_new_privs = -1, .seccomp = -1};
    char path[64], line[128];
    snprintf(path, sizeof path, "/proc/self/task/%d/status", tid);
    FILE *file = fopen(path, "re");
    REQUIRE(file);
    while (fgets(line, sizeof line, file)) {
        sscanf(line, "Name: %31s", state.name);
        sscanf(line, "SigBlk: %" SCNx64, &state.blocked);
        sscanf(line, "CapInh: %" SCNx64, &state.inheritable);
        sscanf(line, "CapPrm: %" SCNx64, &state.permitted);
        sscanf(line, "CapEff: %" SCNx64, &state.effective);
        sscanf(line, "CapBnd: %" SCNx64, &state.bounding);
        sscanf(line, "CapAmb: %" SCNx64, &state.ambient);
        sscanf(line, "NoNewPrivs: %d", &state.no_new_privs);
        sscanf(line, "Seccomp: %d", &state.seccomp);
    }
    fclose(file);
    return state;
}

static bool same_state(struct thread_state a, struct thread_state b) {
    return a.blocked == b.blocked && a.inheritable == b.inheritable && a.permitted == b.permitted &&
           a.effective == b.effective && a.bounding == b.bounding && a.ambient == b.ambient &&
           a.no_new_privs == b.no_new_privs && a.seccomp == b.seccomp;
}

/* Calls `check` for every worker and filler; how many there are. */
static int every_worker(void (*check)(struct thread_state state)) {
    int count = 0;
    DIR *tasks = opendir("/proc/self/task");
    REQUIRE(tasks);
    for (struct dirent *entry; (entry = readdir(tasks));) {
        if (entry->d_name[0] == '.') continue;
        struct thread_state state = state_of(atoi(entry->d_name));
        if (strcmp(state.name, "guestram/fault") != 0 && strcmp(state.name, "guestram/fill") != 0) continue;
        check(state);
        count++;
    }
    closedir(tasks);
    return count;
}

static void check_locked_in(struct thread_state state) {
    CHECK_EQ(state.blocked, SIGNALS_BLOCKED);
    CHECK_EQ(state.inheritable, 0);
    CHECK_EQ(state.permitted, 0);
    CHECK_EQ(state.effective, 0);
    CHECK_EQ(state.ambient, 0);
    if (have_capability(CAP_SETPCAP)) CHECK_EQ(state.bounding, 0);
    CHECK_EQ(state.no_new_privs, 1);
    CHECK_EQ(state.seccomp, 2);
}

static void check_only_signals(struct thread_state state) {
    struct thread_state ours = state_of(getpid());
    CHECK_EQ(state.blocked, SIGNALS_BLOCKED);
    ours.blocked = state.blocked;
    CHECK(same_state(state, ours));
}

/* ---- the list -- */

TEST(allowlist_is_the_one_in_review) {
    char text[4096], listed[4096], path[512];
    int length = guestram_sandbox_text(text, sizeof text);
    REQUIRE(length > 0 && (size_t)length < sizeof text);
    CHECK_EQ(strlen(text), length);
    snprintf(path, sizeof path, "%.*s../data/sandbox-allowlist.txt",
             (int)(strrchr(__FILE__, '/') - __FILE__ + 1), __FILE__);
    FILE *file = fopen(path, "re");
    if (!file) SKIP_LACKING("the source tree, with Tests/data/sandbox-allowlist.txt");
    listed[fread(listed, 1, sizeof listed - 1, file)] = 0;
    fclose(file);
    if (strcmp(text, listed) != 0) printf("in force:\n%s", text);
    CHECK(strcmp(text, listed) == 0);
}

TEST(allowlist_text_is_cut_and_terminated) {
    char text[8];
    memset(text, 'x', sizeof text);
    int length = guestram_sandbox_text(NULL, 0);
    CHECK_EQ(guestram_sandbox_text(text, 5), length);
    CHECK_EQ(strlen(text), 4);
    CHECK_EQ(text[5], 'x');
}

/* ---- the layers -- */

static void check_layers(uint32_t mode) {
    guestram_probe_t probe = {.size = sizeof probe};
    struct thread_state before = state_of(getpid());
    guestram_pool_t *pool = pool_of(mode);
    guestram_sandbox_info_t info = info_of(pool);
    uint32_t missing = 0;
    REQUIRE(guestram_probe(&probe) == 0);
    if (!have_capability(CAP_SETPCAP)) missing |= GUESTRAM_SANDBOX_SECUREBITS;
    if (probe.landlock_abi == 0) missing |= GUESTRAM_SANDBOX_LANDLOCK;
    CHECK_EQ(info.mode, mode);
    CHECK_EQ(info.missing, missing);
    CHECK_EQ(info.layers, ALL_LAYERS & ~missing);
    CHECK_EQ(info.landlock_abi, probe.landlock_abi);
    CHECK_EQ(every_worker(check_locked_in), 4);
    CHECK(same_state(state_of(getpid()), before));
    CHECK_EQ(guestram_pool_destroy(pool), 0);
}

TEST(workers_are_locked_in_and_the_vmm_is_not) { check_layers(GUESTRAM_SANDBOX_ENFORCE); }

TEST(log_mode_has_the_same_layers) { check_layers(GUESTRAM_SANDBOX_LOG); }

TEST(off_mode_blocks_signals_only) {
    guestram_pool_t *pool = pool_of(GUESTRAM_SANDBOX_OFF);
    guestram_sandbox_info_t info = info_of(pool);
    CHECK_EQ(info.mode, GUESTRAM_SANDBOX_OFF);
    CHECK_EQ(info.layers, GUESTRAM_SANDBOX_SIGNALS);
    CHECK_EQ(info.missing, 0);
    CHECK_EQ(every_worker(check_only_signals), 4);
    CHECK_EQ(guestram_pool_destroy(pool), 0);
}

TEST(a_kernel_without_landlock_is_told_not_refused) {
    REQUIRE(filter(SYS_landlock_create_ruleset, SECCOMP_RET_ERRNO | ENOSYS, 0) == 0);
    guestram_pool_t *pool = pool_of(GUESTRAM_SANDBOX_ENFORCE);
    guestram_sandbox_info_t info = info_of(pool);
    CHECK_EQ(info.landlock_abi, 0);
    CHECK(info.missing & GUESTRAM_SANDBOX_LANDLOCK);
    CHECK(!(info.layers & GUESTRAM_SANDBOX_LANDLOCK));
    CHECK_EQ(every_worker(check_locked_in), 4);
    CHECK_EQ(guestram_pool_destroy(pool), 0);
}

static void enforce_without_rights(void) {
    if (setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0) _exit(77);
    prctl(PR_SET_DUMPABLE, 1); /* else /proc/self/task is root's */
    REQUIRE(!have_capability(CAP_SETPCAP));
    check_layers(GUESTRAM_SANDBOX_ENFORCE);
}
TEST(no_rights_are_needed) {
    int status = status_of_child(enforce_without_rights);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) SKIP_LACKING("the right to become another user");
    CHECK_EQ(status, 0);
}

static void *own_state(void *state) {
    *(struct thread_state *)state = state_of((pid_t)syscall(SYS_gettid));
    return NULL;
}
TEST(threads_and_children_started_later_are_free) {
    guestram_pool_t *pool = pool_of(GUESTRAM_SANDBOX_ENFORCE);
    struct thread_state state = {0};
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, own_state, &state) == 0);
    pthread_join(thread, NULL);
    CHECK(same_state(state, state_of(getpid())));
    pid_t child = fork();
    if (child == 0) {
        CHECK_EQ(harness_threads(), 1);
        CHECK(same_state(state_of(getpid()), state));
        CHECK(open("/", O_RDONLY | O_CLOEXEC) >= 0);
        _exit(0);
    }
    int status = -1;
    waitpid(child, &status, 0);
    CHECK_EQ(status, 0);
    CHECK_EQ(guestram_pool_destroy(pool), 0);
}

TEST(pools_leave_no_descriptor_and_no_thread) {
    size_t fds = harness_fds(), threads = harness_threads();
    for (uint32_t mode = GUESTRAM_SANDBOX_ENFORCE; mode <= GUESTRAM_SANDBOX_OFF; mode++)
        CHECK_EQ(guestram_pool_destroy(pool_of(mode)), 0);
    CHECK_EQ(harness_fds(), fds);
    EVENTUALLY(harness_threads() <= threads); /* one that is joined is listed a moment longer */
}

/* ---- the traps of docs/threat-model.md -- */

static void handler(int number) { (void)number, (void)getppid(); }

TEST(a_signal_to_the_process_waits_for_a_thread_of_the_vmm) {
    guestram_pool_t *pool = pool_of(GUESTRAM_SANDBOX_ENFORCE);
    sigset_t term, pending;
    sigemptyset(&term), sigaddset(&term, SIGTERM);
    signal(SIGTERM, handler); /* whose getppid() would be the end in a worker */
    sigprocmask(SIG_BLOCK, &term, NULL);
    REQUIRE(kill(getpid(), SIGTERM) == 0);
    usleep(20000);
    sigpending(&pending);
    CHECK(sigismember(&pending, SIGTERM));
    sigprocmask(SIG_UNBLOCK, &term, NULL);
    CHECK_EQ(guestram_pool_destroy(pool), 0);
}

static void drop_rights_too_late(void) {
    pool_of(GUESTRAM_SANDBOX_ENFORCE);
    if (setresuid(getuid(), geteuid(), geteuid()) == 0) _exit(1);
}
TEST(setresuid_after_start_ends_the_process) {
    guestram_pool_destroy(pool_of(GUESTRAM_SANDBOX_ENFORCE)); /* skips where there is no seccomp */
    int status = status_of_child(drop_rights_too_late);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
}

TEST(a_tsync_filter_loads_before_start_and_not_after) {
    CHECK_EQ(filter(SYS_reboot, SECCOMP_RET_ERRNO | EPERM, SECCOMP_FILTER_FLAG_TSYNC), 0);
    guestram_pool_t *pool = pool_of(GUESTRAM_SANDBOX_ENFORCE);
    CHECK(filter(SYS_reboot, SECCOMP_RET_ERRNO | EPERM, SECCOMP_FILTER_FLAG_TSYNC) > 0); /* a worker's tid */
    CHECK_EQ(filter(SYS_reboot, SECCOMP_RET_ERRNO | EPERM, 0), 0);
    CHECK_EQ(guestram_pool_destroy(pool), 0);
}
