/* A KVM guest that reads a list of pages and adds up their first words. */
#ifndef GUEST_H
#define GUEST_H

#include <stddef.h>
#include <stdint.h>

enum { GUEST_MAX_VCPUS = 4 };

struct guest {
    int vm, vcpus[GUEST_MAX_VCPUS];
    unsigned count;
    uint8_t *machine; /* page tables, descriptors, code and the list: a slot of its own */
    size_t run_size;
    size_t pages;
};

/* NULL, or why there is no KVM. */
const char *guest_missing(void);
/* Without RAM as yet: all that is the same whoever serves it. `pages` are split among the vCPUs. */
void guest_create(struct guest *guest, unsigned vcpus, const uint32_t *pages, size_t count);
/* RAM at guest-physical 0, a GiB at most; then runs all vCPUs to their end and returns the sum. */
uint64_t guest_run(struct guest *guest, uint8_t *ram, size_t length);
void guest_destroy(struct guest *guest);

#endif
