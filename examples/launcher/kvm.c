/* kvm.c: -accel kvm. The VM, its memory slots, and vCPU threads in KVM_RUN. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kvm-state.h"
#include "machine.h"

/* Linux 6.8; Debian 12's headers are older. */
#ifndef KVM_SET_USER_MEMORY_REGION2
#define KVM_MEM_GUEST_MEMFD (1u << 2)
#define KVM_SET_USER_MEMORY_REGION2 _IOW(KVMIO, 0x49, struct kvm_userspace_memory_region2)
struct kvm_userspace_memory_region2 {
    uint32_t slot, flags;
    uint64_t guest_phys_addr, memory_size, userspace_addr, guest_memfd_offset;
    uint32_t guest_memfd, pad1;
    uint64_t pad2[14];
};
#endif
_Static_assert(sizeof(struct kvm_userspace_memory_region2) == 160, "the kernel's layout");

static int fail(struct machine *machine, const char *what) {
    machine_fail(machine, EXIT_FAILED, "%s: %s", what, strerror(errno));
    return -1;
}

static int kvm_open(struct machine *machine) {
    machine->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (machine->kvm < 0) {
        machine_fail(machine, EXIT_FAILED,
                     "/dev/kvm: %s; -accel threads runs the same work without it", strerror(errno));
        return -1;
    }
    if (ioctl(machine->kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION ||
        ioctl(machine->kvm, KVM_CHECK_EXTENSION, KVM_CAP_IMMEDIATE_EXIT) <= 0) {
        errno = ENOTSUP;
        return fail(machine, "this kernel's KVM");
    }
    machine->vm = ioctl(machine->kvm, KVM_CREATE_VM, 0);
    if (machine->vm < 0)
        return fail(machine, "KVM_CREATE_VM");
    /* Three pages that Intel's KVM wants for itself, in the hole where QEMU has them too. */
    if (ioctl(machine->vm, KVM_SET_TSS_ADDR, 0xfffbd000ul))
        return fail(machine, "KVM_SET_TSS_ADDR");
    return 0;
}

static int kvm_map(struct machine *machine, unsigned number, const guestram_slot_t *slot) {
    const struct ram_block *block = ram_block(machine, slot->region);
    bool memfd = block->info.type == GUESTRAM_GUEST_MEMFD && !block->plain_slot;
    /* The first call takes the members that the two have in common. */
    struct kvm_userspace_memory_region2 region = {
        .slot = number,
        .flags = memfd ? KVM_MEM_GUEST_MEMFD : 0,
        .guest_phys_addr = slot->guest_physical,
        .memory_size = slot->length,
        .userspace_addr = (uintptr_t)slot->host_address,
        .guest_memfd = memfd ? (uint32_t)block->info.fd : 0,
        .guest_memfd_offset = memfd ? block->info.fd_offset + slot->offset : 0,
    };
    if (!memfd && ioctl(machine->vm, KVM_SET_USER_MEMORY_REGION, &region))
        return fail(machine, "KVM_SET_USER_MEMORY_REGION");
    if (memfd && ioctl(machine->vm, KVM_SET_USER_MEMORY_REGION2, &region))
        return fail(machine, "KVM_SET_USER_MEMORY_REGION2 with KVM_MEM_GUEST_MEMFD");
    return 0;
}

static int kvm_create(struct vcpu *vcpu) {
    struct machine *machine = vcpu->machine;
    vcpu->fd = ioctl(machine->vm, KVM_CREATE_VCPU, (unsigned long)vcpu->index);
    if (vcpu->fd < 0)
        return fail(machine, "KVM_CREATE_VCPU");
    int length = ioctl(machine->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    void *run = length <= 0
                    ? MAP_FAILED
                    : mmap(NULL, (size_t)length, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
    if (run == MAP_FAILED)
        return fail(machine, "mapping a vCPU");
    vcpu->run = run;
    if (kvm_cpuid(machine->kvm, vcpu->fd))
        return fail(machine, "KVM_SET_CPUID2");
    return 0;
}

static int kvm_boot(struct vcpu *vcpu) {
    struct machine *machine = vcpu->machine;
    uint64_t high_page = (machine->low - GUEST_WORK) / PAGE, hole = (1ull << 32) - machine->low;
    if (vcpu->index == 0)
        kvm_state_memory(ram_start(machine), machine->ram_size + hole);
    if (kvm_state_boot(vcpu->fd, vcpu->index, high_page, hole))
        return fail(machine, "setting a vCPU's registers");
    return 0;
}

static int kvm_load(struct vcpu *vcpu) {
    const char *what = kvm_state_load(vcpu->fd, vcpu->state);
    return what ? fail(vcpu->machine, what) : 0;
}

static int kvm_park(struct vcpu *vcpu) {
    /* The IN that answered COMMAND_TICK is complete only after KVM was entered once more. */
    vcpu->run->immediate_exit = 1;
    if (ioctl(vcpu->fd, KVM_RUN, 0) != -1 || errno != EINTR)
        return fail(vcpu->machine, "completing a vCPU's last IN");
    const char *what = kvm_state_store(vcpu->fd, vcpu->state);
    return what ? fail(vcpu->machine, what) : 0;
}

static void kvm_io(struct vcpu *vcpu) {
    struct kvm_run *run = vcpu->run;
    char *data = (char *)run + run->io.data_offset;
    for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
        uint32_t value = 0;
        if (run->io.direction == KVM_EXIT_IO_OUT) {
            memcpy(&value, data, run->io.size);
            device_out(vcpu, run->io.port, value);
        } else {
            value = device_in(vcpu, run->io.port);
            memcpy(data, &value, run->io.size);
        }
    }
}

static void kvm_run_failed(struct vcpu *vcpu, int error) {
    struct kvm_regs regs = {0};
    ioctl(vcpu->fd, KVM_GET_REGS, &regs);
    machine_fail(vcpu->machine, EXIT_FAILED,
                 "vCPU %u at rip %#llx: KVM_RUN answered %s, exit reason %u", vcpu->index,
                 (unsigned long long)regs.rip, error ? strerror(error) : "an exit not expected",
                 vcpu->run->exit_reason);
}

static void kvm_vcpu_run(struct vcpu *vcpu) {
    int answer = ioctl(vcpu->fd, KVM_RUN, 0);
    if (answer && errno != EINTR) /* EINTR is a signal; a fault it met comes again */
        kvm_run_failed(vcpu, errno);
    else if (!answer && vcpu->run->exit_reason == KVM_EXIT_IO)
        kvm_io(vcpu);
    else if (!answer)
        kvm_run_failed(vcpu, 0);
}

static void kvm_kick(struct vcpu *vcpu) {
    /* Set before the signal: if this finds the vCPU outside KVM_RUN, it will not stay in it. */
    vcpu->run->immediate_exit = 1;
    pthread_kill(vcpu->thread, SIGUSR1);
}

static void kvm_close(struct machine *machine) {
    int length = machine->kvm < 0 ? 0 : ioctl(machine->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    for (unsigned i = 0; i < machine->vcpu_count; i++) {
        if (machine->vcpus[i].run)
            munmap(machine->vcpus[i].run, (size_t)length);
        if (machine->vcpus[i].fd >= 0)
            close(machine->vcpus[i].fd);
    }
    if (machine->vm >= 0)
        close(machine->vm);
    if (machine->kvm >= 0)
        close(machine->kvm);
}

const struct accel accel_kvm = {
    .name = "kvm",
    .state_size = sizeof(struct kvm_state),
    .open = kvm_open,
    .map = kvm_map,
    .create = kvm_create,
    .boot = kvm_boot,
    .load = kvm_load,
    .run = kvm_vcpu_run,
    .park = kvm_park,
    .kick = kvm_kick,
    .close = kvm_close,
};
