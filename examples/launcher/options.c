/* options.c: the command line but for -object. */
#include "options.h"

#include <guestram.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "workload.h"

_Noreturn void usage(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("guestram-launcher: ", stderr);
    vfprintf(stderr, format, arguments);
    fputs("; -help lists the options\n", stderr);
    va_end(arguments);
    exit(EXIT_USAGE);
}

static unsigned parse_choice(const char *name, const char *text, const char *first,
                             const char *second) {
    if (strcmp(text, first) && strcmp(text, second))
        usage("%s %s: it is %s or %s", name, text, first, second);
    return !strcmp(text, second);
}

static void parse_report(struct options *options, const char *text) {
    static const char *const names[] = {"text", "json", "prometheus"};
    size_t length = strcspn(text, ":");
    for (int i = 0; i < REPORT_KINDS; i++) {
        if (strlen(names[i]) != length || strncmp(text, names[i], length))
            continue;
        if (!text[length])
            options->report = (enum report)i;
        else if (text[length + 1])
            options->report_file[i] = text + length + 1;
        else
            usage("-report %s: a file's name is missing", text);
        return;
    }
    usage("-report %s: it is text, json or prometheus, with :FILE or without", text);
}

static uint64_t parse_percent(const char *text) {
    char *end;
    double percent = strtod(text, &end);
    if (end == text || *end || !(percent >= 0.01 && percent <= 100))
        usage("touch:%s: a percentage from 0.01 to 100 is needed", text);
    return (uint64_t)(percent * 100 + 0.5);
}

static void add_phase(struct options *options, char *step) {
    if (options->phase_count == MAX_PHASES)
        usage("-run: at most %d steps", MAX_PHASES);
    struct phase *phase = &options->phases[options->phase_count++];
    char *argument = strchr(step, ':'), *second = NULL;
    if (argument)
        *argument++ = 0;
    *phase = (struct phase){.run = 1};
    if (!strcmp(step, "fill")) {
        phase->kind = PHASE_FILL;
        phase->amount = argument ? parse_number("fill", argument, UINT64_MAX) : options->seed;
    } else if (!strcmp(step, "tick")) {
        phase->kind = PHASE_TICK;
        phase->amount = argument ? parse_number("tick", argument, 1u << 20) : 1;
    } else if (!strcmp(step, "checksum")) {
        phase->kind = argument ? PHASE_EACH : PHASE_CHECKSUM;
        if (argument && strcmp(argument, "each"))
            usage("-run checksum:%s: only checksum:each is known", argument);
    } else if (!strcmp(step, "touch") && argument) {
        phase->kind = PHASE_TOUCH;
        if ((second = strchr(argument, ':')))
            *second++ = 0;
        phase->amount = parse_percent(argument);
        phase->run = second ? parse_number("touch's run of pages", second, 1u << 18) : 1;
        if (!phase->run)
            usage("touch:%s:0: a run has one page at least", argument);
    } else if (!strcmp(step, "balloon") && argument) {
        phase->kind = PHASE_BALLOON;
        phase->amount = parse_size("balloon", argument, 1);
        if (!phase->amount)
            usage("balloon:%s: a size above 0 is needed", argument);
    } else if (!strcmp(step, "resident") && !argument) {
        phase->kind = PHASE_RESIDENT;
    } else if (!strcmp(step, "sleep") && argument) {
        phase->kind = PHASE_SLEEP;
        phase->amount = parse_number("sleep", argument, 3600 * 1000);
    } else {
        usage("-run: unknown step %s%s%s", step, argument ? ":" : "", argument ? argument : "");
    }
}

static void add_phases(struct options *options, const char *text) {
    char *copy = strdup(text), *rest = copy;
    if (!copy)
        abort();
    for (char *step; (step = strsep(&rest, ","));)
        add_phase(options, step);
    free(copy);
}

static void add_memdev(const char *memdevs[], unsigned *count, const char *id) {
    if (*count == MAX_BACKENDS)
        usage("%s: at most %d backends", id, MAX_BACKENDS);
    memdevs[(*count)++] = id;
}

/* Puts the backends into the order in which -machine or -numa names them. */
static void order_backends(struct options *options, const char *const memdevs[], unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        unsigned found = i;
        while (found < options->backend_count && strcmp(options->backends[found].id, memdevs[i]))
            found++;
        if (found >= options->backend_count)
            usage("the RAM is to be memory-backend %s: no -object, or no other one, has this id",
                  memdevs[i]);
        struct backend backend = options->backends[found];
        options->backends[found] = options->backends[i];
        options->backends[i] = backend;
    }
    if (options->backend_count > count)
        usage("-object id=%s is not used: add -machine memory-backend=%s, or of several for each "
              "-numa node,memdev=ID",
              options->backends[count].id, options->backends[count].id);
}

