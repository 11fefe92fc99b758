// libc calls on files and memory: >= 0, or -errno. Opening and duplicating are tried again after a
// signal; elsewhere EINTR is for the caller to judge.
#ifndef CLINUX_WRAPPERS_H
#define CLINUX_WRAPPERS_H

#include <dirent.h>
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <poll.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

static inline int cl_result(int r) { return r < 0 ? -errno : r; }
static inline ssize_t cl_result_size(ssize_t r) { return r < 0 ? -errno : r; }

// Descriptors

static inline int cl_open(const char *path, int flags, mode_t mode) {
    int r;
    do r = cl_result(open(path, flags | O_CLOEXEC, mode));
    while (r == -EINTR);
    return r;
}
static inline int cl_openat(int dir, const char *path, int flags, mode_t mode) {
    int r;
    do r = cl_result(openat(dir, path, flags | O_CLOEXEC, mode));
    while (r == -EINTR);
    return r;
}
// On Linux the descriptor is gone even where this answers an error: never call it twice.
static inline int cl_close(int fd) { return cl_result(close(fd)); }
// EBUSY: another thread is opening just this number.
static inline int cl_dup3(int fd, int to, int flags) {
    int r;
    do r = cl_result(dup3(fd, to, flags));
    while (r == -EINTR || r == -EBUSY);
    return r;
}
// The commands whose argument is an int: F_DUPFD_CLOEXEC, F_ADD_SEALS, F_GET_SEALS, F_GETFL, F_SETFL...
static inline int cl_fcntl(int fd, int command, int argument) {
    return cl_result(fcntl(fd, command, argument));
}
static inline int cl_ioctl(int fd, unsigned long request, void *argument) {
    return cl_result(ioctl(fd, request, argument));
}
// The requests whose argument is a number: USERFAULTFD_IOC_NEW, KVM_CREATE_VM, KVM_CHECK_EXTENSION.
static inline int cl_ioctl_value(int fd, unsigned long request, unsigned long argument) {
    return cl_result(ioctl(fd, request, argument));
}
static inline int cl_userfaultfd(int flags) { return cl_result((int)syscall(SYS_userfaultfd, flags)); }
static inline int cl_memfd_create(const char *name, unsigned int flags) {
    return cl_result(memfd_create(name, flags));
}
static inline int cl_eventfd(unsigned int count, int flags) { return cl_result(eventfd(count, flags)); }

// Waiting for descriptors; poll()'s timeout in milliseconds, -1 for none

static inline int cl_poll(struct pollfd *fds, nfds_t count, int timeout_ms) {
    return cl_result(poll(fds, count, timeout_ms));
}
static inline int cl_epoll_create(void) { return cl_result(epoll_create1(EPOLL_CLOEXEC)); }
static inline int cl_epoll_ctl(int epoll, int op, int fd, uint32_t events, uint64_t data) {
    struct epoll_event event = {.events = events, .data = {.u64 = data}};
    return cl_result(epoll_ctl(epoll, op, fd, &event));
}
// struct epoll_event is packed on x86, so its field is read here.
static inline uint64_t cl_epoll_event_data(const struct epoll_event *event) { return event->data.u64; }
// timeout_ns < 0: none. The raw system call: before glibc 2.35 there is no other.
static inline int cl_epoll_wait(int epoll, struct epoll_event *events, int count, int64_t timeout_ns) {
    struct timespec ts = {.tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000};
    return cl_result((int)syscall(SYS_epoll_pwait2, epoll, events, (long)count, timeout_ns < 0 ? NULL : &ts, NULL, 8L));
}
// Which of two can be read, as bits 1 and 2; an fd below 0 never can. timeout_ns < 0: none.
static inline int cl_poll_two(int first, int second, int64_t timeout_ns) {
    struct pollfd fds[2] = {{.fd = first, .events = POLLIN}, {.fd = second, .events = POLLIN}};
    struct timespec ts = {.tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000};
    int r = cl_result((int)syscall(SYS_ppoll, fds, 2UL, timeout_ns < 0 ? NULL : &ts, NULL, 8L));
    return r < 0 ? r : (fds[0].revents != 0) | (fds[1].revents != 0) << 1;
}
// A Swift integer: the EPOLL* are an enum of a type of their own.
static const uint32_t CL_EPOLLIN = EPOLLIN;
static const int CL_EFD_CLOEXEC = EFD_CLOEXEC;
static const int CL_EFD_NONBLOCK = EFD_NONBLOCK;

