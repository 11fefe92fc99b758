/* Which errnos a call may answer here, from its man page and the kernel's source. Not those that
 * would be a lie about the state of things (ENOENT for memory that is mapped). */
#include "inject.h"

#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/userfaultfd.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "../../Sources/CLinux/include/CLinux.h"

#define ANY ULONG_MAX
#define ROW(name, ...)                                                                             \
    { {SYS_##name, ANY}, {__VA_ARGS__}, 0, 0 }
#define SILENT(name)                                                                               \
    { {SYS_##name, ANY}, {0}, 0, 0 }
#define SUB(name, detail, ...)                                                                     \
    { {SYS_##name, detail}, {__VA_ARGS__}, 0, 0 }

#define IOCTL(request, performed, result, ...)                                                     \
    { {SYS_ioctl, request}, {__VA_ARGS__}, performed, result }

/* The first that fits. */
static const row_t rows[] = {
    /* descriptors */
    ROW(openat, EMFILE, ENFILE, EACCES, EINTR),
    ROW(dup3, EMFILE, EBUSY, EINTR),
    ROW(dup, EMFILE),
    ROW(pipe2, EMFILE, ENFILE),
    {{SYS_close, ANY}, {EIO, EINTR}, -1, 0},
    SUB(fcntl, F_GETFL, 0),
    SUB(fcntl, F_GETFD, 0),
    SUB(fcntl, F_SETFD, 0),
    SUB(fcntl, F_SETFL, 0),
    SUB(fcntl, F_ADD_SEALS, EBUSY, EPERM),
    SUB(fcntl, F_GET_SEALS, EINVAL),
    ROW(fcntl, EMFILE),
    ROW(memfd_create, EMFILE, ENFILE, ENOMEM),
    ROW(eventfd2, EMFILE, ENFILE, ENOMEM),
    ROW(userfaultfd, EPERM, ENOSYS, ENFILE, ENOMEM),
    ROW(epoll_create1, EMFILE, ENFILE, ENOMEM),
    ROW(epoll_ctl, ENOMEM, ENOSPC),
    ROW(epoll_wait, EINTR),
    ROW(epoll_pwait2, EINTR),
    ROW(poll, EINTR, ENOMEM),
    ROW(ppoll, EINTR, ENOMEM),
    /* contents and files */
    ROW(read, EINTR, EIO, EAGAIN),
    ROW(pread64, EIO, EINTR),
    SILENT(write), /* to eventfds alone */
    ROW(preadv2, EAGAIN, EIO, EOPNOTSUPP, ENOSYS),
    ROW(pwrite64, ENOSPC, EIO, EINTR),
    ROW(lseek, EINVAL, EIO),
    ROW(fsync, EIO, ENOSPC),
    ROW(fdatasync, EIO, ENOSPC),
    ROW(ftruncate, EFBIG, EIO, EINTR),
    ROW(fallocate, ENOSPC, EOPNOTSUPP, EINTR),
    ROW(fadvise64, EINVAL),
    {{CL_SYS_CACHESTAT, ANY}, {ENOSYS, EPERM, EOPNOTSUPP}, 0, 0},
    ROW(newfstatat, EIO, ENOMEM),
    ROW(fstat, EIO),
    ROW(fstatfs, EIO),
    ROW(statx, EIO),
    ROW(access, EACCES),
    ROW(readlink, EACCES),
    ROW(readlinkat, EACCES),
    ROW(mkdir, ENOSPC, EACCES),
    ROW(mkdirat, ENOSPC, EACCES),
    ROW(unlink, EIO),
    ROW(unlinkat, EIO),
    ROW(rmdir, EIO),
    ROW(rename, EIO, ENOSPC),
    ROW(renameat2, EIO, EINVAL),
    ROW(getdents64, EIO, ENOMEM),
    /* memory */
    ROW(mmap, ENOMEM),
    ROW(munmap, ENOMEM),
    ROW(mprotect, ENOMEM),
    ROW(mlock2, ENOMEM, EPERM),
    SILENT(brk),
    ROW(mbind, ENOMEM, EPERM),
    ROW(set_mempolicy, EINVAL),
    ROW(mincore, EAGAIN, ENOMEM),
    SUB(madvise, MADV_POPULATE_READ, ENOMEM, EFAULT, EINVAL, EAGAIN),
    SUB(madvise, MADV_POPULATE_WRITE, ENOMEM, EFAULT, EINVAL, EAGAIN),
    ROW(madvise, ENOMEM, EINVAL, EAGAIN),
    /* threads and the sandbox */
    ROW(clone3, EAGAIN, ENOMEM),
    ROW(clone, EAGAIN),
    ROW(sched_setscheduler, EPERM),
    ROW(setpriority, EACCES, EPERM),
    ROW(capset, EPERM),
    ROW(capget, EPERM),
    ROW(prctl, EPERM, EINVAL),
    ROW(seccomp, EINVAL, ENOMEM, EPERM),
    ROW(landlock_create_ruleset, ENOSYS, EOPNOTSUPP, EMFILE, ENOMEM),
    ROW(landlock_restrict_self, EPERM, ENOMEM),
    SILENT(sched_getaffinity),
    SILENT(sched_yield),
    SUB(futex, FUTEX_WAIT, EINTR, EAGAIN),
    SUB(futex, FUTEX_WAIT_BITSET, EINTR, EAGAIN),
    SILENT(futex),
    ROW(clock_nanosleep, EINTR),
    SILENT(gettid),
    SILENT(getpid),
    SILENT(getuid),
    SILENT(geteuid),
    SILENT(rt_sigprocmask),
    SILENT(rt_sigaction),
    SILENT(rt_sigreturn),
    SILENT(restart_syscall),
    SILENT(set_robust_list),
    SILENT(rseq),
    SILENT(exit),
    SILENT(exit_group),
    SILENT(sigaltstack),
    SILENT(getrandom),
    SILENT(sysinfo),
    SILENT(uname),
    SILENT(clock_gettime),
    SILENT(tgkill),
    /* ioctls. An EEXIST is true only if the page is there: another thread was faster. */
    IOCTL(UFFDIO_API, 0, 0, EINVAL, EPERM),
    IOCTL(UFFDIO_UNREGISTER, 0, 0, ENOMEM),
    IOCTL(UFFDIO_REGISTER, 0, 0, ENOMEM, EBUSY, EPERM, EINVAL),
    IOCTL(UFFDIO_WAKE, 0, 0, 0),
    IOCTL(UFFDIO_COPY, EEXIST, 32, EAGAIN, ENOMEM, EEXIST, EIO),
    IOCTL(UFFDIO_ZEROPAGE, EEXIST, 24, EAGAIN, ENOMEM, EEXIST),
    IOCTL(UFFDIO_CONTINUE, EEXIST, 24, EAGAIN, ENOMEM, EEXIST, EIO),
    IOCTL(UFFDIO_POISON, 0, 24, EAGAIN, ENOMEM),
    IOCTL(UFFDIO_MOVE, 0, 32, EAGAIN, ENOMEM, EBUSY),
    IOCTL(UFFDIO_WRITEPROTECT, 0, 0, EAGAIN, ENOMEM),
    IOCTL(USERFAULTFD_IOC_NEW, 0, 0, EMFILE, ENOMEM, EPERM),
    IOCTL(FS_IOC_FIEMAP, 0, 0, EOPNOTSUPP, EINTR, ENOMEM),
    IOCTL(KVM_CREATE_GUEST_MEMFD, 0, 0, EMFILE, ENFILE, ENOMEM),
};

call_t call_of(long number, const uint64_t arguments[6]) {
    unsigned long detail = 0;
    if (number == SYS_futex)
        detail = arguments[1] & 0x7f;
    if (number == SYS_ioctl || number == SYS_fcntl)
        detail = arguments[1];
    if (number == SYS_madvise)
        detail = arguments[2];
    return (call_t){number, detail};
}

const row_t *call_row(call_t call) {
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].call.number == call.number &&
            (rows[i].call.detail == ANY || rows[i].call.detail == call.detail))
            return &rows[i];
    return NULL;
}

const char *call_name(call_t call) {
    static char name[64];
    static const struct {
        unsigned long request;
        const char *name;
    } ioctls[] = {{UFFDIO_API, "UFFDIO_API"},
                  {UFFDIO_REGISTER, "UFFDIO_REGISTER"},
                  {UFFDIO_UNREGISTER, "UFFDIO_UNREGISTER"},
                  {UFFDIO_WAKE, "UFFDIO_WAKE"},
                  {UFFDIO_COPY, "UFFDIO_COPY"},
                  {UFFDIO_ZEROPAGE, "UFFDIO_ZEROPAGE"},
                  {UFFDIO_CONTINUE, "UFFDIO_CONTINUE"},
                  {UFFDIO_POISON, "UFFDIO_POISON"},
                  {UFFDIO_MOVE, "UFFDIO_MOVE"},
                  {UFFDIO_WRITEPROTECT, "UFFDIO_WRITEPROTECT"},
                  {USERFAULTFD_IOC_NEW, "USERFAULTFD_IOC_NEW"},
                  {FS_IOC_FIEMAP, "FS_IOC_FIEMAP"},
                  {KVM_CREATE_GUEST_MEMFD, "KVM_CREATE_GUEST_MEMFD"}};
    for (size_t i = 0; call.number == SYS_ioctl && i < sizeof ioctls / sizeof *ioctls; i++)
        if (ioctls[i].request == call.detail)
            return ioctls[i].name;
    char *known = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, (int)call.number);
    if (!known && call.number == CL_SYS_CACHESTAT) /* newer than Debian 12's library */
        known = strdup("cachestat");
    snprintf(name, sizeof name, call.detail ? "%s(%#lx)" : "%s", known ? known : "?", call.detail);
    free(known);
    return name;
}
