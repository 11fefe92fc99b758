#include "support.h"
#include "support_slow.h"

#include <linux/fuse.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/wait.h>

enum { ROOT = FUSE_ROOT_ID, MANIFEST, MEMORY, CHECKSUMS, STATE, END };
static const char *const names[END] = {
    [MANIFEST] = "manifest", [MEMORY] = "memory", [CHECKSUMS] = "checksums", [STATE] = "state"};

#define MOST_WAITING 256u
struct waiting {
    uint64_t unique;
    struct fuse_read_in read;
};

static struct {
    int device, files[END];
    pid_t guard;
    pthread_t server;
    pthread_mutex_t lock;
    bool hold;
    unsigned fail, count;
    struct waiting waiting[MOST_WAITING];
    const char *place;
} slow = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void answer(uint64_t unique, int error, const void *body, size_t length) {
    struct fuse_out_header out = {.len = (uint32_t)(sizeof out + length), .error = -error, .unique = unique};
    struct iovec parts[2] = {{&out, sizeof out}, {(void *)(uintptr_t)body, length}};
    /* ENOENT: who asked was interrupted, or is gone. */
    if (writev(slow.device, parts, 2) < 0 && errno != ENOENT && errno != ENODEV) perror("fuse");
}

static struct fuse_attr attributes(uint64_t node) {
    struct stat info;
    if (node == ROOT) return (struct fuse_attr){.ino = ROOT, .mode = S_IFDIR | 0755, .nlink = 2};
    REQUIRE(fstat(slow.files[node], &info) == 0);
    return (struct fuse_attr){.ino = node, .size = (uint64_t)info.st_size, .blocks = (uint64_t)info.st_blocks,
                              .mode = S_IFREG | 0644, .nlink = 1, .blksize = 4096};
}

static void answer_read(uint64_t unique, uint64_t node, const struct fuse_read_in *read) {
    static char bytes[4 * 1024 * 1024]; /* under the lock */
    size_t length = read->size < sizeof bytes ? read->size : sizeof bytes;
    ssize_t count = pread(slow.files[node], bytes, length, (off_t)read->offset);
    answer(unique, count < 0 ? errno : 0, bytes, count < 0 ? 0 : (size_t)count);
}

static void answer_memory(uint64_t unique, const struct fuse_read_in *read) {
    if (slow.fail > 0) {
        slow.fail--;
        answer(unique, EIO, NULL, 0);
    } else {
        answer_read(unique, MEMORY, read);
    }
}

static void on_read(uint64_t unique, uint64_t node, const struct fuse_read_in *read) {
    pthread_mutex_lock(&slow.lock);
    if (node == MEMORY && slow.hold && slow.count < MOST_WAITING)
        slow.waiting[slow.count++] = (struct waiting){unique, *read};
    else if (node == MEMORY)
        answer_memory(unique, read);
    else
        answer_read(unique, node, read);
    pthread_mutex_unlock(&slow.lock);
}

static void on_lookup(uint64_t unique, const char *name) {
    for (uint64_t node = MANIFEST; node < END; node++) {
        if (slow.files[node] < 0 || strcmp(name, names[node]) != 0) continue;
        struct fuse_entry_out entry = {.nodeid = node, .entry_valid = 60, .attr_valid = 60, .attr = attributes(node)};
        answer(unique, 0, &entry, sizeof entry);
        return;
    }
    answer(unique, ENOENT, NULL, 0);
}

