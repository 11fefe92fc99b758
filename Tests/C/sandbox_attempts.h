/*
 * What test_sandbox_hostile.c lets a worker try: calls that must be denied, each with what it
 * answers on a thread of the VMM's, and calls that are on the list. Arguments are harmless: where
 * a call is let through it fails, or changes nothing that outlives the test.
 */
#ifndef SANDBOX_ATTEMPTS_H
#define SANDBOX_ATTEMPTS_H

#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/kvm.h>
#include <linux/sched.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define SUCCEEDS LONG_MIN      /* any result >= 0 */
#define ANSWERS (LONG_MIN + 1) /* any result: it depends on the kernel's configuration or rights */
#define NOT_RUN (LONG_MIN + 2) /* on the main thread: it would end or confuse the test's process */

struct attempt {
    const char *name;
    long number, on_main, arguments[6];
    bool compat; /* by int 0x80, `number` is i386's */
};

/* Descriptors and processes to aim at. */
struct aims {
    int block;   /* the first of the workers' 64 descriptors; the last is a free one */
    int uffd;    /* in the block */
    int outside; /* the same userfaultfd, outside */
    pid_t other_process;
};

#define P(pointer) ((long)(uintptr_t)(pointer))
#define NOWHERE P("/nonexistent/guestram")
#define TRY(name, call, on_main, ...) {name, SYS_##call, on_main, {__VA_ARGS__}, false}
#define IOCTL(name, fd, request, on_main) TRY("ioctl " name, ioctl, on_main, fd, (long)(request), 0)

