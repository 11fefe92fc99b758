/*
 * sigbus.c: a page whose contents could not be read is poisoned. Whoever touches it gets SIGBUS, as
 * for memory that failed: a vCPU's comes out of KVM_RUN, which then answers EINTR; a host thread
 * has to be taken out of the access.
 */
#include <stdlib.h>

#include "machine.h"

static _Thread_local struct vcpu *current;

static void on_sigbus(int signal, siginfo_t *info, void *context) {
    (void)context;
    if (!current) { /* not guest memory: a bug, and dying of it is right */
        struct sigaction fatal = {.sa_handler = SIG_DFL};
        sigaction(signal, &fatal, NULL);
        return;
    }
    current->bus_address = info->si_addr;
    if (current->bus_jump_set)
        siglongjmp(current->bus_jump, 1);
}

static void on_kick(int signal) { (void)signal; /* its arrival is enough: KVM_RUN answers EINTR */ }

void sigbus_install(void) {
    struct sigaction bus = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO};
    struct sigaction kick = {.sa_handler = on_kick};
    sigaction(SIGBUS, &bus, NULL);
    sigaction(SIGUSR1, &kick, NULL);
}

void sigbus_thread(struct vcpu *vcpu) { current = vcpu; }

void sigbus_report(struct vcpu *vcpu) {
    struct machine *machine = vcpu->machine;
    const char *who = vcpu == &machine->reader ? "the reader" : "vCPU";
    machine_fail(machine, EXIT_POISONED,
                 "%s %u touched guest-physical %#llx (host %p), which is poisoned: its contents "
                 "could not be read from the snapshot; the machine is stopped",
                 who, vcpu->index,
                 (unsigned long long)ram_guest_physical(machine, vcpu->bus_address),
                 vcpu->bus_address);
}
