#include "harness.h"
#include "harness_proc.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum outcome { NOTHING_YET, FAILED, SKIPPED };

/* Shared with the test's process and with what that forks. The first one to speak is heard. */
struct report {
    _Atomic int outcome;
    atomic_bool returned; /* the test's function came to its end */
    char text[1024];
};
static struct report *report;

static struct harness_test *tests, **tests_end = &tests;
static char directory[256];
static volatile sig_atomic_t interrupted;

void harness_register(struct harness_test *test) {
    *tests_end = test;
    tests_end = &test->next;
}

const char *harness_dir(void) { return directory; }

static bool is_set(const char *variable, const char *value) {
    const char *actual = getenv(variable);
    return actual && strcmp(actual, value) == 0;
}

/* ---------------------------------------------------------------------- within a test -- */

static void say(enum outcome outcome, const char *text) {
    int nothing = NOTHING_YET;
    if (atomic_compare_exchange_strong(&report->outcome, &nothing, outcome))
        snprintf(report->text, sizeof report->text, "%s", text);
    else if (outcome == FAILED)
        printf("  also: %s\n", text);
}

void harness_fail(const char *file, int line, const char *format, ...) {
    char text[sizeof report->text];
    const char *name = strrchr(file, '/');
    int length = snprintf(text, sizeof text, "%s:%d: ", name ? name + 1 : file, line);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + length, sizeof text - (size_t)length, format, arguments);
    va_end(arguments);
    say(FAILED, text);
}

_Noreturn static void leave(void) {
    fflush(NULL);
    _exit(0); /* the report says it all */
}

void harness_require(const char *file, int line, const char *text) {
    harness_fail(file, line, "%s", text);
    leave();
}

void harness_skip(const char *reason) {
    say(SKIPPED, reason);
    leave();
}

void harness_skip_lacking(const char *reason) {
    char text[sizeof report->text];
    if (!is_set("CI", "true"))
        harness_skip(reason);
    snprintf(text, sizeof text, "lacking, with CI=true: %s", reason);
    say(FAILED, text);
    leave();
}

static const char *errno_name(long long value) {
    const char *name = value < 0 && value > -4096 ? strerrorname_np((int)-value) : NULL;
    return name ? name : "";
}

void harness_check_eq(const char *file, int line, const char *a_text, const char *b_text,
                      long long a, long long b) {
    const char *a_name = errno_name(a), *b_name = errno_name(b);
    if (a != b)
        harness_fail(file, line, "%s == %s: %lld%s%s, not %lld%s%s", a_text, b_text, a,
                     a_name[0] ? " -" : "", a_name, b, b_name[0] ? " -" : "", b_name);
}

/* --------------------------------------------------------------------------- hugepages -- */

#define POOL "/sys/kernel/mm/hugepages/hugepages-2048kB/"

static long pool_read(const char *path) {
    long value = -1;
    FILE *file = fopen(path, "re");
    if (file && fscanf(file, "%ld", &value) != 1)
        value = -1;
    if (file)
        fclose(file);
    return value;
}

static long pool_usable(void) {
    return pool_read(POOL "free_hugepages") - pool_read(POOL "resv_hugepages");
}

static void pool_write(int pool, long pages) {
    if (dprintf(pool, "%ld\n", pages) < 0)
        fprintf(stderr, "nr_hugepages: %s\n", strerror(errno));
}

/* Returns the pool's descriptor, locked against other runners of this harness, and the size to
 * restore; -1 where there is no pool. It is the runner that restores: the test may crash. */
static int pool_grow(long pages, long *before) {
    int pool = open(POOL "nr_hugepages", O_RDWR | O_CLOEXEC);
    if (pool < 0 || flock(pool, LOCK_EX) < 0)
        return pool;
    *before = pool_read(POOL "nr_hugepages");
    long usable = pool_usable();
    if (usable < pages)
        pool_write(pool, *before + pages - usable);
    return pool;
}

/* -------------------------------------------------------------------------- the runner -- */

static void on_signal(int number) { interrupted = number; }

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *where) {
    (void)info, (void)type, (void)where;
    return remove(path);
}

_Noreturn static void run_child(const struct harness_test *test, const sigset_t *mask) {
    pid_t self = getpid();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGINT, SIG_DFL), signal(SIGTERM, SIG_DFL), signal(SIGHUP, SIG_DFL);
    sigprocmask(SIG_SETMASK, mask, NULL);
    long usable = test->hugepages ? pool_usable() : 0;
    if (usable < (long)test->hugepages) {
        char text[128];
        snprintf(text, sizeof text, "%u free 2 MiB hugepages; %ld could be had", test->hugepages,
                 usable);
        harness_skip_lacking(text);
    }
    test->run();
    if (getpid() != self) {
        say(FAILED, "a process that the test forked returned from the test");
        leave();
    }
    atomic_store(&report->returned, true);
    exit(0); /* not _exit: a leak checker has its say */
}