static const struct attempt *attempts(const struct aims *at) {
    static uint8_t page[4096] __attribute__((aligned(4096)));
    static struct iovec iov = {page, 8};
    static const uint64_t how[3], no_signals;
    static const struct timespec now;
    long spare = at->block + 63, uffd = at->uffd, outside = at->outside;
    const struct attempt list[] = {
        /* Files */
        TRY("open", open, SUCCEEDS, P("/dev/null"), O_RDWR),
        TRY("openat", openat, SUCCEEDS, AT_FDCWD, P("/"), O_RDONLY),
        TRY("openat /proc/self/mem", openat, SUCCEEDS, AT_FDCWD, P("/proc/self/mem"), O_RDWR),
        TRY("openat2", openat2, SUCCEEDS, AT_FDCWD, P("/"), P(how), sizeof how),
        TRY("creat", creat, -ENOENT, NOWHERE, 0600),
        TRY("open_by_handle_at", open_by_handle_at, ANSWERS, AT_FDCWD, 0, 0),
        TRY("name_to_handle_at", name_to_handle_at, ANSWERS, AT_FDCWD, NOWHERE, 0, 0, 0),
        TRY("stat", stat, SUCCEEDS, P("/"), P(page)),
        TRY("statx", statx, SUCCEEDS, AT_FDCWD, P("/"), 0, 0, P(page)),
        TRY("readlink", readlink, -ENOENT, NOWHERE, P(page), 8),
        TRY("access", access, SUCCEEDS, P("/"), R_OK),
        TRY("getdents64", getdents64, -EBADF, -1, P(page), 8),
        TRY("unlink", unlink, -ENOENT, NOWHERE),
        TRY("rename", rename, -ENOENT, NOWHERE, NOWHERE),
        TRY("mkdir", mkdir, -ENOENT, NOWHERE, 0700),
        TRY("mknod", mknod, -ENOENT, NOWHERE, S_IFCHR | 0600, 0x101),
        TRY("symlink", symlink, -ENOENT, P("x"), NOWHERE),
        TRY("link", link, -ENOENT, NOWHERE, NOWHERE),
        TRY("chmod", chmod, -ENOENT, NOWHERE, 0777),
        TRY("chown", chown, -ENOENT, NOWHERE, 0, 0),
        TRY("truncate", truncate, -ENOENT, NOWHERE, 0),
        TRY("ftruncate", ftruncate, -EBADF, -1, 0),
        TRY("chdir", chdir, -ENOENT, NOWHERE),
        /* Descriptors */
        TRY("close in the block", close, NOT_RUN, spare),
        TRY("close_range", close_range, -EINVAL, 2, 1, 0),
        TRY("dup", dup, SUCCEEDS, uffd),
        TRY("dup2 into the block", dup2, NOT_RUN, outside, spare),
        TRY("dup3", dup3, -EBADF, -1, 5, 0),
        TRY("fcntl", fcntl, SUCCEEDS, uffd, F_GETFL),
        TRY("pipe2", pipe2, SUCCEEDS, P(page), O_CLOEXEC),
        TRY("eventfd2", eventfd2, SUCCEEDS, 0, 0),
        TRY("epoll_create1", epoll_create1, SUCCEEDS, 0),
        TRY("epoll_ctl", epoll_ctl, -EBADF, -1, EPOLL_CTL_ADD, uffd, P(page)),
        TRY("timerfd_create", timerfd_create, SUCCEEDS, CLOCK_MONOTONIC, 0),
        TRY("signalfd4", signalfd4, SUCCEEDS, -1, P(&no_signals), 8, 0),
        TRY("inotify_init1", inotify_init1, ANSWERS, 0),
        TRY("fanotify_init", fanotify_init, ANSWERS, 0, 0),
        TRY("userfaultfd", userfaultfd, ANSWERS, 0),
        TRY("memfd_create", memfd_create, SUCCEEDS, P("x"), 0),
        TRY("memfd_secret", memfd_secret, ANSWERS, 0),
        TRY("read outside the block", read, -EAGAIN, outside, P(page), sizeof page),
        TRY("read below the block", read, ANSWERS, at->block - 1, P(page), 0),
        TRY("read standard input", read, ANSWERS, 0, P(page), 0),
        TRY("pread64 outside the block", pread64, ANSWERS, outside, P(page), 1, 0),
        TRY("preadv2 outside the block", preadv2, ANSWERS, outside, P(&iov), 1, 0, 0, 0),
        TRY("write standard output", write, SUCCEEDS, 1, P(page), 0),
        TRY("write descriptor -1", write, -EBADF, -1, P(page), 1),
        TRY("pwrite64 outside the block", pwrite64, ANSWERS, outside, P(page), 1, 0),
        TRY("readv in the block", readv, ANSWERS, spare, P(&iov), 1),
        TRY("writev in the block", writev, ANSWERS, spare, P(&iov), 1),
        TRY("preadv in the block", preadv, ANSWERS, spare, P(&iov), 1, 0, 0),
        TRY("lseek in the block", lseek, ANSWERS, spare, 0, SEEK_SET),
        TRY("fstat in the block", fstat, SUCCEEDS, spare, P(page)),
        TRY("epoll_pwait2 outside the block", epoll_pwait2, -EINVAL, outside, P(page), 1, P(&now), 0),
        TRY("epoll_wait", epoll_wait, -EINVAL, outside, P(page), 1, 0),
        TRY("epoll_pwait", epoll_pwait, 0, spare, P(page), 1, 0, 0),
        TRY("epoll_pwait2 with a signal mask", epoll_pwait2, SUCCEEDS, spare, P(page), 1, P(&now), P(&no_signals), 8),
        TRY("fadvise64 outside the block", fadvise64, ANSWERS, outside, 0, 4096, POSIX_FADV_WILLNEED),
        TRY("fadvise64 POSIX_FADV_DONTNEED", fadvise64, ANSWERS, spare, 0, 4096, POSIX_FADV_DONTNEED),
        TRY("poll", poll, SUCCEEDS, 0, 0, 0),
        TRY("ppoll with a signal mask", ppoll, SUCCEEDS, 0, 0, P(&now), P(&no_signals), 8),
        TRY("fallocate that allocates", fallocate, ANSWERS, spare, 0, 0, 4096),
        TRY("fallocate FALLOC_FL_COLLAPSE_RANGE", fallocate, ANSWERS, spare, 8, 0, 4096),
        TRY("fallocate outside the block", fallocate, ANSWERS, outside, 3, 0, 4096),
        TRY("sendfile", sendfile, -EBADF, -1, -1, 0, 1),
        TRY("splice", splice, -EBADF, -1, 0, -1, 0, 1, 0),
        TRY("vmsplice", vmsplice, -EBADF, -1, P(&iov), 1, 0),
        TRY("copy_file_range", copy_file_range, -EBADF, -1, 0, -1, 0, 1, 0),
        /* ioctls */
        IOCTL("UFFDIO_API", uffd, UFFDIO_API, ANSWERS),
        IOCTL("UFFDIO_REGISTER", uffd, UFFDIO_REGISTER, ANSWERS),
        IOCTL("UFFDIO_MOVE", uffd, 0xc028aa05u, ANSWERS),
        IOCTL("UFFDIO_RWPROTECT", uffd, 0xc018aa09u, ANSWERS),
        IOCTL("UFFDIO_SET_MODE", uffd, 0x4010aa0au, ANSWERS),
        IOCTL("an unknown number of userfaultfd's", uffd, 0xc020aa0bu, ANSWERS),
        IOCTL("USERFAULTFD_IOC_NEW", uffd, 0xaa00u, ANSWERS),
        IOCTL("UFFDIO_COPY outside the block", outside, UFFDIO_COPY, -EFAULT),
        IOCTL("UFFDIO_UNREGISTER outside the block", outside, UFFDIO_UNREGISTER, -EFAULT),
        IOCTL("TIOCSTI", 0, TIOCSTI, ANSWERS),
        IOCTL("TIOCSTI in the block", spare, TIOCSTI, ANSWERS),
        IOCTL("TIOCLINUX in the block", spare, TIOCLINUX, ANSWERS),
        IOCTL("FIONREAD in the block", spare, FIONREAD, ANSWERS),
        IOCTL("KVM_CREATE_VM", spare, KVM_CREATE_VM, ANSWERS),
        IOCTL("KVM_RUN", spare, KVM_RUN, ANSWERS),
        IOCTL("KVM_SET_USER_MEMORY_REGION", spare, KVM_SET_USER_MEMORY_REGION, ANSWERS),
        IOCTL("SECCOMP_IOCTL_NOTIF_SEND", spare, 0xc0182101u, ANSWERS),
        /* Sockets and queues */
        TRY("socket unix", socket, SUCCEEDS, AF_UNIX, SOCK_STREAM, 0),
        TRY("socket inet", socket, ANSWERS, AF_INET, SOCK_STREAM, 0),
        TRY("socketpair", socketpair, SUCCEEDS, AF_UNIX, SOCK_STREAM, 0, P(page)),
        TRY("connect", connect, -EBADF, -1, P(page), 16),
        TRY("bind", bind, -EBADF, -1, P(page), 16),
        TRY("sendmsg", sendmsg, -EBADF, -1, P(page), 0),
        TRY("recvmsg", recvmsg, -EBADF, -1, P(page), 0),
        TRY("shmget", shmget, ANSWERS, 0x67756573, 1, 0),
        TRY("msgget", msgget, ANSWERS, 0x67756573, 0),
        TRY("mq_open", mq_open, ANSWERS, P("nonexistent"), O_RDONLY),
        /* Memory */
        TRY("mmap", mmap, SUCCEEDS, 0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
        TRY("mmap PROT_EXEC", mmap, SUCCEEDS, 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
        TRY("mprotect PROT_EXEC", mprotect, SUCCEEDS, P(page), 4096, PROT_READ | PROT_WRITE | PROT_EXEC),
        TRY("pkey_mprotect", pkey_mprotect, ANSWERS, P(page), 4096, PROT_READ | PROT_WRITE, -1),
        TRY("mremap", mremap, -EINVAL, 1, 4096, 4096, 0),
        TRY("munmap", munmap, -EINVAL, 1, 4096),
        TRY("brk", brk, SUCCEEDS, 0),
        TRY("mlock", mlock, SUCCEEDS, P(page), 0),
        TRY("madvise MADV_FREE", madvise, SUCCEEDS, P(page), 0, MADV_FREE),
        TRY("madvise MADV_REMOVE", madvise, SUCCEEDS, P(page), 0, MADV_REMOVE),
        TRY("madvise MADV_HUGEPAGE", madvise, ANSWERS, P(page), 0, MADV_HUGEPAGE),
        TRY("madvise MADV_DOFORK", madvise, SUCCEEDS, P(page), 0, MADV_DOFORK),
        TRY("process_madvise", process_madvise, ANSWERS, -1, P(&iov), 1, MADV_COLD, 0),
        TRY("process_vm_readv", process_vm_readv, ANSWERS, at->other_process, P(&iov), 1, P(&iov), 1, 0),
        TRY("process_vm_writev", process_vm_writev, ANSWERS, at->other_process, P(&iov), 0, P(&iov), 0, 0),
        /* Processes, threads and signals */
        TRY("execve", execve, -ENOENT, NOWHERE, 0, 0),
        TRY("execveat", execveat, -ENOENT, AT_FDCWD, NOWHERE, 0, 0, 0),
        TRY("fork", fork, SUCCEEDS, 0),
        TRY("vfork", vfork, NOT_RUN, 0),
        TRY("clone", clone, SUCCEEDS, SIGCHLD, 0, 0, 0, 0),
        TRY("clone of a thread", clone, NOT_RUN, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD),
        TRY("clone3", clone3, -EINVAL, 0, 0),
        TRY("exit_group", exit_group, NOT_RUN, 0),
        TRY("getpid", getpid, SUCCEEDS, 0),
        TRY("kill another process", kill, SUCCEEDS, at->other_process, 0),
        TRY("kill all", kill, SUCCEEDS, -1, 0),
        TRY("tkill", tkill, SUCCEEDS, at->other_process, 0),
        TRY("tgkill", tgkill, SUCCEEDS, at->other_process, at->other_process, 0),
        TRY("rt_sigqueueinfo", rt_sigqueueinfo, ANSWERS, at->other_process, 0, 0),
        TRY("pidfd_open", pidfd_open, SUCCEEDS, at->other_process, 0),
        TRY("pidfd_getfd", pidfd_getfd, -EBADF, -1, 0, 0),
        TRY("pidfd_send_signal", pidfd_send_signal, -EBADF, -1, 0, 0, 0),
        TRY("ptrace", ptrace, -ESRCH, PTRACE_ATTACH, 0x3fffffff),
        TRY("rt_sigaction", rt_sigaction, SUCCEEDS, SIGUSR1, 0, 0, 8),
        TRY("rt_sigprocmask SIG_UNBLOCK", rt_sigprocmask, SUCCEEDS, SIG_UNBLOCK, P(&no_signals), 0, 8),
        TRY("rt_sigprocmask SIG_SETMASK", rt_sigprocmask, SUCCEEDS, SIG_SETMASK, P(&no_signals), 0, 8),
        TRY("rt_sigreturn", rt_sigreturn, NOT_RUN, 0),
        TRY("sigaltstack", sigaltstack, SUCCEEDS, 0, 0),
        TRY("futex FUTEX_CMP_REQUEUE", futex, ANSWERS, P(page), FUTEX_CMP_REQUEUE_PRIVATE, 0, 0, P(page), 0),
        TRY("futex FUTEX_LOCK_PI", futex, ANSWERS, P(page), FUTEX_TRYLOCK_PI_PRIVATE, 0, 0, 0, 0),
        TRY("futex FUTEX_WAIT of other processes", futex, -EAGAIN, P(page), FUTEX_WAIT, 1, 0, 0, 0),
        TRY("nanosleep", nanosleep, SUCCEEDS, P(&now), 0),
        TRY("sched_setaffinity", sched_setaffinity, ANSWERS, 0, 0, 0),
        TRY("setpriority", setpriority, SUCCEEDS, 0, 0, 0),
        TRY("prlimit64", prlimit64, SUCCEEDS, 0, 7, 0, 0),
        TRY("arch_prctl", arch_prctl, SUCCEEDS, 0x1003, P(page)),
        TRY("modify_ldt", modify_ldt, ANSWERS, 0, P(page), 8),
        TRY("personality", personality, SUCCEEDS, 0xffffffff),
        /* Rights and name spaces */
        TRY("setresuid", setresuid, SUCCEEDS, -1, -1, -1),
        TRY("setuid", setuid, SUCCEEDS, getuid()),
        TRY("capset", capset, -EFAULT, 0, 0),
        TRY("prctl", prctl, SUCCEEDS, PR_GET_DUMPABLE),
        TRY("seccomp", seccomp, ANSWERS, 2, 0, P(page)),
        TRY("landlock_create_ruleset", landlock_create_ruleset, ANSWERS, 0, 0, 1),
        TRY("unshare", unshare, SUCCEEDS, 0),
        TRY("setns", setns, -EBADF, -1, 0),
        TRY("mount", mount, ANSWERS, P("none"), NOWHERE, P("tmpfs"), 0, 0),
        TRY("umount2", umount2, ANSWERS, NOWHERE, 0),
        TRY("pivot_root", pivot_root, ANSWERS, NOWHERE, NOWHERE),
        TRY("chroot", chroot, -ENOENT, NOWHERE),
        TRY("fsopen", fsopen, ANSWERS, P("nonexistent"), 0),
        TRY("open_tree", open_tree, -ENOENT, AT_FDCWD, NOWHERE, 0),
        TRY("move_mount", move_mount, ANSWERS, -1, NOWHERE, -1, NOWHERE, 0),
        TRY("keyctl", keyctl, ANSWERS, 0, -3, 0),
        TRY("add_key", add_key, ANSWERS, 0, 0, 0, 0, 0),
        TRY("request_key", request_key, ANSWERS, 0, 0, 0, 0),
        /* The kernel itself */
        TRY("bpf", bpf, ANSWERS, 9999, 0, 0),
        TRY("perf_event_open", perf_event_open, ANSWERS, 0, 0, -1, -1, 0),
        TRY("io_uring_setup", io_uring_setup, ANSWERS, 0, 0),
        TRY("io_uring_enter", io_uring_enter, ANSWERS, -1, 0, 0, 0, 0, 0),
        TRY("io_uring_register", io_uring_register, ANSWERS, -1, 0, 0, 0),
        TRY("io_setup", io_setup, ANSWERS, 0, 0),
        TRY("init_module", init_module, ANSWERS, 0, 0, 0),
        TRY("finit_module", finit_module, ANSWERS, -1, P(""), 0),
        TRY("kexec_load", kexec_load, ANSWERS, 0, 0, 0, -1),
        TRY("reboot", reboot, ANSWERS, 0, 0, 0, 0),
        TRY("syslog", syslog, ANSWERS, 10, 0, 0),
        TRY("swapon", swapon, ANSWERS, NOWHERE, 0),
        TRY("iopl", iopl, ANSWERS, 0),
        TRY("an unknown number", getpid + 9000, -ENOSYS, 0),
        {"x32 read", 0x40000000 + SYS_read, ANSWERS, {spare, P(page), 0}, false},
        {"int 0x80 getpid", 20, NOT_RUN, {0}, true},
        {NULL, 0, 0, {0}, false},
    };
    static struct attempt result[sizeof list / sizeof list[0]];
    return memcpy(result, list, sizeof list);
}

static const struct attempt *allowed(const struct aims *at) {
    static uint8_t page[4096] __attribute__((aligned(4096)));
    static struct iovec iov = {page, 8};
    static const struct timespec now;
    long spare = at->block + 63, uffd = at->uffd;
    const struct attempt list[] = {
        IOCTL("UFFDIO_CONTINUE", uffd, 0xc020aa07u, -EFAULT),
        IOCTL("UFFDIO_COPY", uffd, UFFDIO_COPY, -EFAULT),
        IOCTL("UFFDIO_ZEROPAGE", uffd, UFFDIO_ZEROPAGE, -EFAULT),
        IOCTL("UFFDIO_WAKE", uffd, UFFDIO_WAKE, -EFAULT),
        IOCTL("UFFDIO_WRITEPROTECT", uffd, UFFDIO_WRITEPROTECT, -EFAULT),
        IOCTL("UFFDIO_POISON", uffd, 0xc020aa08u, ANSWERS), /* Linux 6.6 */
        IOCTL("UFFDIO_UNREGISTER", uffd, UFFDIO_UNREGISTER, -EFAULT),
        TRY("read", read, -EAGAIN, uffd, P(page), sizeof page),
        TRY("read, the descriptor's upper half ignored", read, -EAGAIN, uffd | 1L << 40, P(page), sizeof page),
        /* A number that is not in use leads nowhere. */
        TRY("read of a free number", read, -EINVAL, spare, P(page), sizeof page),
        TRY("write of a free number", write, -EINVAL, spare, P(page), 8),
        TRY("preadv2", preadv2, ANSWERS, spare, P(&iov), 1, 0, 0, 0),
        TRY("pread64", pread64, ANSWERS, spare, P(page), 8, 0),
        TRY("pwrite64", pwrite64, ANSWERS, spare, P(page), 8, 0),
        TRY("madvise MADV_POPULATE_READ", madvise, SUCCEEDS, P(page), 4096, MADV_POPULATE_READ),
        TRY("madvise MADV_POPULATE_WRITE", madvise, SUCCEEDS, P(page), 4096, MADV_POPULATE_WRITE),
        TRY("madvise MADV_DONTNEED", madvise, SUCCEEDS, P(page), 4096, MADV_DONTNEED),
        TRY("mincore", mincore, 0, P(page), 4096, P(page)),
        TRY("fallocate that punches", fallocate, ANSWERS, spare, 3, 0, 4096),
        TRY("futex FUTEX_WAIT_PRIVATE", futex, -EAGAIN, P(page), FUTEX_WAIT_PRIVATE, 1, 0, 0, 0),
        TRY("fadvise64 POSIX_FADV_WILLNEED", fadvise64, ANSWERS, spare, 0, 4096, POSIX_FADV_WILLNEED),
        TRY("epoll_pwait2", epoll_pwait2, 0, spare, P(page), 1, P(&now), 0),
        TRY("epoll_pwait2", epoll_pwait2, 0, spare, P(page), 1, P(&now), 0, 8),
        TRY("ppoll", ppoll, 0, 0, 0, P(&now), 0, 8),
        TRY("sched_yield", sched_yield, 0, 0),
        TRY("clock_nanosleep", clock_nanosleep, 0, CLOCK_MONOTONIC, 0, P(&now), 0),
        TRY("clock_gettime", clock_gettime, 0, CLOCK_MONOTONIC, P(page)),
        TRY("restart_syscall", restart_syscall, -EINTR, 0),
        TRY("rt_sigprocmask SIG_BLOCK", rt_sigprocmask, 0, SIG_BLOCK, 0, 0, 8),
        {NULL, 0, 0, {0}, false},
    };
    static struct attempt result[sizeof list / sizeof list[0]];
    return memcpy(result, list, sizeof list);
}

#undef P
#undef NOWHERE
#undef TRY
#undef IOCTL
#endif