// Contents

// The raw system call: glibc's read() also opens and closes a window for pthread_cancel(), which takes
// longer than the rest of it and which no thread of ours wants.
static inline ssize_t cl_read(int fd, void *buffer, size_t length) {
    return cl_result_size(syscall(SYS_read, fd, buffer, length));
}
static inline ssize_t cl_write(int fd, const void *buffer, size_t length) {
    return cl_result_size(write(fd, buffer, length));
}
static inline ssize_t cl_pread(int fd, void *buffer, size_t length, off_t offset) {
    return cl_result_size(pread(fd, buffer, length, offset));
}
static inline ssize_t cl_pwrite(int fd, const void *buffer, size_t length, off_t offset) {
    return cl_result_size(pwrite(fd, buffer, length, offset));
}
// What is in the page cache, and -EAGAIN where reading on would block. The raw system call: glibc
// falls back to another call, which a sandbox would have to allow, where the kernel lacks this one.
static inline ssize_t cl_pread_nowait(int fd, void *buffer, size_t length, off_t offset) {
    struct iovec iov = {.iov_base = buffer, .iov_len = length};
    return cl_result_size(syscall(SYS_preadv2, fd, &iov, 1UL, (long)offset, 0L, RWF_NOWAIT));
}
// whence: SEEK_DATA, SEEK_HOLE, SEEK_SET, SEEK_END. -ENXIO: no data from here on.
static inline off_t cl_lseek(int fd, off_t offset, int whence) {
    off_t r = lseek(fd, offset, whence);
    return r < 0 ? -errno : r;
}
// Has the disk begin to read, and does not wait for it.
static inline int cl_fadvise_willneed(int fd, off_t offset, off_t length) {
    return -posix_fadvise(fd, offset, length, POSIX_FADV_WILLNEED);
}
static inline int cl_ftruncate(int fd, off_t length) { return cl_result(ftruncate(fd, length)); }
static inline int cl_fallocate(int fd, int mode, off_t offset, off_t length) {
    return cl_result(fallocate(fd, mode, offset, length));
}
static inline int cl_fsync(int fd) { return cl_result(fsync(fd)); }

// Where a file has data: up to `capacity` extents that end after `start`, in order. -EOPNOTSUPP where
// the file system cannot tell. What is allocated and not yet written counts as data.
struct cl_extent {
    uint64_t start, length;
};
static inline int cl_fiemap(int fd, uint64_t start, uint64_t length, struct cl_extent *out, int capacity) {
    enum { batch = 64 };
    uint64_t buffer[(sizeof(struct fiemap) + batch * sizeof(struct fiemap_extent)) / 8];
    struct fiemap *map = (struct fiemap *)buffer;
    int count = 0;
    while (count < capacity) {
        memset(map, 0, sizeof *map);
        map->fm_start = start;
        map->fm_length = length;
        map->fm_flags = FIEMAP_FLAG_SYNC;
        map->fm_extent_count = batch;
        if (ioctl(fd, FS_IOC_FIEMAP, map) < 0) {
            if (errno == EINTR) continue;
            return -errno;
        }
        for (unsigned i = 0; i < map->fm_mapped_extents && count < capacity; i++) {
            const struct fiemap_extent *extent = &map->fm_extents[i];
            uint64_t end = extent->fe_logical + extent->fe_length;
            out[count++] = (struct cl_extent){extent->fe_logical, extent->fe_length};
            if (extent->fe_flags & FIEMAP_EXTENT_LAST || end >= start + length) return count;
            length -= end - start;
            start = end;
        }
        if (map->fm_mapped_extents < batch) return count;
    }
    return count;
}

// Files and directories

