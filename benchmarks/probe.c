#include "probe.h"
#include "bench.h"

#include <dirent.h>
#include <elf.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MAX_COUNTERS = 1024 };

struct probes {
    int count;
    struct {
        int fd;
        char name[60];
    } counters[MAX_COUNTERS];
};

static unsigned long uprobe_type(void) {
    unsigned long type = 0;
    FILE *file = fopen("/sys/bus/event_source/devices/uprobe/type", "re");
    if (file != NULL && fscanf(file, "%lu", &type) != 1)
        type = 0;
    if (file != NULL)
        fclose(file);
    return type;
}

static int counter_open(const char *path, uint64_t offset, pid_t thread) {
    struct perf_event_attr attributes = {.type = (uint32_t)uprobe_type(),
                                         .size = sizeof attributes,
                                         .config1 = (uintptr_t)path,
                                         .config2 = offset};
    return (int)syscall(SYS_perf_event_open, &attributes, thread, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

const char *probes_missing(void) {
    if (uprobe_type() == 0)
        return "this kernel has no uprobes";
    return geteuid() == 0 ? NULL : "uprobes need root";
}

void threads_list(struct thread_list *threads) {
    DIR *tasks = opendir("/proc/self/task");
    check(tasks != NULL);
    threads->count = 0;
    for (struct dirent *entry; (entry = readdir(tasks)) != NULL;)
        if (entry->d_name[0] != '.') {
            check(threads->count < 64);
            threads->ids[threads->count++] = (pid_t)atoi(entry->d_name);
        }
    closedir(tasks);
}

static bool is_named(pid_t id, const char *name) {
    char path[64], is[32] = "";
    snprintf(path, sizeof path, "/proc/self/task/%d/comm", id);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    bool same = fgets(is, sizeof is, file) != NULL && strncmp(is, name, strlen(name)) == 0;
    fclose(file);
    return same;
}

void threads_keep(struct thread_list *threads, const char *name) {
    int count = 0;
    for (int i = 0; i < threads->count; i++)
        if (is_named(threads->ids[i], name))
            threads->ids[count++] = threads->ids[i];
    threads->count = count;
}

static bool holds(const struct thread_list *threads, pid_t id) {
    for (int i = 0; i < threads->count; i++)
        if (threads->ids[i] == id)
            return true;
    return false;
}

static bool interesting(const char *name) {
    static const char *const exact[] = {"malloc",        "calloc",         "realloc", "free",
                                        "aligned_alloc", "posix_memalign", "memalign"};
    static const char *const prefixes[] = {"swift_retain", "swift_release", "swift_alloc",
                                           "swift_slow",   "swift_dealloc", "swift_bridgeObject"};
    for (size_t i = 0; i < sizeof exact / sizeof *exact; i++)
        if (strcmp(name, exact[i]) == 0)
            return true;
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0)
            return true;
    return false;
}

/* Where in the file a function's first byte is. */
static uint64_t file_offset(const uint8_t *image, uint64_t address) {
    const Elf64_Ehdr *header = (const void *)image;
    const Elf64_Phdr *segments = (const void *)(image + header->e_phoff);
    for (int i = 0; i < header->e_phnum; i++)
        if (segments[i].p_type == PT_LOAD && address >= segments[i].p_vaddr &&
            address < segments[i].p_vaddr + segments[i].p_filesz)
            return address - segments[i].p_vaddr + segments[i].p_offset;
    fail("path.alloc: a function outside its file");
}

/* A counter per interesting function of the file and per thread. */
static void probe_file(struct probes *probes, const char *path, const struct thread_list *before,
                       const struct thread_list *after) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    check(fd >= 0 && fstat(fd, &status) == 0);
    const uint8_t *image = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    check(image != MAP_FAILED);
    const Elf64_Ehdr *header = (const void *)image;
    const Elf64_Shdr *sections = (const void *)(image + header->e_shoff);
    uint32_t table = SHT_DYNSYM; /* the full one where the file has it: ours are local functions */
    for (int i = 0; i < header->e_shnum; i++)
        if (sections[i].sh_type == SHT_SYMTAB)
            table = SHT_SYMTAB;
    for (int i = 0; i < header->e_shnum; i++) {
        if (sections[i].sh_type != table)
            continue;
        const Elf64_Sym *symbols = (const void *)(image + sections[i].sh_offset);
        const char *names = (const char *)image + sections[sections[i].sh_link].sh_offset;
        for (size_t s = 0; s < sections[i].sh_size / sizeof *symbols; s++) {
            const char *name = names + symbols[s].st_name;
            if (ELF64_ST_TYPE(symbols[s].st_info) != STT_FUNC || symbols[s].st_shndx == SHN_UNDEF ||
                !interesting(name))
                continue;
            uint64_t offset = file_offset(image, symbols[s].st_value);
            for (int t = 0; t < after->count; t++) {
                if (holds(before, after->ids[t]))
                    continue;
                check(probes->count < MAX_COUNTERS);
                int counter = counter_open(path, offset, after->ids[t]);
                check(counter >= 0);
                probes->counters[probes->count].fd = counter;
                snprintf(probes->counters[probes->count++].name, 60, "%s", name);
            }
        }
    }
    check(munmap((void *)image, (size_t)status.st_size) == 0);
    close(fd);
}

static int find_libc(struct dl_phdr_info *info, size_t size, void *path) {
    (void)size;
    if (strstr(info->dlpi_name, "/libc.so") == NULL)
        return 0;
    snprintf(path, 256, "%s", info->dlpi_name);
    return 1;
}

struct probes *probes_open(const struct thread_list *before, const struct thread_list *after) {
    char libc[256] = "", program[256] = "";
    struct probes *probes = calloc(1, sizeof *probes);
    check(probes != NULL);
    check(readlink("/proc/self/exe", program, sizeof program - 1) > 0);
    check(dl_iterate_phdr(find_libc, libc) == 1);
    probe_file(probes, program, before, after);
    probe_file(probes, libc, before, after);
    check(probes->count > 0);
    return probes;
}

uint64_t probes_close(struct probes *probes, bool expected) {
    uint64_t total = 0;
    for (int i = 0; i < probes->count; i++) {
        uint64_t calls = 0;
        check(read(probes->counters[i].fd, &calls, sizeof calls) == sizeof calls);
        close(probes->counters[i].fd);
        total += calls;
        if (calls > 0 && !expected)
            fprintf(stderr, "path.alloc: %llu calls of %s\n", (unsigned long long)calls,
                    probes->counters[i].name);
    }
    free(probes);
    return total;
}
