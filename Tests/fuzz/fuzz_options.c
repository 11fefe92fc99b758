/*
 * The launcher's command line: lines of the input are its arguments. What is taken is within the
 * limits that the rest of the launcher counts on; what is refused ends with EXIT_USAGE.
 */
#include "fuzz.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

static jmp_buf refused;
_Noreturn static void leave(int status) {
    HOLDS(status == 2);
    longjmp(refused, 1);
}

#define exit(status) leave(status)
#include "../../examples/launcher/options-object.c"
#include "../../examples/launcher/options.c"
#undef exit

static void check_taken(const struct options *options) {
    HOLDS(options->what <= DO_SANDBOX_LIST);
    if (options->what != DO_RUN)
        return;
    HOLDS(options->vcpus <= GUEST_MAX_VCPUS);
    HOLDS(options->backend_count <= MAX_BACKENDS);
    for (unsigned i = 0; i < options->backend_count; i++) {
        const struct backend *backend = &options->backends[i];
        HOLDS(backend->type >= GUESTRAM_ANON && backend->type <= GUESTRAM_GUEST_MEMFD);
        HOLDS(backend->id[0] && memchr(backend->id, 0, sizeof backend->id));
        HOLDS(memchr(backend->mem_path, 0, sizeof backend->mem_path));
        HOLDS(backend->policy <= GUESTRAM_POLICY_INTERLEAVE);
        for (unsigned j = 0; j < i; j++) HOLDS(strcmp(backend->id, options->backends[j].id));
    }
    HOLDS(options->restore_mode <= GUESTRAM_RESTORE_EAGER);
    HOLDS(options->phase_count >= 1 && options->phase_count <= MAX_PHASES);
    for (unsigned i = 0; i < options->phase_count; i++) {
        const struct phase *phase = &options->phases[i];
        HOLDS(phase->kind <= PHASE_SLEEP && phase->run >= 1);
        if (phase->kind == PHASE_TOUCH)
            HOLDS(phase->amount >= 1 && phase->amount <= 10000);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct options options;
    char *text = malloc(size + 1), *argv[66] = {"launcher"};
    int argc = 1;
    memcpy(text, data, size);
    text[size] = 0;
    char *volatile owned = text;
    for (char *rest = text, *line; argc < 65 && (line = strsep(&rest, "\n"));)
        argv[argc++] = line;
    if (!setjmp(refused)) {
        options_parse(&options, argc, argv);
        check_taken(&options);
    }
    free(owned);
    return 0;
}
