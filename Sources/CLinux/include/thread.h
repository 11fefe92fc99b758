// Threads, futexes and time: >= 0, or -errno.
#ifndef CLINUX_THREAD_H
#define CLINUX_THREAD_H

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

// The new thread starts with every signal blocked: a handler of the VMM's must not run in it.
// stack_bytes 0: the default size.
static inline int cl_thread_start(pthread_t *out, void *(*body)(void *), void *argument, size_t stack_bytes) {
    pthread_attr_t attr;
    sigset_t all, before;
    int r = pthread_attr_init(&attr);
    if (r) return -r;
    if (stack_bytes) r = pthread_attr_setstacksize(&attr, stack_bytes);
    if (!r) {
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        r = pthread_create(out, &attr, body, argument);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    pthread_attr_destroy(&attr);
    return -r;
}
static inline int cl_thread_join(pthread_t thread) { return -pthread_join(thread, NULL); }
// At most 15 characters.
static inline int cl_thread_set_name(const char *name) { return -pthread_setname_np(pthread_self(), name); }
static inline int cl_gettid(void) { return cl_result((int)syscall(SYS_gettid)); }
static inline void cl_sched_yield(void) { sched_yield(); }
// The calling thread's timers need not come together with others': the default is 50 us late.
static inline int cl_thread_set_exact_timers(void) { return cl_result(prctl(PR_SET_TIMERSLACK, 1L, 0L, 0L, 0L)); }
// For the calling thread alone, as Linux does it.
static inline int cl_thread_set_nice(int nice) {
    return cl_result(setpriority(PRIO_PROCESS, (id_t)cl_gettid(), nice));
}

// Process-private futexes. Answers 0 when woken (perhaps for no reason), -EAGAIN when *word was not
// `expected`, -ETIMEDOUT, -EINTR. timeout_ns < 0: none.
static inline int cl_futex_wait(const void *word, uint32_t expected, int64_t timeout_ns) {
    struct timespec ts = {.tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000};
    return cl_result((int)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected,
                                  timeout_ns < 0 ? NULL : &ts, NULL, 0));
}
static inline int cl_futex_wake(const void *word, int count) {
    return cl_result((int)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0));
}

// CLOCK_MONOTONIC
static inline uint64_t cl_now_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}
static inline int cl_sleep_ns(uint64_t ns) {
    struct timespec ts = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
    return -clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, NULL);
}

#endif
