/*
 * private-mmap: no handler. The snapshot file itself is the memory, mapped MAP_PRIVATE: the page
 * cache holds what was read, the first write to a page copies it.
 */
#include "baseline.h"
#include "../bench.h"

#include <sys/mman.h>

struct mapping private_mmap(int file, uint64_t file_offset, size_t length) {
    struct mapping mapping = {.length = length, .page = PAGE, .fd = -1};
    mapping.address = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, file,
                           (off_t)file_offset);
    check(mapping.address != MAP_FAILED);
    return mapping;
}
