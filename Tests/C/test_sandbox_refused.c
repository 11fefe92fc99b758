/* What the user is told where the sandbox, or the descriptors for it, cannot be had. */
#include "sandbox_pool.h"

#include <sys/resource.h>

/* ---- the sandbox -- */

static void check_refused(uint32_t mode, int error, const char *word) {
    guestram_pool_t *pool = NULL;
    size_t fds = harness_fds(), threads = harness_threads();
    CHECK_FAILS(pool_create(mode, &pool), error, word);
    CHECK_EQ(harness_fds(), fds);
    EVENTUALLY(harness_threads() <= threads); /* one that is joined is listed a moment longer */
}

TEST(a_kernel_without_filters_is_named) {
    guestram_pool_destroy(pool_of(GUESTRAM_SANDBOX_ENFORCE));
    REQUIRE(filter(SYS_seccomp, SECCOMP_RET_ERRNO | ENOSYS, 0) == 0);
    check_refused(GUESTRAM_SANDBOX_ENFORCE, ENOSYS, "CONFIG_SECCOMP_FILTER");
    guestram_pool_destroy(pool_of(GUESTRAM_SANDBOX_OFF));
}

TEST(a_filter_of_the_vmm_against_capset_is_named) {
    guestram_pool_destroy(pool_of(GUESTRAM_SANDBOX_ENFORCE));
    REQUIRE(filter(SYS_capset, SECCOMP_RET_ERRNO | EPERM, 0) == 0);
    check_refused(GUESTRAM_SANDBOX_ENFORCE, EPERM, "capabilities could not be dropped");
}

TEST(a_filter_of_the_vmm_against_seccomp_is_named) {
    guestram_pool_destroy(pool_of(GUESTRAM_SANDBOX_ENFORCE));
    REQUIRE(filter(SYS_seccomp, SECCOMP_RET_ERRNO | EACCES, 0) == 0);
    check_refused(GUESTRAM_SANDBOX_ENFORCE, EACCES, "a filter of the VMM's own must allow it");
}

TEST(log_mode_beside_another_listener_is_refused) {
    guestram_pool_destroy(pool_of(GUESTRAM_SANDBOX_LOG));
    REQUIRE(filter(SYS_reboot, SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER) > 0);
    check_refused(GUESTRAM_SANDBOX_LOG, EBUSY, "GUESTRAM_SANDBOX_ENFORCE");
    guestram_pool_destroy(pool_of(GUESTRAM_SANDBOX_ENFORCE));
}

/* ---- the descriptors -- */

TEST(a_low_descriptor_limit_is_named) {
    struct rlimit limit = {.rlim_cur = 100, .rlim_max = 100};
    REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    check_refused(GUESTRAM_SANDBOX_ENFORCE, EMFILE, "RLIMIT_NOFILE (100)");
}

TEST(descriptors_in_the_way_are_left_alone) {
    int ours = fcntl(0, F_DUPFD_CLOEXEC, 100); /* in the middle of the first block of 64 */
    REQUIRE(ours >= 100 && ours < 128);
    guestram_pool_t *pool = pool_of(GUESTRAM_SANDBOX_ENFORCE), *second = pool_of(GUESTRAM_SANDBOX_ENFORCE);
    size_t before = harness_fds();
    CHECK(fcntl(ours, F_GETFD) >= 0);
    CHECK_EQ(close(ours), 0);
    CHECK_EQ(harness_fds(), before - 1);
    CHECK_EQ(guestram_pool_destroy(pool), 0);
    CHECK_EQ(guestram_pool_destroy(second), 0);
}

/* A memory that serves, or NULL where guestram_start() answers `error`. */
static guestram_t *served_by(guestram_pool_t *pool, int error, const char *word) {
    guestram_options_t options = {.size = sizeof options, .pool = pool};
    guestram_t *memory = NULL;
    REQUIRE(guestram_create(&options, &memory) == 0);
    vm_add(memory, &ANON, 4 * PAGE, GUESTRAM_REGION_USERFAULT);
    int result = guestram_start(memory);
    if (result == 0) return memory;
    check_says(guestram_error(), word, "guestram_start");
    CHECK_EQ(result, -error);
    guestram_destroy(memory);
    return NULL;
}

TEST(used_up_descriptors_are_named_and_come_back) {
    need_variant(&ANON);
    guestram_pool_options_t options = {.size = sizeof options, .workers = 1, .descriptors = 16};
    guestram_pool_t *pool;
    guestram_t *memories[16], *another;
    int count = 0;
    REQUIRE(guestram_pool_create(&options, &pool) == 0);
    size_t fds = harness_fds();
    while (count < 16 && (memories[count] = served_by(pool, EMFILE, "`descriptors`"))) count++;
    REQUIRE(count > 0 && count < 16);
    guestram_destroy(memories[--count]);
    CHECK((another = served_by(pool, 0, "")));
    guestram_destroy(another);
    while (count > 0) guestram_destroy(memories[--count]);
    CHECK_EQ(harness_fds(), fds);
    CHECK_EQ(guestram_pool_destroy(pool), 0);
}

TEST(a_limit_lowered_after_start_is_named) {
    need_variant(&ANON);
    size_t fds = harness_fds();
    guestram_pool_t *pool = pool_of(GUESTRAM_SANDBOX_ENFORCE);
    guestram_t *memory = served_by(pool, 0, "");
    struct rlimit before, low = {.rlim_cur = 64, .rlim_max = 64};
    REQUIRE(memory && getrlimit(RLIMIT_NOFILE, &before) == 0);
    low.rlim_max = before.rlim_max;
    REQUIRE(setrlimit(RLIMIT_NOFILE, &low) == 0);
    CHECK(!served_by(pool, EMFILE, "RLIMIT_NOFILE was lowered"));
    guestram_destroy(memory);
    REQUIRE(setrlimit(RLIMIT_NOFILE, &before) == 0);
    guestram_destroy(served_by(pool, 0, ""));
    CHECK_EQ(guestram_pool_destroy(pool), 0);
    CHECK_EQ(harness_fds(), fds);
}
