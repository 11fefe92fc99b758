#include "fuzz.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void fuzz_failed(const char *file, int line, const char *text) {
    dprintf(2, "%s:%d: does not hold: %s (last error: %s)\n", file, line, text, guestram_error());
    abort();
}

int answered(int result) {
    if (result >= 0)
        return result;
    HOLDS(strerrorname_np(-result) && guestram_error()[0] && strlen(guestram_error()) < 512);
    return result;
}

uint8_t take(input_t *input) { return input->at < input->end ? *input->at++ : 0; }

uint64_t take_number(input_t *input) {
    uint64_t number = 0;
    for (int i = 0; i < 8; i++)
        number = number << 8 | take(input);
    return number;
}

/* Only the fuzzer's own thread touches guest memory. */
static sigjmp_buf landing;
static volatile sig_atomic_t touching;

static void on_sigbus(int number, siginfo_t *info, void *context) {
    (void)info, (void)context;
    if (touching)
        siglongjmp(landing, 1);
    signal(number, SIG_DFL);
}

/* At first use, not before: the fuzzer and the sanitizer install theirs. */
static void catch_sigbus(void) {
    static bool caught;
    struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_NODEFER};
    if (!caught)
        HOLDS(sigaction(SIGBUS, &action, NULL) == 0);
    caught = true;
}

static bool touch(void *to, const void *from, size_t length) {
    catch_sigbus();
    bool whole = sigsetjmp(landing, 0) == 0;
    touching = whole;
    for (size_t i = 0; whole && i < length / 8; i++)
        ((volatile uint64_t *)to)[i] = ((const volatile uint64_t *)from)[i];
    touching = false;
    return whole;
}

bool read_page(void *to, const void *page) { return touch(to, page, PAGE); }
bool write_word(void *page, uint64_t value) { return touch(page, &value, 8); }

guestram_pool_t *fuzz_pool(void) {
    static guestram_pool_t *pool;
    guestram_pool_options_t options = {
        .size = sizeof options, .workers = 2, .sandbox = GUESTRAM_SANDBOX_OFF};
    if (!pool)
        HOLDS(guestram_pool_create(&options, &pool) == 0);
    return pool;
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *where) {
    (void)info, (void)type, (void)where;
    return remove(path);
}

void remove_directory(const char *path) { nftw(path, remove_entry, 8, FTW_DEPTH | FTW_PHYS); }

static char directory[64] = "/dev/shm/guestram-fuzz.XXXXXX";
static void remove_ours(void) { remove_directory(directory); }

const char *fuzz_directory(void) {
    static bool made;
    if (!made) {
        const char *given = getenv("FUZZ_DIRECTORY"); /* removed by whoever gave it */
        if (given)
            snprintf(directory, sizeof directory, "%s/%s", given, "XXXXXX");
        HOLDS(mkdtemp(directory));
        atexit(remove_ours);
    }
    made = true;
    return directory;
}

size_t open_fds(void) {
    size_t count = 0;
    DIR *all = opendir("/proc/self/fd");
    HOLDS(all);
    while (readdir(all))
        count++;
    closedir(all);
    return count;
}

uint64_t crc64(const void *bytes, size_t length) {
    static uint64_t table[256];
    uint64_t crc = ~UINT64_C(0);
    for (unsigned i = 0; !table[255] && i < 256; i++) {
        table[i] = i;
        for (int bit = 0; bit < 8; bit++)
            table[i] = table[i] >> 1 ^ (table[i] & 1 ? UINT64_C(0xc96c5795d7870f42) : 0);
    }
    for (size_t i = 0; i < length; i++)
        crc = table[(crc ^ ((const uint8_t *)bytes)[i]) & 255] ^ crc >> 8;
    return ~crc;
}
