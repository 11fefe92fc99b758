#include "support.h"
#include "support_kvm.h"

#include <linux/kvm.h>
#include <sys/ioctl.h>

/* Of the system's pages, by guest-physical address. */
enum { PML4 = 0x1000, PDPT = 0x2000, DIRECTORY = 0x3000, GDT = 0x4000, CODE = 0x5000, LOAD = CODE, STORE = CODE + 16 };

guest_t guest_open(void) {
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (kvm < 0) SKIP_LACKING("/dev/kvm");
    guest_t guest = {.vm = ioctl(kvm, KVM_CREATE_VM, 0UL), .run_size = (size_t)ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0UL)};
    REQUIRE(guest.vm >= 0);
    close(kvm);
    guest.system = mmap(NULL, GUEST_DATA, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(guest.system != MAP_FAILED);

    uint8_t *memory = guest.system;
    *(uint64_t *)(void *)(memory + PML4) = PDPT | 7; /* present, writable, user */
    *(uint64_t *)(void *)(memory + PDPT) = DIRECTORY | 7;
    for (uint64_t i = 0; i < 512; i++) ((uint64_t *)(void *)(memory + DIRECTORY))[i] = i * 2 * MIB | 0x87; /* 2 MiB */
    ((uint64_t *)(void *)(memory + GDT))[3] = UINT64_C(0x00affb000000ffff);
    ((uint64_t *)(void *)(memory + GDT))[4] = UINT64_C(0x00cff3000000ffff);
    static const uint8_t load[] = {0x48, 0x8b, 0x03, 0xe6, 0x10};  /* mov (%rbx),%rax; out %al,$0x10 */
    static const uint8_t store[] = {0x48, 0x89, 0x0b, 0xe6, 0x10}; /* mov %rcx,(%rbx); out %al,$0x10 */
    memcpy(memory + LOAD, load, sizeof load);
    memcpy(memory + STORE, store, sizeof store);
    struct kvm_userspace_memory_region slot = {.slot = 0, .memory_size = GUEST_DATA, .userspace_addr = (uintptr_t)memory};
    REQUIRE(ioctl(guest.vm, KVM_SET_TSS_ADDR, 0xfffbd000UL) == 0);
    REQUIRE(ioctl(guest.vm, KVM_SET_USER_MEMORY_REGION, &slot) == 0);
    return guest;
}

int guest_extension(const guest_t *guest, unsigned long capability) {
    return ioctl(guest->vm, KVM_CHECK_EXTENSION, capability);
}

void guest_map(guest_t *guest, void *host_address, uint64_t length) {
    struct kvm_userspace_memory_region slot = {.slot = 1, .guest_phys_addr = GUEST_DATA, .memory_size = length,
                                               .userspace_addr = (uintptr_t)host_address};
    REQUIRE(ioctl(guest->vm, KVM_SET_USER_MEMORY_REGION, &slot) == 0);
}

void guest_close(guest_t *guest) {
    close(guest->vm);
    munmap(guest->system, GUEST_DATA);
}

static struct kvm_segment segment(uint16_t selector, uint8_t type, bool code) {
    return (struct kvm_segment){.limit = 0xffffffff, .selector = selector, .type = type, .present = 1, .dpl = 3,
                                .db = !code, .s = 1, .l = code, .g = 1};
}

vcpu_t vcpu_open(guest_t *guest) {
    vcpu_t vcpu = {.fd = ioctl(guest->vm, KVM_CREATE_VCPU, (unsigned long)guest->vcpus++), .run_size = guest->run_size};
    REQUIRE(vcpu.fd >= 0);
    vcpu.run = mmap(NULL, vcpu.run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu.fd, 0);
    REQUIRE(vcpu.run != MAP_FAILED);
    struct kvm_cpuid2 *cpuid = calloc(1, sizeof *cpuid + 256 * sizeof cpuid->entries[0]);
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    REQUIRE(cpuid);
    cpuid->nent = 256;
    REQUIRE(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid) == 0 && ioctl(vcpu.fd, KVM_SET_CPUID2, cpuid) == 0);
    close(kvm);
    free(cpuid);
    struct kvm_sregs sregs;
    REQUIRE(ioctl(vcpu.fd, KVM_GET_SREGS, &sregs) == 0);
    sregs.cr3 = PML4;
    sregs.cr4 = 0x20;       /* PAE */
    sregs.cr0 = 0x80000031; /* PG, NE, ET, PE */
    sregs.efer = 0x500;     /* LMA, LME */
    sregs.gdt = (struct kvm_dtable){.base = GDT, .limit = 39};
    sregs.cs = segment(0x1b, 11, true);
    sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = segment(0x23, 3, false);
    REQUIRE(ioctl(vcpu.fd, KVM_SET_SREGS, &sregs) == 0);
    return vcpu;
}

void vcpu_close(vcpu_t *vcpu) {
    munmap(vcpu->run, vcpu->run_size);
    close(vcpu->fd);
}

static int run(vcpu_t *vcpu, uint64_t routine, uint64_t offset, uint64_t *value) {
    struct kvm_regs regs = {.rip = routine, .rbx = GUEST_DATA + offset, .rcx = *value, .rflags = 0x3002 /* IOPL 3 */};
    REQUIRE(ioctl(vcpu->fd, KVM_SET_REGS, &regs) == 0);
    if (ioctl(vcpu->fd, KVM_RUN, 0UL) < 0) return -errno;
    if (vcpu->run->exit_reason != KVM_EXIT_IO) printf("exit reason %u\n", vcpu->run->exit_reason);
    REQUIRE(vcpu->run->exit_reason == KVM_EXIT_IO);
    REQUIRE(ioctl(vcpu->fd, KVM_GET_REGS, &regs) == 0);
    if (routine == LOAD) *value = regs.rax;
    /* The OUT is complete only when KVM_RUN is called again. */
    vcpu->run->immediate_exit = 1;
    (void)ioctl(vcpu->fd, KVM_RUN, 0UL);
    vcpu->run->immediate_exit = 0;
    return 0;
}

int vcpu_load(vcpu_t *vcpu, uint64_t offset, uint64_t *value) { return run(vcpu, LOAD, offset, value); }
int vcpu_store(vcpu_t *vcpu, uint64_t offset, uint64_t value) { return run(vcpu, STORE, offset, &value); }
