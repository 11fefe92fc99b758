#include "inject.h"

#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

#if defined(__x86_64__)
#define NUMBER offsetof(struct user_regs_struct, orig_rax)
#define ANSWER offsetof(struct user_regs_struct, rax)
#else
#error "the registers of this machine are not known here"
#endif

/* PTRACE_GET_SYSCALL_INFO, which glibc's header and the kernel's do not both have. */
struct syscall_info {
    uint8_t op, pad[3];
    uint32_t arch;
    uint64_t ip, sp;
    struct {
        uint64_t number, arguments[6];
    } entry;
};
enum { ENTRY = 1, EXIT = 2 };
#define GET_SYSCALL_INFO ((enum __ptrace_request)0x420e)

static volatile sig_atomic_t late;
static void on_alarm(int number) { late = number; }

static unsigned count_of(result_t *result, place_t place) {
    for (unsigned i = 0; i < result->places; i++)
        if (memcmp(&result->records[i].place, &place, sizeof place) == 0)
            return ++result->records[i].count;
    REQUIRE(result->places < MOST_PLACES);
    result->records[result->places++] = (record_t){place, 1};
    return 1;
}

typedef struct state {
    result_t *result;
    const injection_t *injection;
    pid_t main, failing; /* failing: the thread whose call is being made to fail; 0: none */
    enum phase phase;
    unsigned seen;
    uint64_t argument; /* the failing call's third */
} state_t;

static bool is_here(const injection_t *injection, place_t place) {
    return injection->occurrence && memcmp(&injection->place, &place, sizeof place) == 0;
}

static bool is_performed(const injection_t *injection) {
    const row_t *row = call_row(injection->place.call);
    return row->performed == -1 || row->performed == injection->error;
}

static void on_entry(state_t *state, pid_t thread, const struct syscall_info *info) {
    const uint64_t *arguments = info->entry.arguments;
    if (info->entry.number == SYS_prctl && arguments[0] == PHASE_MARK) {
        state->phase = (enum phase)arguments[1];
        return;
    }
    if (state->phase == PAUSE)
        return;
    place_t place;
    memset(&place, 0, sizeof place); /* they are compared with their padding */
    place.call = call_of((long)info->entry.number, arguments);
    place.phase = state->phase;
    place.worker = thread != state->main;
    if (state->result->records)
        count_of(state->result, place);
    if (!is_here(state->injection, place) || ++state->seen != state->injection->occurrence)
        return;
    state->failing = thread;
    state->argument = arguments[2];
    if (!is_performed(state->injection))
        ptrace(PTRACE_POKEUSER, thread, NUMBER, SYS_sched_yield);
}

static void on_exit_(state_t *state, pid_t thread) {
    if (thread != state->failing)
        return;
    long result = call_row(state->injection->place.call)->result;
    ptrace(PTRACE_POKEUSER, thread, ANSWER, (long)-state->injection->error);
    if (result)
        ptrace(PTRACE_POKEDATA, thread, state->argument + (uint64_t)result,
               (long)-state->injection->error);
    state->failing = 0;
    state->result->reached = true;
}

static int on_stop(state_t *state, pid_t thread, int status) {
    int number = WSTOPSIG(status);
    if (number == (SIGTRAP | 0x80)) {
        struct syscall_info info;
        if (ptrace(GET_SYSCALL_INFO, thread, sizeof info, &info) > 0) {
            if (info.op == ENTRY)
                on_entry(state, thread, &info);
            if (info.op == EXIT)
                on_exit_(state, thread);
        }
        return 0;
    }
    return number == SIGSTOP || number == SIGTRAP ? 0 : number;
}

/* Where its threads are, before it is killed. */
static void describe_hang(pid_t child, char *text, size_t size) {
    char path[64], line[96];
    size_t length = (size_t)snprintf(text, size, "no end; threads wait in");
    for (pid_t thread = child; thread < child + 24 && length < size; thread++) {
        snprintf(path, sizeof path, "/proc/%d/task/%d/syscall", child, thread);
        FILE *file = fopen(path, "re");
        if (!file)
            continue;
        if (fgets(line, sizeof line, file))
            length += (size_t)snprintf(text + length, size - length, " [%.*s]",
                                       (int)strcspn(line, " \n"), line);
        fclose(file);
    }
}

static void judge(result_t *result, const told_t *told, int status) {
    if (WIFSIGNALED(status)) {
        result->outcome = CRASHED;
        snprintf(result->text, sizeof result->text, "ended by SIG%s%s%s",
                 sigabbrev_np(WTERMSIG(status)), told->text[0] ? " after: " : "", told->text);
    } else if (WEXITSTATUS(status) != 0) {
        result->outcome = CRASHED;
        snprintf(result->text, sizeof result->text, "exit %d", WEXITSTATUS(status));
    } else {
        result->outcome = told->outcome;
        snprintf(result->text, sizeof result->text, "%s", told->text);
    }
}

void trace(result_t *result, const variant_t *variant, const injection_t *injection, int seconds) {
    told_t *told =
        mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(told != MAP_FAILED);
    fflush(NULL);
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        drive(variant, told);
    }
    state_t state = {.result = result, .injection = injection, .main = child};
    int status = 0, last = 0;
    struct sigaction action = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &action, NULL);
    late = 0;
    alarm((unsigned)seconds);
    REQUIRE(waitpid(child, &status, 0) == child && WIFSTOPPED(status));
    ptrace(PTRACE_SETOPTIONS, child, 0,
           PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL);
    ptrace(PTRACE_SYSCALL, child, 0, 0);
    result->outcome = HELD;
    for (;;) {
        pid_t thread = waitpid(-1, &status, __WALL);
        if (late) {
            late = 0;
            result->outcome = HUNG;
            describe_hang(child, result->text, sizeof result->text);
            kill(child, SIGKILL);
        }
        if (thread < 0 && errno != EINTR)
            break;
        if (thread > 0 && WIFSTOPPED(status))
            ptrace(PTRACE_SYSCALL, thread, 0, on_stop(&state, thread, status));
        else if (thread == child)
            last = status;
    }
    alarm(0);
    if (result->outcome != HUNG)
        judge(result, told, last);
    munmap(told, sizeof *told);
}
