/*
 * loop-copy: one thread polls, reads one message, and copies one page from a mapping of the
 * snapshot file. This is what Firecracker's example handler does.
 */
#include "baseline.h"
#include "../bench.h"

#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

static void *serve(void *argument) {
    const struct loop *loop = argument;
    const size_t page = loop->mapping.page;
    for (;;) {
        struct pollfd ready = {.fd = loop->uffd, .events = POLLIN};
        check(poll(&ready, 1, -1) == 1);
        struct uffd_msg message;
        if (read(loop->uffd, &message, sizeof message) != sizeof message) {
            check(errno == EAGAIN);
            continue;
        }
        check(message.event == UFFD_EVENT_PAGEFAULT);
        uint64_t address = message.arg.pagefault.address & ~(uint64_t)(page - 1);
        struct uffdio_copy copy = {
            .dst = address,
            .src = (uintptr_t)loop->source + (address - (uintptr_t)loop->mapping.address),
            .len = page,
        };
        while (ioctl(loop->uffd, UFFDIO_COPY, &copy) != 0) {
            if (errno == EAGAIN)
                continue;
            check(errno == EEXIST); /* two threads, one page; EEXIST does not wake */
            struct uffdio_range range = {.start = address, .len = page};
            check(ioctl(loop->uffd, UFFDIO_WAKE, &range) == 0);
            break;
        }
    }
    return NULL;
}

void loop_copy_start(struct loop *loop, struct mapping mapping, const uint8_t *source) {
    *loop = (struct loop){.mapping = mapping, .source = source, .file = -1};
    loop->uffd = uffd_register(&mapping);
    check(pthread_create(&loop->thread, NULL, serve, loop) == 0);
}
