/*
 * Fault injection: a driver goes through the phases of a memory's life as a child under ptrace; one
 * system call of the library's, in one phase, on one occurrence, fails with one errno.
 *
 * By ptrace of our own and not strace's: a call that strace keeps from happening becomes number -1,
 * which a sandboxed worker's filter answers with SIGSYS; here it becomes sched_yield(), which is on
 * the list. And ioctls are told apart by their request, as system calls are by their number.
 */
#ifndef INJECT_H
#define INJECT_H

#include "../C/support.h"

enum phase { PAUSE, CREATE, RESTORE, SERVE, SAVE, DESTROY, PHASES };

/* A kind of call: the same errnos make sense for all of it. */
typedef struct call {
    long number;
    /* ioctl's request, futex's operation, madvise's advice, fcntl's command */
    unsigned long detail;
} call_t;

enum { MOST_ERRORS = 5 };
typedef struct row {
    call_t call;
    int errors[MOST_ERRORS]; /* none: it cannot fail, or nobody looks */
    int performed;           /* this errno, or any (-1), is answered though the call was made */
    long result;             /* where the structure has the result, 0: nowhere */
} row_t;

call_t call_of(long number, const uint64_t arguments[6]);
/* NULL: nothing is known of it. */
const row_t *call_row(call_t call);
const char *call_name(call_t call); /* valid until the next call */

typedef struct place {
    call_t call;
    enum phase phase;
    bool worker; /* a thread of the library's, not the driver's own */
} place_t;

typedef struct injection {
    place_t place;
    unsigned occurrence; /* from 1; 0: none, only record */
    int error;
} injection_t;

enum { MOST_PLACES = 512 };
typedef struct record {
    place_t place;
    unsigned count;
} record_t;

/* What came of a run. */
typedef enum outcome { HELD, REFUSED, WRONG, CRASHED, HUNG } outcome_t;
typedef struct result {
    outcome_t outcome;
    bool reached; /* the call was made, and failed */
    char text[512];
    record_t *records; /* of MOST_PLACES, or NULL */
    unsigned places;
} result_t;

/* Runs the driver, at most that long. */
void trace(result_t *result, const variant_t *variant, const injection_t *injection, int seconds);

/* The driver, in the child. Tells its outcome, HELD, REFUSED or WRONG, and does not return. */
typedef struct told {
    outcome_t outcome;
    char text[400];
} told_t;
_Noreturn void drive(const variant_t *variant, told_t *told);
/* Makes what it restores and saves into. */
void drive_prepare(const variant_t *variant);

/* A prctl() that no kernel knows says which phase begins. */
enum { PHASE_MARK = 0x67726d70 };

#endif
