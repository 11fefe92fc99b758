/* ram-file.c: memory-backend-file, a file on tmpfs or hugetlbfs as QEMU's. */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "machine.h"

/* An existing file; one without a name in a directory; or a new one, then *made. */
static int open_path(const struct backend *backend, bool *made) {
    const char *path = backend->mem_path;
    struct stat status;
    if (!stat(path, &status) && S_ISDIR(status.st_mode))
        return open(path, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    int fd = open(path, (backend->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && !backend->read_only) {
        fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        *made = fd >= 0;
    }
    return fd;
}

int ram_file_open(struct machine *machine, const struct backend *backend,
                  guestram_region_options_t *region, bool *made) {
    const char *path = backend->mem_path;
    struct statfs fs;
    struct stat status;
    int fd = open_path(backend, made);
    if (fd < 0 || fstatfs(fd, &fs) || fstat(fd, &status)) {
        machine_fail(machine, EXIT_FAILED, "mem-path=%s: %s", path, strerror(errno));
    } else if (fs.f_type != TMPFS_MAGIC && fs.f_type != HUGETLBFS_MAGIC) {
        machine_fail(machine, EXIT_FAILED,
                     "mem-path=%s: neither on tmpfs nor on hugetlbfs; userfaultfd serves no other "
                     "files",
                     path);
    } else if (!status.st_size && !backend->read_only && ftruncate(fd, (off_t)region->length)) {
        machine_fail(machine, EXIT_FAILED, "mem-path=%s: cannot be made %llu bytes long: %s", path,
                     (unsigned long long)region->length, strerror(errno));
    } else {
        bool huge = fs.f_type == HUGETLBFS_MAGIC;
        region->type = huge ? GUESTRAM_HUGETLB : GUESTRAM_SHMEM;
        region->page_size = huge ? (uint64_t)fs.f_bsize : 0;
        region->flags |= GUESTRAM_REGION_FD;
        region->fd = fd;
        return 0;
    }
    if (fd >= 0)
        close(fd);
    if (*made)
        unlink(path);
    return -1;
}