static void check_sizes(struct options *options) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < options->backend_count; i++) {
        const struct backend *backend = &options->backends[i];
        if (!backend->size && options->backend_count > 1 && !options->incoming)
            usage("-object id=%s: size= is missing", backend->id);
        if (!backend->size)
            return;
        if (__builtin_add_overflow(sum, backend->size, &sum))
            usage("-object id=%s: more than 16 EiB of RAM", backend->id);
    }
    if (sum && options->ram_size && sum != options->ram_size)
        usage("-m says %llu bytes, -object size= says %llu", (unsigned long long)options->ram_size,
              (unsigned long long)sum);
    if (sum)
        options->ram_size = sum;
}

static void check(struct options *options, const char *run, const char *touch) {
    check_sizes(options);
    for (unsigned i = 0; i < options->backend_count; i++)
        if (options->backends[i].type == GUESTRAM_GUEST_MEMFD && !options->backends[i].plain_slot)
            options->restore_mode = GUESTRAM_RESTORE_EAGER;
    if (run && touch)
        usage("-touch is short for -run touch:PERCENT: use one of the two");
    if (touch) {
        options->phases[0] = (struct phase){PHASE_TOUCH, parse_percent(touch), 1};
        options->phase_count = 1;
    } else {
        add_phases(options, run ? run : options->incoming ? "checksum" : "tick,fill,tick,checksum");
    }
    for (unsigned i = 0; i < options->phase_count; i++) {
        int kind = options->phases[i].kind;
        if (kind == PHASE_RESIDENT && !options->background)
            usage("-run resident would wait for ever: give -background too");
        if ((kind == PHASE_FILL || kind == PHASE_BALLOON) && options->reader)
            usage("-reader: the guest must not change its memory meanwhile");
    }
    if (options->reader && !options->incoming)
        usage("-reader: without -incoming there is nothing to read");
}

void options_parse(struct options *options, int argc, char **argv) {
    const char *memdevs[MAX_BACKENDS] = {NULL}, *run = NULL, *touch = NULL;
    unsigned memdev_count = 0;
    *options = (struct options){.seed = 1};
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i][0] == '-' && argv[i][1] == '-' ? argv[i] + 1 : argv[i];
        if (!strcmp(name, "-help") || !strcmp(name, "-h")) {
            options->what = DO_HELP;
            return;
        }
        if (!strcmp(name, "-probe")) {
            options->what = DO_PROBE;
            return;
        }
        if (!strcmp(name, "-sandbox-list")) {
            options->what = DO_SANDBOX_LIST;
            return;
        }
        if (!strcmp(name, "-reader")) {
            options->reader = true;
            continue;
        }
        const char *value = argv[i + 1];
        if (!strcmp(name, "-m") && value) {
            options->ram_size = parse_size("-m", value, 1 << 20);
        } else if (!strcmp(name, "-smp") && value) {
            options->vcpus = (unsigned)parse_number("-smp", value, GUEST_MAX_VCPUS);
            if (!options->vcpus)
                usage("-smp 0: one vCPU is the least");
        } else if (!strcmp(name, "-accel") && value) {
            options->accel =
                parse_choice(name, value, "kvm", "threads") ? ACCEL_THREADS : ACCEL_KVM;
        } else if (!strcmp(name, "-object") && value) {
            object_parse(options, value);
        } else if (!strcmp(name, "-machine") && value) {
            if (strncmp(value, "memory-backend=", 15))
                usage("-machine %s: only memory-backend=ID is known", value);
            add_memdev(memdevs, &memdev_count, value + 15);
        } else if (!strcmp(name, "-numa") && value) {
            if (strncmp(value, "node,memdev=", 12))
                usage("-numa %s: only node,memdev=ID is known", value);
            add_memdev(memdevs, &memdev_count, value + 12);
        } else if (!strcmp(name, "-incoming") && value) {
            if (strncmp(value, "file:", 5) || !value[5])
                usage("-incoming %s: file:DIR is needed", value);
            options->incoming = value + 5;
        } else if (!strcmp(name, "-restore") && value) {
            options->restore_mode = parse_choice(name, value, "lazy", "eager")
                                        ? GUESTRAM_RESTORE_EAGER
                                        : GUESTRAM_RESTORE_LAZY;
        } else if (!strcmp(name, "-background") && value) {
            options->background = strcmp(value, "off");
            options->background_rate = strcmp(value, "max") && options->background
                                           ? parse_size(name, value, 1)
                                           : UINT64_MAX;
        } else if (!strcmp(name, "-run") && value) {
            run = value;
        } else if (!strcmp(name, "-touch") && value) {
            touch = value;
        } else if (!strcmp(name, "-seed") && value) {
            options->seed = parse_number(name, value, UINT64_MAX);
        } else if (!strcmp(name, "-balloon") && value) {
            options->balloon_madvise = parse_choice(name, value, "discard", "madvise");
        } else if (!strcmp(name, "-save") && value) {
            options->save = value;
        } else if (!strcmp(name, "-report") && value) {
            parse_report(options, value);
        } else {
            usage("%s: not an option, or its argument is missing", argv[i]);
        }
        i++;
    }
    order_backends(options, memdevs, memdev_count);
    check(options, run, touch);
}
