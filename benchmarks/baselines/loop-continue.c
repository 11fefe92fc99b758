/*
 * loop-continue: one thread polls, reads one message, reads one page of the snapshot file into a
 * buffer, writes it to the memfd, and maps it. Where the memfd holds the contents already it only
 * maps.
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
    static _Alignas(PAGE) _Thread_local uint8_t buffer[PAGE];
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
        if (loop->file >= 0 && !(message.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_MINOR)) {
            off_t offset = (off_t)(address - (uintptr_t)loop->mapping.address);
            off_t position = (off_t)loop->file_offset + offset;
            check(pread(loop->file, buffer, page, position) == (ssize_t)page);
            check(pwrite(loop->mapping.fd, buffer, page, offset) == (ssize_t)page);
        }
        struct uffdio_continue map = {.range = {.start = address, .len = page}};
        while (ioctl(loop->uffd, UFFDIO_CONTINUE, &map) != 0) {
            if (errno == EAGAIN)
                continue;
            check(errno == EEXIST); /* two threads, one page; EEXIST does not wake */
            check(ioctl(loop->uffd, UFFDIO_WAKE, &map.range) == 0);
            break;
        }
    }
    return NULL;
}

void loop_continue_start(struct loop *loop, struct mapping mapping, int file,
                         uint64_t file_offset) {
    check(file < 0 || mapping.page == PAGE);
    *loop = (struct loop){.mapping = mapping, .file = file, .file_offset = file_offset};
    loop->uffd = uffd_register(&mapping);
    check(pthread_create(&loop->thread, NULL, serve, loop) == 0);
}