struct cl_stat {
    uint64_t dev, ino;
    int64_t size;   // bytes
    int64_t blocks; // of 512 bytes
    int64_t blksize;
    uint32_t mode;
};
static inline void cl_stat_from(struct cl_stat *out, const struct stat *st) {
    *out = (struct cl_stat){.dev = st->st_dev, .ino = st->st_ino, .size = st->st_size,
                            .blocks = st->st_blocks, .blksize = st->st_blksize, .mode = st->st_mode};
}
static inline int cl_fstat(int fd, struct cl_stat *out) {
    struct stat st;
    if (fstat(fd, &st) < 0) return -errno;
    cl_stat_from(out, &st);
    return 0;
}
static inline int cl_fstatat(int dir, const char *path, struct cl_stat *out, int flags) {
    struct stat st;
    if (fstatat(dir, path, &st, flags) < 0) return -errno;
    cl_stat_from(out, &st);
    return 0;
}
static inline int cl_is_regular(const struct cl_stat *st) { return S_ISREG(st->mode); }
// The kind of file system (CL_TMPFS_MAGIC, CL_HUGETLBFS_MAGIC...) and its block or huge page size.
static inline int cl_fstatfs(int fd, uint64_t *magic, uint64_t *block) {
    struct statfs fs;
    if (fstatfs(fd, &fs) < 0) return -errno;
    *magic = (uint32_t)fs.f_type;
    *block = (uint64_t)fs.f_bsize;
    return 0;
}
static inline int cl_mkdir(const char *path, mode_t mode) { return cl_result(mkdir(path, mode)); }
static inline int cl_mkdirat(int dir, const char *path, mode_t mode) { return cl_result(mkdirat(dir, path, mode)); }
static inline int cl_unlink(const char *path) { return cl_result(unlink(path)); }
static inline int cl_unlinkat(int dir, const char *path, int flags) { return cl_result(unlinkat(dir, path, flags)); }
static inline int cl_rmdir(const char *path) { return cl_result(rmdir(path)); }
// flags: CL_RENAME_NOREPLACE or 0
static inline int cl_renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned int flags) {
    return cl_result(renameat2(from_dir, from, to_dir, to, flags));
}
CL_CONST(unsigned int, RENAME_NOREPLACE);
// Takes fd over, also on failure. NULL on failure, which is out of memory or not a directory.
static inline DIR *cl_fdopendir(int fd) {
    DIR *dir = fdopendir(fd);
    if (!dir) close(fd);
    return dir;
}
// The next name, valid until the next call on dir; NULL at the end.
static inline const char *cl_readdir(DIR *dir) {
    struct dirent *entry = readdir(dir);
    return entry ? entry->d_name : NULL;
}

// Memory

static inline int cl_mmap(void **out, void *address, size_t length, int protection, int flags, int fd, off_t offset) {
    void *p = mmap(address, length, protection, flags, fd, offset);
    if (p == MAP_FAILED) return -errno;
    *out = p;
    return 0;
}
static inline int cl_munmap(void *address, size_t length) { return cl_result(munmap(address, length)); }
static inline int cl_mprotect(void *address, size_t length, int protection) {
    return cl_result(mprotect(address, length, protection));
}
static inline int cl_madvise(void *address, size_t length, int advice) {
    return cl_result(madvise(address, length, advice));
}
static inline int cl_mlock_onfault(const void *address, size_t length) {
    return cl_result(mlock2(address, length, MLOCK_ONFAULT));
}
// How many of the range's pages the page cache holds: a count, or -errno (-ENOSYS before Linux 6.5,
// -EPERM for a file that is neither ours nor writable). Among them pages that are still being read.
// Debian 12's headers do not have it; its number is the same on every architecture.
#define CL_SYS_CACHESTAT 451
static inline int64_t cl_cachestat(int fd, uint64_t offset, uint64_t length) {
    uint64_t range[2] = {offset, length}, counts[5] = {0};
    long result = syscall(CL_SYS_CACHESTAT, fd, range, counts, 0u);
    return result < 0 ? -errno : (int64_t)counts[0];
}

static inline int cl_mincore(void *address, size_t length, unsigned char *resident) {
    return cl_result(mincore(address, length, resident));
}
// bits: how many bits of the mask count. The kernel wants one more than that.
static inline int cl_mbind(void *address, size_t length, int mode, const unsigned long *nodes,
                           unsigned long bits, unsigned int flags) {
    return cl_result((int)syscall(SYS_mbind, address, length, (long)mode, nodes, bits + 1, (unsigned long)flags));
}
static inline int cl_online_cpus(void) { return (int)sysconf(_SC_NPROCESSORS_ONLN); }

#endif
