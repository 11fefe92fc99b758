/* What the tests of the sandbox share: pools, and a seccomp filter of the VMM's own. */
#ifndef SANDBOX_POOL_H
#define SANDBOX_POOL_H

#include "support.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static inline int pool_create(uint32_t mode, guestram_pool_t **pool) {
    guestram_pool_options_t options = {.size = sizeof options, .workers = 3, .fillers = 1, .sandbox = mode};
    return guestram_pool_create(&options, pool);
}

static inline guestram_pool_t *pool_of(uint32_t mode) {
    guestram_probe_t probe = {.size = sizeof probe};
    guestram_pool_t *pool = NULL;
    REQUIRE(guestram_probe(&probe) == 0);
    if (mode != GUESTRAM_SANDBOX_OFF && !probe.seccomp) SKIP("this kernel has no seccomp filters");
    if (pool_create(mode, &pool) < 0) printf("pool_create: %s\n", guestram_error());
    REQUIRE(pool);
    return pool;
}

/* A filter of the VMM's: `action` on `number`, all else is allowed. */
static inline int filter(long number, uint32_t action, unsigned flags) {
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, action),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog fprog = {sizeof program / sizeof program[0], program};
    REQUIRE(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &fprog);
}

#endif
