/*
 * floor: the bare operations, with nothing around them, in the batch sizes that the library uses.
 */
#include "baseline.h"
#include "../bench.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

void floor_copy(int uffd, uint8_t *memory, const uint8_t *source, size_t length, size_t batch) {
    for (size_t done = 0; done < length; done += batch) {
        struct uffdio_copy copy = {
            .dst = (uintptr_t)memory + done, .src = (uintptr_t)source + done, .len = batch};
        check(ioctl(uffd, UFFDIO_COPY, &copy) == 0);
    }
}

void floor_continue(int uffd, uint8_t *memory, size_t length, size_t batch) {
    for (size_t done = 0; done < length; done += batch) {
        struct uffdio_continue map = {.range = {.start = (uintptr_t)memory + done, .len = batch}};
        check(ioctl(uffd, UFFDIO_CONTINUE, &map) == 0);
    }
}

void floor_memcpy(uint8_t *memory, const uint8_t *source, size_t length) {
    memcpy(memory, source, length);
}

void floor_read_direct(const char *path, uint64_t file_offset, size_t length) {
    const size_t chunk = 1 << 20;
    int file = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT);
    check(file >= 0);
    void *buffer = NULL;
    check(posix_memalign(&buffer, PAGE, chunk) == 0);
    for (size_t done = 0; done < length; done += chunk) {
        size_t rest = length - done < chunk ? length - done : chunk;
        check(pread(file, buffer, rest, (off_t)(file_offset + done)) == (ssize_t)rest);
    }
    free(buffer);
    close(file);
}
