/*
 * sigbus.c: a page whose contents could not be read is poisoned. Whoever touches it gets SIGBUS, as
 * for memory that failed: a host thread in the access, a vCPU on its way out of KVM_RUN. Both are
 * taken out of it by a jump.
 */
#include "machine.h"

static _Thread_local struct vcpu *volatile current;

static void on_sigbus(int signal, siginfo_t *info, void *context) {
    (void)context;
    struct vcpu *vcpu = current;
    if (!vcpu) { /* not guest memory: a bug, and dying of it is right */
        struct sigaction fatal = {.sa_handler = SIG_DFL};
        sigaction(signal, &fatal, NULL);
        return;
    }
    vcpu->bus_address = info->si_addr;
    siglongjmp(vcpu->bus_jump, 1);
}

static void on_kick(int signal) { (void)signal; /* its arrival is enough: KVM_RUN answers EINTR */ }

void sigbus_install(void) {
    struct sigaction bus = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO};
    struct sigaction kick = {.sa_handler = on_kick};
    sigaction(SIGBUS, &bus, NULL);
    sigaction(SIGUSR1, &kick, NULL);
}

static void report_bus(struct vcpu *vcpu) {
    struct machine *machine = vcpu->machine;
    const char *who = vcpu == &machine->reader ? "the reader" : "vCPU";
    machine_fail(machine, EXIT_POISONED,
                 "%s %u touched guest-physical %#llx (host %p), which is poisoned: its contents "
                 "could not be read from the snapshot; the machine is stopped",
                 who, vcpu->index,
                 (unsigned long long)ram_guest_physical(machine, vcpu->bus_address),
                 vcpu->bus_address);
}

void sigbus_guard(struct vcpu *vcpu, void (*run)(struct vcpu *vcpu)) {
    if (sigsetjmp(vcpu->bus_jump, 1)) {
        current = NULL;
        report_bus(vcpu);
    } else {
        current = vcpu;
        run(vcpu);
        current = NULL;
    }
}
