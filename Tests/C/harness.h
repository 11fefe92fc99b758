/*
 * A small test harness for C11. A test file includes it, is linked with harness.c, and reads:
 *
 *     TEST(zero_pages_read_zero) { CHECK_EQ(first_byte(), 0); }
 *     TEST(clones_share, .seconds = 120, .slow = true) { ... }
 *
 * Every test runs in a process of its own with a time limit. A crash, a signal, an early exit and
 * a process left behind are failures. The runner prints `ok NAME`, `FAIL NAME: file:line: text` or
 * `skip NAME: reason`, and at last `N passed, N failed, N skipped`; its status is 0 if none failed.
 *
 *     test_x [-l] [PART-OF-A-NAME...]      -l lists the names
 *
 * Environment: CI=true makes SKIP_LACKING a failure; TEST_QUICK=1 skips what is slow;
 * TEST_TIME_FACTOR=N multiplies time limits (emulated machines, sanitizers).
 */
#ifndef HARNESS_H
#define HARNESS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <stdbool.h>
#include <stddef.h>

struct harness_test {
    const char *name;
    void (*run)(void);
    unsigned hugepages; /* 2 MiB pages that are free while it runs; the pool is restored after */
    unsigned seconds;   /* its time limit; 0: 60 */
    bool slow;
    struct harness_test *next;
};

/* TEST(name) or TEST(name, .member = value, …) { body } */
#define TEST(...) HARNESS_TEST(__VA_ARGS__, .next = NULL)
#define TEST_HUGEPAGES(name_, pages) TEST(name_, .hugepages = (pages))

#define HARNESS_TEST(name_, ...)                                                                   \
    static void test_##name_(void);                                                                \
    __attribute__((constructor)) static void register_##name_(void) {                              \
        static struct harness_test test = {.name = #name_, .run = test_##name_, __VA_ARGS__};      \
        harness_register(&test);                                                                   \
    }                                                                                              \
    static void test_##name_(void)

/* CHECK goes on after a failure, REQUIRE ends the test. Both may be used from any thread, and from
 * a process that the test forked. */
#define CHECK(condition)                                                                           \
    ((condition) ? (void)0 : harness_fail(__FILE__, __LINE__, "%s", #condition))
#define REQUIRE(condition) ((condition) ? (void)0 : harness_require(__FILE__, __LINE__, #condition))

/* Two integers that fit a long long; results of -errno are named. */
#define CHECK_EQ(a, b) harness_check_eq(__FILE__, __LINE__, #a, #b, (long long)(a), (long long)(b))

/* SKIP: no machine could pass (a kernel without the feature). SKIP_LACKING: this one could, and
 * lacks it (a right, hugepages, a package): with CI=true that is a failure. Both end the test. */
#define SKIP(reason) harness_skip(reason)
#define SKIP_LACKING(reason) harness_skip_lacking(reason)

/* The running test's own directory; what is in it is removed after. */
const char *harness_dir(void);

/* Of this process. */
size_t harness_fds(void);
size_t harness_threads(void);
size_t harness_mappings(void);
size_t harness_rss_kib(void);

void harness_register(struct harness_test *test);
void harness_fail(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void harness_check_eq(const char *file, int line, const char *a_text, const char *b_text,
                      long long a, long long b);
_Noreturn void harness_require(const char *file, int line, const char *text);
_Noreturn void harness_skip(const char *reason);
_Noreturn void harness_skip_lacking(const char *reason);

#endif
