/*
 * 64-bit code in ring 3: it runs natively on every KVM. RAM lies at guest-physical 0 and holds
 * nothing but what the snapshot holds; all that the guest itself needs is a second slot above it.
 */
#include "guest.h"
#include "bench.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define MACHINE_BASE GIB /* guest-physical */
#define MACHINE_LENGTH MIB
enum { PML4 = 0, PDPT = 0x1000, DIRECTORIES = 0x2000, GDT = 0x4000, CODE = 0x5000, LIST = 0x10000 };

/*
 * rsi: the list, rcx: how many; rbx: the sum, which leaves by a write to where no memory is. (Not
 * by an OUT: a kvm-pvm vCPU that slept in a fault comes back without its IOPL.)
 */
extern const uint8_t guest_code[], guest_code_end[];
__asm__(".pushsection .rodata\n"
        "guest_code:\n"
        "    xor %ebx, %ebx\n"
        "1:  mov (%rsi), %rax\n"
        "    add (%rax), %rbx\n"
        "    add $8, %rsi\n"
        "    dec %rcx\n"
        "    jnz 1b\n"
        "    mov $0x60000000, %eax\n"
        "    mov %rbx, (%rax)\n"
        "guest_code_end:\n"
        ".popsection\n");

const char *guest_missing(void) {
    return access("/dev/kvm", R_OK | W_OK) == 0 ? NULL : "/dev/kvm cannot be opened";
}

static void write_machine(uint8_t *machine, const uint32_t *pages, size_t count) {
    const uint64_t usable = 7, leaf = 0x80; /* present, writable, user; 2 MiB */
    uint64_t *tables = (uint64_t *)(void *)machine;
    tables[PML4 / 8] = (MACHINE_BASE + PDPT) | usable;
    for (uint64_t gib = 0; gib < 2; gib++) {
        tables[PDPT / 8 + gib] = (MACHINE_BASE + DIRECTORIES + gib * 0x1000) | usable;
        for (uint64_t i = 0; i < 512; i++)
            tables[(DIRECTORIES + gib * 0x1000) / 8 + i] = (gib << 30 | i << 21) | usable | leaf;
    }
    tables[GDT / 8 + 3] = 0x00affb000000ffff; /* 0x1b: 64-bit code, ring 3 */
    tables[GDT / 8 + 4] = 0x00cff3000000ffff; /* 0x23: data, ring 3 */
    memcpy(machine + CODE, guest_code, (size_t)(guest_code_end - guest_code));
    check(LIST + count * 8 <= MACHINE_LENGTH);
    for (size_t i = 0; i < count; i++)
        tables[LIST / 8 + i] = (uint64_t)pages[i] * PAGE;
}

static void set_slot(int vm, uint32_t slot, uint64_t base, uint8_t *address, size_t length) {
    struct kvm_userspace_memory_region region = {.slot = slot,
                                                 .guest_phys_addr = base,
                                                 .memory_size = length,
                                                 .userspace_addr = (uintptr_t)address};
    check(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) == 0);
}

static void set_registers(int vcpu, size_t first, size_t last) {
    struct kvm_sregs system;
    check(ioctl(vcpu, KVM_GET_SREGS, &system) == 0);
    struct kvm_segment code = {.selector = 0x1b,
                               .limit = 0xffffffff,
                               .type = 11,
                               .present = 1,
                               .dpl = 3,
                               .s = 1,
                               .l = 1,
                               .g = 1};
    struct kvm_segment data = {.selector = 0x23,
                               .limit = 0xffffffff,
                               .type = 3,
                               .present = 1,
                               .dpl = 3,
                               .s = 1,
                               .db = 1,
                               .g = 1};
    system.cs = code;
    system.ds = system.es = system.fs = system.gs = system.ss = data;
    system.gdt = (struct kvm_dtable){.base = MACHINE_BASE + GDT, .limit = 39};
    system.cr0 = 0x80000031; /* PG NE ET PE */
    system.cr3 = MACHINE_BASE + PML4;
    system.cr4 = 0x20;   /* PAE */
    system.efer = 0x500; /* LMA LME */
    check(ioctl(vcpu, KVM_SET_SREGS, &system) == 0);
    struct kvm_regs registers = {.rip = MACHINE_BASE + CODE,
                                 .rflags = 2,
                                 .rsi = MACHINE_BASE + LIST + first * 8,
                                 .rcx = last - first};
    check(ioctl(vcpu, KVM_SET_REGS, &registers) == 0);
}

