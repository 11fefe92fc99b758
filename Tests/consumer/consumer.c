/* A program of someone else's: alone with the installed header, it links and calls. */
#include <guestram.h>

#include <stdio.h>

int main(void) {
    guestram_t *memory = NULL;
    uint32_t version =
        GUESTRAM_VERSION_MAJOR << 16 | GUESTRAM_VERSION_MINOR << 8 | GUESTRAM_VERSION_PATCH;
    if (guestram_version() != version) {
        fprintf(stderr, "header %#x, library %#x\n", version, guestram_version());
        return 1;
    }
    if (guestram_create(NULL, &memory) < 0) {
        fprintf(stderr, "guestram_create: %s\n", guestram_error());
        return 1;
    }
    guestram_destroy(memory);
    return 0;
}
