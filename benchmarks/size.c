/* lib.size: the same small program with the archive (-DWITH) and without it. */
#ifdef WITH
#include <guestram.h>
#endif
#include <stdio.h>

int main(int count, char **arguments) {
    const char *name = count > 1 ? arguments[1] : "snapshot";
#ifdef WITH
    guestram_t *memory = NULL;
    guestram_snapshot_t *snapshot = NULL;
    if (guestram_snapshot_open(name, &snapshot) != 0 || guestram_create(NULL, &memory) != 0 ||
        guestram_restore(memory, snapshot, NULL) != 0 || guestram_start(memory) != 0 ||
        guestram_background_fill(memory, UINT64_MAX) != 0 ||
        guestram_wait_resident(memory, -1) != 0 || guestram_save(memory, "copy", NULL) != 0)
        puts(guestram_error());
    guestram_snapshot_close(snapshot);
    guestram_destroy(memory);
#endif
    return printf("%s\n", name) < 0;
}