void guest_create(struct guest *guest, unsigned vcpus, const uint32_t *pages, size_t count) {
    static union {
        struct kvm_cpuid2 list;
        uint8_t room[sizeof(struct kvm_cpuid2) + 256 * sizeof(struct kvm_cpuid_entry2)];
    } cpuid;
    check(vcpus >= 1 && vcpus <= GUEST_MAX_VCPUS && count >= vcpus);
    *guest = (struct guest){.count = vcpus, .pages = count};
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    check(kvm >= 0);
    guest->vm = ioctl(kvm, KVM_CREATE_VM, 0);
    check(guest->vm >= 0);
    check(ioctl(guest->vm, KVM_SET_TSS_ADDR, 0xfffbd000UL) == 0);
    int run_size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    check(run_size > 0);
    guest->run_size = (size_t)run_size;
    cpuid.list.nent = 256;
    check(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid) == 0);
    close(kvm);
    guest->machine = mmap(NULL, MACHINE_LENGTH, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    check(guest->machine != MAP_FAILED);
    write_machine(guest->machine, pages, count);
    set_slot(guest->vm, 1, MACHINE_BASE, guest->machine, MACHINE_LENGTH);
    for (unsigned i = 0; i < vcpus; i++) {
        guest->vcpus[i] = ioctl(guest->vm, KVM_CREATE_VCPU, i);
        check(guest->vcpus[i] >= 0);
        check(ioctl(guest->vcpus[i], KVM_SET_CPUID2, &cpuid) == 0);
        set_registers(guest->vcpus[i], count * i / vcpus, count * (i + 1) / vcpus);
    }
}

struct vcpu {
    int fd;
    size_t run_size;
    uint64_t sum;
};

static void *vcpu_thread(void *argument) {
    struct vcpu *vcpu = argument;
    struct kvm_run *run =
        mmap(NULL, vcpu->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
    check(run != MAP_FAILED);
    while (ioctl(vcpu->fd, KVM_RUN, 0) != 0)
        check(errno == EINTR || errno == EAGAIN);
    if (run->exit_reason != KVM_EXIT_MMIO || run->mmio.len != sizeof vcpu->sum)
        fail("the guest ended with exit %u instead of its sum", run->exit_reason);
    memcpy(&vcpu->sum, run->mmio.data, sizeof vcpu->sum);
    check(munmap(run, vcpu->run_size) == 0);
    return NULL;
}

uint64_t guest_run(struct guest *guest, uint8_t *ram, size_t length) {
    struct vcpu vcpus[GUEST_MAX_VCPUS];
    pthread_t threads[GUEST_MAX_VCPUS];
    uint64_t sum = 0;
    set_slot(guest->vm, 0, 0, ram, length);
    for (unsigned i = 0; i < guest->count; i++) {
        vcpus[i] = (struct vcpu){.fd = guest->vcpus[i], .run_size = guest->run_size};
        check(pthread_create(&threads[i], NULL, vcpu_thread, &vcpus[i]) == 0);
    }
    for (unsigned i = 0; i < guest->count; i++) {
        check(pthread_join(threads[i], NULL) == 0);
        sum += vcpus[i].sum;
    }
    return sum;
}

void guest_destroy(struct guest *guest) {
    for (unsigned i = 0; i < guest->count; i++)
        close(guest->vcpus[i]);
    close(guest->vm);
    check(munmap(guest->machine, MACHINE_LENGTH) == 0);
}
