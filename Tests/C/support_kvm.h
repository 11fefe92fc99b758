/* The smallest guest: 64-bit code at privilege level 3 that loads or stores one word and says so.
 * Such code runs natively on every KVM, also on those that emulate the rest. */
#ifndef SUPPORT_KVM_H
#define SUPPORT_KVM_H

#include <stddef.h>
#include <stdint.h>

typedef struct guest {
    int vm;
    void *system; /* page tables and code, below GUEST_DATA */
    size_t run_size;
    unsigned vcpus;
} guest_t;

typedef struct vcpu {
    int fd;
    struct kvm_run *run;
    size_t run_size;
} vcpu_t;

#define GUEST_DATA UINT64_C(0x200000) /* where the memory under test starts; up to 1 GiB */

/* Skips where there is no KVM. */
guest_t guest_open(void);
void guest_close(guest_t *guest);
int guest_extension(const guest_t *guest, unsigned long capability);
/* A plain memslot at GUEST_DATA. */
void guest_map(guest_t *guest, void *host_address, uint64_t length);
vcpu_t vcpu_open(guest_t *guest);
void vcpu_close(vcpu_t *vcpu);

/* 0, or -errno of KVM_RUN: -EINTR where a signal came. The access is made again by the next call. */
int vcpu_load(vcpu_t *vcpu, uint64_t offset, uint64_t *value);
int vcpu_store(vcpu_t *vcpu, uint64_t offset, uint64_t value);

#endif
