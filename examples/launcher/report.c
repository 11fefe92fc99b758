/* report.c: what the run took, for people, as JSON and for Prometheus. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "../prometheus.h"
#include "machine.h"

static const char *type_name(const struct ram_block *block) {
    bool private = block->info.flags & GUESTRAM_REGION_PRIVATE;
    switch (block->info.type) {
    case GUESTRAM_ANON:
        return "anon";
    case GUESTRAM_SHMEM:
        return private ? "shmem-private" : "shmem";
    case GUESTRAM_HUGETLB:
        return private ? "hugetlb-private" : "hugetlb";
    default:
        return "guest_memfd";
    }
}

static const char *mode_name(const struct machine *machine) {
    if (!machine->options->incoming)
        return "none";
    return machine->options->restore_mode == GUESTRAM_RESTORE_EAGER ? "eager" : "lazy";
}

static const char *fill_name(const struct ram_block *block) {
    static const char *const names[] = {"none", "lazy", "eager"};
    return names[block->info.fill % 3];
}

/* What each block is called, such as shmem+anon. */
static void put_names(FILE *out, const struct machine *machine,
                      const char *(*name)(const struct ram_block *)) {
    for (unsigned i = 0; i < machine->block_count; i++)
        fprintf(out, "%s%s", i ? "+" : "", name(&machine->blocks[i]));
}

static double since_start_ms(const struct machine *machine, uint64_t ns) {
    return ns ? (double)(ns - machine->started_ns) / 1e6 : 0;
}

static void report_text(FILE *out, const struct machine *machine, const guestram_stats_t *stats,
                        const guestram_latency_t *latency) {
    uint64_t total = stats->pages_total ? stats->pages_total : 1;
    fprintf(out, "\n%llu MiB of ", (unsigned long long)(machine->ram_size >> 20));
    put_names(out, machine, type_name);
    fprintf(out, ", %s, %u vCPU%s by %s\n",
            machine->options->incoming ? mode_name(machine) : "fresh", machine->vcpu_count,
            machine->vcpu_count == 1 ? "" : "s", machine->accel->name);
    for (unsigned i = 0; i < machine->block_count; i++)
        fprintf(out, "  filled          %s: %s\n", fill_name(&machine->blocks[i]),
                machine->blocks[i].info.why);
    fprintf(out, "  first output    %10.1f ms, %.2f%% of the memory loaded by then\n",
            since_start_ms(machine, machine->first_output_ns),
            100.0 * (double)machine->loaded_at_first_output / (double)total);
    if (machine->checksum_ns)
        fprintf(out, "  checksum        %10.1f ms, 0x%016llx, %s\n",
                since_start_ms(machine, machine->checksum_ns),
                (unsigned long long)machine->checksum, machine->checksum_ok ? "right" : "WRONG");
    fprintf(out, "  pages loaded    %10llu of %llu (%.1f%%), %llu zero, %llu poisoned\n",
            (unsigned long long)stats->pages_loaded, (unsigned long long)stats->pages_total,
            100.0 * (double)stats->pages_loaded / (double)total,
            (unsigned long long)stats->pages_zeroed, (unsigned long long)stats->pages_poisoned);
    fprintf(out, "  read            %10.1f MiB in %llu reads\n",
            (double)stats->bytes_read / (1 << 20), (unsigned long long)stats->reads);
    fprintf(out, "  faults          %10llu: %llu missing, %llu minor\n",
            (unsigned long long)stats->faults, (unsigned long long)stats->missing,
            (unsigned long long)stats->minor);
    fprintf(out, "  fault latency   %10.1f us p50, %.1f us p99\n", (double)latency->p50_ns / 1e3,
            (double)latency->p99_ns / 1e3);
}

static void report_json(FILE *out, const struct machine *machine, const guestram_stats_t *stats,
                        const guestram_latency_t *latency) {
    fprintf(out, "{\"accel\":\"%s\",\"vcpus\":%u,\"guest_memory_bytes\":%llu,\"mode\":\"%s\"",
            machine->accel->name, machine->vcpu_count, (unsigned long long)machine->ram_size,
            mode_name(machine));
    fputs(",\"type\":\"", out);
    put_names(out, machine, type_name);
    fputs("\",\"fill\":\"", out);
    put_names(out, machine, fill_name);
    fprintf(out, "\",\"first_output_ms\":%.3f,\"checksum_ms\":%.3f,\"checksum\":\"0x%016llx\","
            "\"checksum_ok\":%s",
            since_start_ms(machine, machine->first_output_ns),
            since_start_ms(machine, machine->checksum_ns), (unsigned long long)machine->checksum,
            machine->checksum_ns && machine->checksum_ok ? "true" : "false");
    const struct {
        const char *name;
        uint64_t value;
    } numbers[] = {
        {"pages_total", stats->pages_total},
        {"pages_loaded", stats->pages_loaded},
        {"pages_loaded_at_first_output", machine->loaded_at_first_output},
        {"pages_copied", stats->pages_copied},
        {"pages_zeroed", stats->pages_zeroed},
        {"pages_continued", stats->pages_continued},
        {"pages_poisoned", stats->pages_poisoned},
        {"pages_discarded", stats->pages_discarded},
        {"bytes_read", stats->bytes_read},
        {"faults", stats->faults},
        {"missing", stats->missing},
        {"minor", stats->minor},
        {"wp", stats->wp},
        {"events_remove", stats->events_remove},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        fprintf(out, ",\"%s\":%llu", numbers[i].name, (unsigned long long)numbers[i].value);
    fprintf(out, ",\"p50_us\":%.1f,\"p99_us\":%.1f}\n", (double)latency->p50_ns / 1e3,
            (double)latency->p99_ns / 1e3);
}

static int write_report(FILE *out, const struct machine *machine, enum report kind) {
    if (kind == REPORT_PROMETHEUS) {
        struct prometheus_memory memory = {machine->memory, NULL};
        return prometheus_write(out, &memory, 1);
    }
    guestram_stats_t stats = {.size = sizeof stats};
    guestram_latency_t latency = {.size = sizeof latency};
    int error = guestram_stats(machine->memory, &stats);
    if (!error)
        error = guestram_latency(machine->memory, GUESTRAM_LATENCY_ALL, &latency);
    if (!error)
        (kind == REPORT_JSON ? report_json : report_text)(out, machine, &stats, &latency);
    return error;
}

static int write_file(const char *path, const struct machine *machine, enum report kind) {
    FILE *out = fopen(path, "we");
    if (!out)
        return -errno;
    int error = write_report(out, machine, kind);
    return fclose(out) && !error ? -errno : error;
}

void report(struct machine *machine) {
    const struct options *options = machine->options;
    int error = write_report(stdout, machine, options->report);
    if (error)
        machine_fail(machine, EXIT_FAILED, "-report: %s", strerror(-error));
    for (unsigned kind = 0; kind < REPORT_KINDS; kind++) {
        const char *path = options->report_file[kind];
        error = path ? write_file(path, machine, kind) : 0;
        if (error)
            machine_fail(machine, EXIT_FAILED, "-report: %s: %s", path, strerror(-error));
    }
}
