#include "harness.h"
#include "harness_proc.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static size_t entries(const char *path) {
    size_t count = 0;
    DIR *listing = opendir(path);
    if (!listing)
        return 0;
    for (struct dirent *entry; (entry = readdir(listing));)
        count += entry->d_name[0] != '.';
    closedir(listing);
    return count;
}

size_t harness_fds(void) { return entries("/proc/self/fd") - 1; /* not the listing's own */ }
size_t harness_threads(void) { return entries("/proc/self/task"); }

size_t harness_mappings(void) {
    size_t count = 0;
    FILE *file = fopen("/proc/self/maps", "re");
    for (int c; file && (c = getc(file)) != EOF;)
        count += c == '\n';
    if (file)
        fclose(file);
    return count;
}

size_t harness_rss_kib(void) {
    size_t kib = 0;
    char line[256];
    FILE *file = fopen("/proc/self/smaps_rollup", "re");
    while (file && fgets(line, sizeof line, file) && sscanf(line, "Rss: %zu", &kib) != 1) {
    }
    if (file)
        fclose(file);
    return kib;
}

const char *kill_children(void) {
    static char name[64];
    name[0] = 0;
    DIR *listing = opendir("/proc");
    for (struct dirent *entry; listing && (entry = readdir(listing));) {
        char path[300], comm[32];
        int pid, parent;
        snprintf(path, sizeof path, "/proc/%s/stat", entry->d_name);
        FILE *file = entry->d_name[0] >= '0' && entry->d_name[0] <= '9' ? fopen(path, "re") : NULL;
        if (!file)
            continue;
        if (fscanf(file, "%d (%31[^)]) %*c %d", &pid, comm, &parent) == 3 && parent == getpid()) {
            snprintf(name, sizeof name, "%s (%d)", comm, pid);
            kill(pid, SIGKILL);
        }
        fclose(file);
    }
    if (listing)
        closedir(listing);
    return name;
}

bool all_reaped(int milliseconds) {
    for (;; usleep(5000), milliseconds -= 5) {
        pid_t pid;
        while ((pid = waitpid(-1, NULL, WNOHANG)) > 0) {
        }
        if (pid < 0)
            return true;
        if (milliseconds <= 0)
            return false;
    }
}

void print_threads(pid_t pid) {
    char path[300], text[128];
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *listing = opendir(path);
    for (struct dirent *entry; listing && (entry = readdir(listing));) {
        if (entry->d_name[0] == '.')
            continue;
        printf("  thread %s:", entry->d_name);
        static const char *const files[] = {"comm", "wchan", "syscall"};
        for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
            snprintf(path, sizeof path, "/proc/%d/task/%s/%s", pid, entry->d_name, files[i]);
            FILE *file = fopen(path, "re");
            if (file && fgets(text, sizeof text, file))
                printf(" %s %.*s", files[i], (int)strcspn(text, "\n"), text);
            if (file)
                fclose(file);
        }
        printf("\n");
    }
    if (listing)
        closedir(listing);
}
