/* main.c: guestram-launcher, a small QEMU-style launcher whose guest's RAM libguestram owns. */
#include <errno.h>
#include <guestram.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "machine.h"

/* Prints a text of the library's whose length is known only once it was asked for. */
static int print_text(int (*text)(char *, size_t)) {
    int length = text(NULL, 0);
    char *buffer = length < 0 ? NULL : malloc((size_t)length + 1);
    if (!buffer || text(buffer, (size_t)length + 1) < 0) {
        fprintf(stderr, "guestram-launcher: %s\n", guestram_error());
        free(buffer);
        return EXIT_FAILED;
    }
    fputs(buffer, stdout);
    free(buffer);
    return 0;
}

static const struct accel *choose_accel(const struct options *options) {
    FILE *out = options->report ? stderr : stdout;
    const char *why = "";
    const struct accel *accel = options->accel == ACCEL_THREADS ? &accel_threads : &accel_kvm;
    if (options->accel == ACCEL_AUTO && access("/dev/kvm", R_OK | W_OK)) {
        why = strerror(errno);
        accel = &accel_threads;
    }
    fprintf(out, "accel: %s%s%s%s\n", accel->name, *why ? " (/dev/kvm: " : "", why,
            *why ? ")" : "");
    return accel;
}

int main(int argc, char **argv) {
    struct options options;
    options_parse(&options, argc, argv);
    switch (options.what) {
    case DO_HELP:
        options_help();
        return 0;
    case DO_PROBE:
        return print_text(guestram_probe_text);
    case DO_SANDBOX_LIST:
        return print_text(guestram_sandbox_text);
    case DO_RUN:
        break;
    }
    setvbuf(stdout, NULL, _IOLBF, 0); /* the guest's lines as they come, piped or not */
    sigbus_install();
    return machine_run(&options, choose_accel(&options));
}