static void on_request(const struct fuse_in_header *in, const void *body) {
    switch (in->opcode) {
    case FUSE_INIT: {
        const struct fuse_init_in *init = body;
        struct fuse_init_out out = {.major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION,
                                    .max_readahead = init->max_readahead, .max_write = 128 * 1024,
                                    .flags = FUSE_ASYNC_READ | FUSE_PARALLEL_DIROPS};
        answer(in->unique, 0, &out, sizeof out);
        break;
    }
    case FUSE_LOOKUP: on_lookup(in->unique, body); break;
    case FUSE_GETATTR: {
        struct fuse_attr_out out = {.attr_valid = 60, .attr = attributes(in->nodeid)};
        answer(in->unique, 0, &out, sizeof out);
        break;
    }
    case FUSE_OPEN:
    case FUSE_OPENDIR: {
        /* Each pread() of the memory file is a request of its own: nothing is cached or read ahead. */
        struct fuse_open_out out = {.open_flags = in->nodeid == MEMORY ? FOPEN_DIRECT_IO : 0};
        answer(in->unique, 0, &out, sizeof out);
        break;
    }
    case FUSE_READ: on_read(in->unique, in->nodeid, body); break;
    case FUSE_LSEEK: {
        const struct fuse_lseek_in *seek = body;
        off_t at = lseek(slow.files[in->nodeid], (off_t)seek->offset, (int)seek->whence);
        struct fuse_lseek_out out = {.offset = (uint64_t)at};
        answer(in->unique, at < 0 ? errno : 0, &out, at < 0 ? 0 : sizeof out);
        break;
    }
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR: answer(in->unique, 0, NULL, 0); break;
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT: break; /* not answered */
    default: answer(in->unique, ENOSYS, NULL, 0);
    }
}

static void *serve(void *nothing) {
    (void)nothing;
    static char request[256 * 1024] __attribute__((aligned(8)));
    for (;;) {
        ssize_t count = read(slow.device, request, sizeof request);
        if (count < 0 && (errno == EINTR || errno == ENOENT)) continue;
        if (count < (ssize_t)sizeof(struct fuse_in_header)) return NULL; /* unmounted */
        on_request((void *)request, request + sizeof(struct fuse_in_header));
    }
}

/* A thread whose read was handed out and never answered cannot be killed, nor can its process: a test
 * that fails meanwhile would stay for ever. Another process ends all reads when the test is gone. */
static void start_guard(void) {
    sigset_t signals;
    int number = 0;
    REQUIRE((slow.guard = fork()) >= 0);
    if (slow.guard > 0) return;
    close(slow.device);
    sigemptyset(&signals), sigaddset(&signals, SIGUSR1), sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    prctl(PR_SET_PDEATHSIG, SIGUSR1);
    sigwait(&signals, &number);
    if (number == SIGUSR1) umount2(slow.place, MNT_FORCE);
    _exit(0);
}

const char *slow_mount(const char *directory) {
    char options[128], path[512];
    slow.place = scratch("slow");
    REQUIRE(mkdir(slow.place, 0755) == 0);
    slow.device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (slow.device < 0) SKIP_LACKING("/dev/fuse");
    for (uint64_t node = MANIFEST; node < END; node++) {
        snprintf(path, sizeof path, "%s/%s", directory, names[node]);
        slow.files[node] = open(path, O_RDONLY | O_CLOEXEC);
        REQUIRE(slow.files[node] >= 0 || node == STATE); /* there need not be one */
    }
    snprintf(options, sizeof options, "fd=%d,rootmode=40755,user_id=%u,group_id=%u", slow.device, getuid(), getgid());
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("guestram-test", slow.place, "fuse", MS_NOSUID | MS_NODEV, options) < 0)
        SKIP_LACKING("the right to mount a FUSE file system");
    start_guard();
    REQUIRE(pthread_create(&slow.server, NULL, serve, NULL) == 0);
    return slow.place;
}

void slow_unmount(void) {
    slow_hold(false);
    kill(slow.guard, SIGTERM);
    waitpid(slow.guard, NULL, 0);
    umount2(slow.place, MNT_DETACH);
    /* The last descriptor of a file may still be open: the server ends with the process then. */
    for (uint64_t node = MANIFEST; node < END; node++) close(slow.files[node]);
}

void slow_hold(bool hold) {
    pthread_mutex_lock(&slow.lock);
    slow.hold = hold;
    unsigned count = hold ? 0 : slow.count;
    for (unsigned i = 0; i < count; i++) answer_memory(slow.waiting[i].unique, &slow.waiting[i].read);
    slow.count -= count;
    pthread_mutex_unlock(&slow.lock);
}

unsigned slow_waiting(void) {
    pthread_mutex_lock(&slow.lock);
    unsigned count = slow.count;
    pthread_mutex_unlock(&slow.lock);
    return count;
}

void slow_fail(unsigned count) {
    pthread_mutex_lock(&slow.lock);
    slow.fail = count;
    pthread_mutex_unlock(&slow.lock);
}
