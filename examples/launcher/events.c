/* events.c: says what the library has to tell, as it happens. */
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "machine.h"

static void say_event(const struct machine *machine, const guestram_event_t *event) {
    static const char *const names[] = {
        [GUESTRAM_EVENT_PAGE_ERROR] = "memory cannot be read from the snapshot",
        [GUESTRAM_EVENT_STALLED] = "the snapshot is slow to answer",
        [GUESTRAM_EVENT_REMAPPED] = "memory was moved",
        [GUESTRAM_EVENT_UNMAPPED] = "memory was unmapped",
        [GUESTRAM_EVENT_DENIED] = "a fault handler was denied a system call",
        [GUESTRAM_EVENT_REMAP_REFUSED] = "memory was moved away",
        [GUESTRAM_EVENT_STALE_REMOVED] = "what a killed save had left was removed",
    };
    if (event->type == GUESTRAM_EVENT_RESIDENT)
        say(machine, "event: all memory is resident\n");
    else
        say(machine, "event: %s: region %u, offset %#llx, %llu bytes%s%s\n",
            event->type < sizeof names / sizeof *names && names[event->type] ? names[event->type]
                                                                             : "unknown",
            event->region, (unsigned long long)event->offset, (unsigned long long)event->length,
            event->error ? ": " : "", event->error ? strerror(event->error) : "");
}

static void count_page_error(struct machine *machine) {
    pthread_mutex_lock(&machine->lock);
    machine->page_errors++;
    pthread_cond_broadcast(&machine->changed);
    pthread_mutex_unlock(&machine->lock);
}

/* Who touched the page may be here before the event is, a moment later. */
static void wait_page_error(struct machine *machine) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 2;
    pthread_mutex_lock(&machine->lock);
    while (!machine->page_errors &&
           !pthread_cond_timedwait(&machine->changed, &machine->lock, &until))
        ;
    pthread_mutex_unlock(&machine->lock);
}

static void *events_thread(void *argument) {
    struct machine *machine = argument;
    struct pollfd fds[] = {{.fd = guestram_event_fd(machine->memory), .events = POLLIN},
                           {.fd = machine->events_end, .events = POLLIN}};
    guestram_event_t event = {.size = sizeof event};
    do {
        poll(fds, 2, -1);
        while (!guestram_next_event(machine->memory, &event)) {
            say_event(machine, &event);
            if (event.type == GUESTRAM_EVENT_PAGE_ERROR)
                count_page_error(machine);
        }
    } while (!fds[1].revents);
    return NULL;
}

int events_start(struct machine *machine) {
    machine->events_end = eventfd(0, EFD_CLOEXEC);
    if (machine->events_end < 0 ||
        pthread_create(&machine->events_thread, NULL, events_thread, machine)) {
        machine_fail(machine, EXIT_FAILED, "no thread for events");
        return -1;
    }
    return 0;
}

void events_stop(struct machine *machine) {
    if (machine->status == EXIT_POISONED)
        wait_page_error(machine);
    if (eventfd_write(machine->events_end, 1))
        return;
    pthread_join(machine->events_thread, NULL);
    close(machine->events_end);
}
