/* kvm-state.c: see kvm-state.h. */
#include "kvm-state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "workload.h"

enum { ENTRIES = 512, PRESENT_WRITE_USER = 7, LARGE_PAGE = 0x80 };

int kvm_cpuid(int kvm, int vcpu) {
    enum { MAX_ENTRIES = 256 };
    size_t size = sizeof(struct kvm_cpuid2) + MAX_ENTRIES * sizeof(struct kvm_cpuid_entry2);
    struct kvm_cpuid2 *cpuid = calloc(1, size);
    if (!cpuid)
        return -1;
    cpuid->nent = MAX_ENTRIES;
    int answer = ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid);
    if (!answer)
        answer = ioctl(vcpu, KVM_SET_CPUID2, cpuid);
    free(cpuid);
    return answer;
}

static uint64_t *table(char *ram, uint64_t guest_physical) {
    return (uint64_t *)(void *)(ram + guest_physical);
}

/* Identity-mapped by 2 MiB leaves, and a flat GDT for CPL 3. */
void kvm_state_memory(char *ram, uint64_t end) {
    uint64_t *gdt = table(ram, GUEST_GDT);
    gdt[3] = 0x00affb000000ffff; /* 0x1b: 64-bit code, DPL 3 */
    gdt[4] = 0x00cff3000000ffff; /* 0x23: data, DPL 3 */
    uint64_t gigabytes = (end + (1ull << 30) - 1) >> 30;
    table(ram, GUEST_PML4)[0] = GUEST_PDPT | PRESENT_WRITE_USER;
    for (uint64_t i = 0; i < gigabytes; i++) {
        table(ram, GUEST_PDPT)[i] = (GUEST_PD + i * PAGE) | PRESENT_WRITE_USER;
        for (uint64_t j = 0; j < ENTRIES; j++)
            table(ram, GUEST_PD + i * PAGE)[j] =
                (i << 30) | (j << 21) | PRESENT_WRITE_USER | LARGE_PAGE;
    }
    memcpy(ram + GUEST_CODE, guest_image_start, (size_t)(guest_image_end - guest_image_start));
}

int kvm_state_boot(int vcpu, unsigned index, uint64_t high_page, uint64_t hole) {
    struct kvm_sregs sregs;
    if (ioctl(vcpu, KVM_GET_SREGS, &sregs))
        return -1;
    struct kvm_segment data = {.limit = 0xffffffff,
                               .selector = 0x23,
                               .type = 3,
                               .present = 1,
                               .dpl = 3,
                               .db = 1,
                               .s = 1,
                               .g = 1};
    sregs.cs = (struct kvm_segment){.limit = 0xffffffff,
                                    .selector = 0x1b,
                                    .type = 11,
                                    .present = 1,
                                    .dpl = 3,
                                    .l = 1,
                                    .s = 1,
                                    .g = 1};
    sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
    sregs.gdt.base = GUEST_GDT;
    sregs.gdt.limit = 5 * 8 - 1;
    sregs.cr0 = 0x80000031; /* PG, NE, ET, PE */
    sregs.cr3 = GUEST_PML4;
    sregs.cr4 = 0x620;  /* OSXMMEXCPT, OSFXSR, PAE */
    sregs.efer = 0x500; /* LMA, LME */
    struct kvm_regs regs = {
        .rip = GUEST_CODE,
        .rsp = GUEST_STACKS + (index + 1) * PAGE,
        .rflags = 0x3002, /* IOPL 3 */
        .r13 = index,
        .r14 = high_page,
        .r15 = hole,
    };
    return ioctl(vcpu, KVM_SET_SREGS, &sregs) || ioctl(vcpu, KVM_SET_REGS, &regs) ? -1 : 0;
}

/* What the guest's own work may depend on beyond sregs: TSC, SYSENTER, PAT, SYSCALL,
 * KERNEL_GS_BASE, TSC_AUX. */
static const uint32_t msrs[] = {0x10,       0x174,      0x175,      0x176,
                                0x277,      0xc0000081, 0xc0000082, 0xc0000083,
                                0xc0000084, 0xc0000102, 0xc0000103};
_Static_assert(sizeof msrs / sizeof *msrs <= KVM_STATE_MSRS, "room for all");

/* struct kvm_msrs with room for one. */
struct one_msr {
    uint32_t count, pad;
    struct kvm_msr_entry entry;
};

const char *kvm_state_store(int vcpu, void *buffer) {
    struct kvm_state *state = buffer;
    memset(state, 0, sizeof *state);
    if (ioctl(vcpu, KVM_GET_REGS, &state->regs))
        return "KVM_GET_REGS";
    if (ioctl(vcpu, KVM_GET_SREGS, &state->sregs))
        return "KVM_GET_SREGS";
    if (ioctl(vcpu, KVM_GET_XCRS, &state->xcrs))
        return "KVM_GET_XCRS";
    if (ioctl(vcpu, KVM_GET_XSAVE, state->xsave))
        return "KVM_GET_XSAVE";
    if (ioctl(vcpu, KVM_GET_VCPU_EVENTS, &state->events))
        return "KVM_GET_VCPU_EVENTS";
    if (ioctl(vcpu, KVM_GET_DEBUGREGS, &state->debugregs))
        return "KVM_GET_DEBUGREGS";
    for (unsigned i = 0; i < sizeof msrs / sizeof *msrs; i++) {
        struct one_msr msr = {.count = 1, .entry.index = msrs[i]};
        if (ioctl(vcpu, KVM_GET_MSRS, &msr) == 1)
            state->msrs[state->msr_count++] = msr.entry;
    }
    return NULL;
}

const char *kvm_state_load(int vcpu, const void *buffer) {
    const struct kvm_state *state = buffer;
    if (ioctl(vcpu, KVM_SET_SREGS, &state->sregs))
        return "KVM_SET_SREGS";
    if (ioctl(vcpu, KVM_SET_REGS, &state->regs))
        return "KVM_SET_REGS";
    if (ioctl(vcpu, KVM_SET_XCRS, &state->xcrs))
        return "KVM_SET_XCRS";
    if (ioctl(vcpu, KVM_SET_XSAVE, state->xsave))
        return "KVM_SET_XSAVE";
    if (ioctl(vcpu, KVM_SET_DEBUGREGS, &state->debugregs))
        return "KVM_SET_DEBUGREGS";
    for (unsigned i = 0; i < state->msr_count && i < KVM_STATE_MSRS; i++) {
        struct one_msr msr = {.count = 1, .entry = state->msrs[i]};
        if (ioctl(vcpu, KVM_SET_MSRS, &msr) != 1) {
            errno = EINVAL;
            return "KVM_SET_MSRS";
        }
    }
    if (ioctl(vcpu, KVM_SET_VCPU_EVENTS, &state->events))
        return "KVM_SET_VCPU_EVENTS";
    return NULL;
}