/* The failure that the way the process ended is, in `text`; "" if none. */
static void judge(int status, const char *left, char *text, size_t size) {
    text[0] = 0;
    if (WIFSIGNALED(status))
        snprintf(text, size, "ended by SIG%s (%s)", sigabbrev_np(WTERMSIG(status)),
                 strsignal(WTERMSIG(status)));
    else if (WEXITSTATUS(status) != 0)
        snprintf(text, size, "exited with status %d", WEXITSTATUS(status));
    else if (!report->returned && report->outcome == NOTHING_YET)
        snprintf(text, size, "exited before its end");
    else if (left[0])
        snprintf(text, size, "left a process behind: %s", left);
}

/* Runs it and prints its line. */
static enum outcome run(const struct harness_test *test, const sigset_t *mask) {
    const char *factor = getenv("TEST_TIME_FACTOR"), *place = getenv("TMPDIR");
    unsigned seconds = (test->seconds ? test->seconds : 60) * (unsigned)(factor ? atoi(factor) : 1);
    long pages_before = 0;
    int pool = test->hugepages ? pool_grow(test->hugepages, &pages_before) : -1;
    *report = (struct report){.outcome = NOTHING_YET};
    snprintf(directory, sizeof directory, "%s/guestram-test.XXXXXX", place ? place : "/tmp");
    if (!mkdtemp(directory))
        fprintf(stderr, "%s: %s\n", directory, strerror(errno));

    fflush(NULL);
    pid_t child = fork();
    if (child == 0)
        run_child(test, mask);
    int status = 0, pidfd = (int)syscall(SYS_pidfd_open, child, 0);
    struct pollfd ended = {.fd = pidfd, .events = POLLIN};
    struct timespec limit = {.tv_sec = seconds};
    bool late = ppoll(&ended, 1, &limit, mask) != 1;
    if (late) {
        if (!interrupted)
            print_threads(child);
        kill(child, SIGKILL);
    }
    waitpid(child, &status, 0);
    close(pidfd);
    const char *left = all_reaped(200) ? "" : kill_children();
    for (int i = 0; i < 25 && !all_reaped(200); i++)
        kill_children(); /* what a killed process leaves is ours too */
    if (pool >= 0) {
        if (pool_read(POOL "nr_hugepages") != pages_before)
            pool_write(pool, pages_before);
        close(pool);
    }
    nftw(directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);

    char text[128];
    judge(status, left, text, sizeof text);
    if (late)
        snprintf(text, sizeof text, interrupted ? "interrupted" : "no end after %u s", seconds);
    if (report->outcome == FAILED || text[0]) {
        const char *first = report->outcome == FAILED ? report->text : "";
        printf("FAIL %s: %s%s%s\n", test->name, first, first[0] && text[0] ? "; " : "", text);
        return FAILED;
    }
    if (report->outcome == SKIPPED)
        printf("skip %s: %s\n", test->name, report->text);
    else
        printf("ok %s\n", test->name);
    return (enum outcome)report->outcome;
}

static bool selected(const char *name, char **parts) {
    if (!*parts)
        return true;
    for (; *parts; parts++)
        if (strstr(name, *parts))
            return true;
    return false;
}

int main(int argc, char **argv) {
    bool list = argc > 1 && strcmp(argv[1], "-l") == 0;
    unsigned counts[3] = {0};
    sigset_t mask, signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT), sigaddset(&signals, SIGTERM), sigaddset(&signals, SIGHUP);
    sigprocmask(SIG_BLOCK, &signals, &mask);
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL), sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    setvbuf(stdout, NULL, _IOLBF, 0);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    report = mmap(NULL, sizeof *report, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (report == MAP_FAILED)
        return 2;

    for (struct harness_test *test = tests; test && !interrupted; test = test->next) {
        if (!selected(test->name, argv + 1 + list))
            continue;
        if (list) {
            printf("%s\n", test->name);
        } else if (test->slow && is_set("TEST_QUICK", "1")) {
            printf("skip %s: slow (TEST_QUICK=1)\n", test->name);
            counts[SKIPPED]++;
        } else {
            counts[run(test, &mask)]++;
        }
    }
    if (!list)
        printf("%u passed, %u failed, %u skipped\n", counts[NOTHING_YET], counts[FAILED],
               counts[SKIPPED]);
    return interrupted ? 128 + interrupted : counts[FAILED] > 0;
}
