/* kvm-state.h: a vCPU's registers: as the guest starts, saved, and brought back. */
#ifndef KVM_STATE_H
#define KVM_STATE_H

#include <linux/kvm.h>
#include <stdint.h>

enum { KVM_STATE_MSRS = 12 };

struct kvm_state {
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    struct kvm_xcrs xcrs;
    uint32_t xsave[1024]; /* struct kvm_xsave, which ends in an array of no length */
    struct kvm_vcpu_events events;
    struct kvm_debugregs debugregs;
    uint32_t msr_count, reserved;
    struct kvm_msr_entry msrs[KVM_STATE_MSRS]; /* those that this KVM has */
};

/* 0, or -1 with errno. */
int kvm_cpuid(int kvm, int vcpu);
/* Page tables, GDT and code, into guest memory: `ram` is guest-physical 0, `end` the last one's. */
void kvm_state_memory(char *ram, uint64_t end);
/* Work pages from `high_page` on are `hole` bytes further up than the ones below. */
int kvm_state_boot(int vcpu, unsigned index, uint64_t high_page, uint64_t hole);

/* NULL, or what failed, with errno. */
const char *kvm_state_store(int vcpu, void *state);
const char *kvm_state_load(int vcpu, const void *state);

#endif
