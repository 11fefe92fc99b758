// What a thread needs to lock itself in: prctl, libcap, libseccomp, Landlock. >= 0, or -errno.
#ifndef CLINUX_SANDBOX_H
#define CLINUX_SANDBOX_H

#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/securebits.h>
#include <seccomp.h>
#include <sys/capability.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static inline int cl_prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d) {
    return cl_result(prctl(option, a, b, c, d));
}
static inline int cl_set_no_new_privs(void) { return cl_prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); }

// Capabilities, of the calling thread alone

// 1 when the thread's effective set holds it.
static inline int cl_cap_effective(cap_value_t capability) {
    cap_flag_value_t value = CAP_CLEAR;
    cap_t caps = cap_get_proc();
    if (!caps) return -errno;
    int r = cl_result(cap_get_flag(caps, capability, CAP_EFFECTIVE, &value));
    cap_free(caps);
    return r < 0 ? r : value == CAP_SET;
}
// Empties the effective, permitted, inheritable and ambient sets, and the bounding set where
// CAP_SETPCAP allows: after no_new_privs the bounding set is only a second bar.
// `none` is an empty set, of cap_init(), made by who starts the thread: an allocation here would
// give every worker a heap arena of its own.
static inline int cl_cap_drop_all(cap_t none) {
    for (unsigned long c = 0; c < (unsigned long)cap_max_bits(); c++) {
        int r = cl_prctl(PR_CAPBSET_DROP, c, 0, 0, 0);
        if (r == -EPERM) break; // no CAP_SETPCAP
        if (r < 0) return r;
    }
    int r = cl_prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    return r < 0 ? r : cl_result(cap_set_proc(none));
}

// seccomp: seccomp_init, seccomp_load, seccomp_release are called directly and answer -errno already.
// The conditions of one rule must all hold; seccomp_rule_add itself is variadic.

static inline int cl_scmp_rule_add0(scmp_filter_ctx filter, uint32_t action, int syscall_number) {
    return seccomp_rule_add_exact_array(filter, action, syscall_number, 0, NULL);
}
static inline int cl_scmp_rule_add1(scmp_filter_ctx filter, uint32_t action, int syscall_number,
                                    struct scmp_arg_cmp a) {
    return seccomp_rule_add_exact_array(filter, action, syscall_number, 1, &a);
}
static inline int cl_scmp_rule_add2(scmp_filter_ctx filter, uint32_t action, int syscall_number,
                                    struct scmp_arg_cmp a, struct scmp_arg_cmp b) {
    struct scmp_arg_cmp all[] = {a, b};
    return seccomp_rule_add_exact_array(filter, action, syscall_number, 2, all);
}
static inline struct scmp_arg_cmp cl_scmp_masked_equal(unsigned int argument, uint64_t mask, uint64_t value) {
    return (struct scmp_arg_cmp){argument, SCMP_CMP_MASKED_EQ, mask, value};
}
CL_CONST(uint32_t, SCMP_ACT_ALLOW);
CL_CONST(uint32_t, SCMP_ACT_KILL_PROCESS);

// Landlock. The attribute grew with the ABI; an older kernel takes the shorter prefix.

struct cl_landlock_ruleset_attr {
    uint64_t handled_access_fs;
    uint64_t handled_access_net; // ABI 4
    uint64_t scoped;             // ABI 6
};
_Static_assert(sizeof(struct cl_landlock_ruleset_attr) == 24, "landlock_ruleset_attr");

// The ABI version, or -ENOSYS, -EOPNOTSUPP where there is no Landlock.
static inline int cl_landlock_abi(void) {
    return cl_result((int)syscall(SYS_landlock_create_ruleset, NULL, (size_t)0, LANDLOCK_CREATE_RULESET_VERSION));
}
// The descriptor of a ruleset with no rule: it denies all that Landlock can deny at this ABI (as
// known up to 7).
static inline int cl_landlock_create_deny_all(int abi) {
    struct cl_landlock_ruleset_attr attr = {
        .handled_access_fs = ((uint64_t)1 << (abi < 2 ? 13 : abi < 3 ? 14 : abi < 5 ? 15 : 16)) - 1,
        .handled_access_net = 3,
        .scoped = 3,
    };
    size_t size = abi < 4 ? 8 : abi < 6 ? 16 : 24;
    return cl_result((int)syscall(SYS_landlock_create_ruleset, &attr, size, 0));
}
static inline int cl_landlock_restrict_self(int ruleset) {
    return cl_result((int)syscall(SYS_landlock_restrict_self, ruleset, 0));
}

// Securebits: no root, no set-user-ID fix-up, no kept and no ambient capabilities, all of it locked.
static const unsigned long CL_SECUREBITS_LOCKED =
    SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED |
    SECBIT_KEEP_CAPS_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;

// seccomp(2) itself: libseccomp keeps one listener for the whole process, and builds the program
// anew for each thread that loads it.

// For the calling thread. With SECCOMP_FILTER_FLAG_NEW_LISTENER the listener's descriptor.
static inline int cl_seccomp_set_filter(unsigned int flags, const void *program, unsigned short count) {
    struct sock_fprog fprog = {.len = count, .filter = (struct sock_filter *)(uintptr_t)program};
    return cl_result((int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &fprog));
}
CL_CONST(unsigned int, SECCOMP_FILTER_FLAG_SPEC_ALLOW);
CL_CONST(unsigned int, SECCOMP_FILTER_FLAG_NEW_LISTENER);
static const size_t CL_SOCK_FILTER_SIZE = sizeof(struct sock_filter);

// Takes the next notification, lets its system call fail with `error`, and tells the call's number.
// -ENOENT: its thread is gone. Room for what later kernels append to the structs.
static inline int cl_seccomp_notify_deny(int listener, int error, int *number) {
    union { struct seccomp_notif n; char room[512]; } taken = {.room = {0}};
    union { struct seccomp_notif_resp r; char room[512]; } answer = {.room = {0}};
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &taken) < 0) return -errno;
    answer.r.id = taken.n.id;
    answer.r.error = -error;
    *number = taken.n.data.nr;
    return cl_result(ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer));
}

#endif
