/*
 * Every system call that the library makes, in every phase of a memory's life, fails once with
 * every errno that it may have: the first, a middle and the last time it is made. Then all is as if
 * it had not, or something was refused with a message, or a page is poisoned; never a hang, a
 * crash, a wrong byte, or a descriptor left open.
 *
 * INJECT_SECONDS=N   at most that long for each memory type, a sample (15; 0: the whole matrix)
 * INJECT_SEED=N      of the sample (1)
 * INJECT_LIST=1      prints the calls that were recorded, and every case with what came of it
 * INJECT_CASE=TEXT   only cases whose name, as printed, holds the text
 */
#include "inject.h"
#include "../C/support_kvm.h"

#include <ftw.h>

static const char *const phases[PHASES] = {"pause", "create", "restore",
                                           "serve", "save",   "destroy"};

static unsigned number_of(const char *variable, unsigned otherwise) {
    const char *text = getenv(variable);
    return text ? (unsigned)strtoul(text, NULL, 10) : otherwise;
}

static const char *case_name(const injection_t *injection) {
    static char name[160];
    snprintf(name, sizeof name, "%s %s %s %s #%u", phases[injection->place.phase],
             injection->place.worker ? "worker" : "caller", call_name(injection->place.call),
             strerrorname_np(injection->error), injection->occurrence);
    return name;
}

/* Every case of what was recorded. */
static injection_t *matrix(const result_t *recorded, size_t *count) {
    injection_t *all = calloc((size_t)recorded->places * MOST_ERRORS * 3, sizeof *all);
    REQUIRE(all);
    *count = 0;
    for (unsigned i = 0; i < recorded->places; i++) {
        const record_t *record = &recorded->records[i];
        const row_t *row = call_row(record->place.call);
        if (!row) {
            harness_fail(__FILE__, __LINE__, "calls.c does not say how %s may fail",
                         call_name(record->place.call));
            continue;
        }
        const unsigned occurrences[] = {1, (record->count + 1) / 2, record->count};
        for (const int *error = row->errors; error < row->errors + MOST_ERRORS && *error; error++) {
            /* What the caller asked to be put there, another has not put there. */
            if (*error == EEXIST && row->performed == EEXIST && !record->place.worker)
                continue;
            for (unsigned j = 0; j < 3; j++)
                if (j == 0 || occurrences[j] != occurrences[j - 1])
                    all[(*count)++] = (injection_t){record->place, occurrences[j], *error};
        }
    }
    return all;
}

static void shuffle(injection_t *all, size_t count, uint64_t seed) {
    for (size_t i = count; i > 1; i--) {
        seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
        size_t j = (size_t)(seed >> 33) % i;
        injection_t other = all[j];
        all[j] = all[i - 1];
        all[i - 1] = other;
    }
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *where) {
    (void)info, (void)type, (void)where;
    return remove(path);
}

/* What a run that was killed, or failed, has left. */
static void clean(void) { nftw(scratch("again"), remove_entry, 8, FTW_DEPTH | FTW_PHYS); }

static result_t attempt(const variant_t *variant, const injection_t *injection) {
    result_t result = {0};
    trace(&result, variant, injection, 6);
    clean();
    if (result.outcome == HUNG) { /* or was the machine busy? */
        result = (result_t){0};
        trace(&result, variant, injection, 20);
        clean();
    }
    return result;
}

static void inject(const variant_t *variant) {
    static const char *const outcomes[] = {"as if nothing had been", "refused", "WRONG", "CRASHED",
                                           "HUNG"};
    unsigned counts[5] = {0}, unreached = 0, ran = 0, seconds = number_of("INJECT_SECONDS", 15);
    const char *only = getenv("INJECT_CASE");
    bool list = getenv("INJECT_LIST") != NULL;
    drive_prepare(variant);
    result_t recorded = {.records = calloc(MOST_PLACES, sizeof(record_t))};
    trace(&recorded, variant, &(injection_t){0}, 20);
    clean();
    if (recorded.outcome != HELD)
        printf("with nothing injected: %s\n", recorded.text);
    REQUIRE(recorded.outcome == HELD);
    for (unsigned i = 0; list && i < recorded.places; i++)
        printf("%s %s %s: %u\n", phases[recorded.records[i].place.phase],
               recorded.records[i].place.worker ? "worker" : "caller",
               call_name(recorded.records[i].place.call), recorded.records[i].count);
    size_t count;
    injection_t *all = matrix(&recorded, &count);
    shuffle(all, count, number_of("INJECT_SEED", 1));
    uint64_t until = now_ns() + seconds * UINT64_C(1000000000);
    for (size_t i = 0; i < count && (seconds == 0 || now_ns() < until); i++) {
        if (only && !strstr(case_name(&all[i]), only))
            continue;
        result_t result = attempt(variant, &all[i]);
        ran++;
        unreached += !result.reached;
        counts[result.outcome]++;
        if (list || result.outcome >= WRONG)
            printf("%s: %s%s: %s\n", case_name(&all[i]), outcomes[result.outcome],
                   result.reached ? "" : ", not reached", result.text);
        if (result.outcome >= WRONG)
            harness_fail(__FILE__, __LINE__, "%s: %s: %s", case_name(&all[i]),
                         outcomes[result.outcome], result.text);
    }
    printf("# %s: %u calls in the phases, %zu cases (call x errno x phase x occurrence), ",
           variant->name, recorded.places, count);
    printf("%u of them run: %u as if nothing had been, %u refused, %u wrong, %u crashed, %u hung; "
           "%u did not come to the call\n",
           ran, counts[HELD], counts[REFUSED], counts[WRONG], counts[CRASHED], counts[HUNG],
           unreached);
    CHECK(only || ran > 0);
    CHECK(only || unreached * 5 <= ran); /* threads take turns otherwise at times */
    free(all);
    free(recorded.records);
}

static void inject_variant(const variant_t *variant) {
    need_variant(variant);
    inject(variant);
}

TEST(inject_anon, .seconds = 3600) { inject_variant(&ANON); }
TEST(inject_shmem, .seconds = 3600) { inject_variant(&SHMEM); }
TEST(inject_shmem_private, .seconds = 3600) { inject_variant(&SHMEM_PRIVATE); }
TEST(inject_hugetlb, .seconds = 7200, .hugepages = 24) { inject_variant(&HUGETLB); }

enum { CAP_GUEST_MEMFD_FLAGS = 244, MMAP_AND_INIT_SHARED = 3 };

TEST(inject_guest_memfd, .seconds = 3600) {
    static const variant_t guest_memfd = {"guest_memfd", GUESTRAM_GUEST_MEMFD, 0, PAGE, false};
    guest_t guest = guest_open();
    int flags = guest_extension(&guest, CAP_GUEST_MEMFD_FLAGS);
    if ((flags & MMAP_AND_INIT_SHARED) != MMAP_AND_INIT_SHARED)
        SKIP("this kernel has no guest_memfd with MMAP and INIT_SHARED");
    guest_close(&guest);
    inject(&guest_memfd);
}
