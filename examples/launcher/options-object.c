/* options-object.c: QEMU's memory backends, and numbers as QEMU writes them. */
#include <errno.h>
#include <guestram.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"

uint64_t parse_number(const char *name, const char *text, uint64_t most) {
    char *end;
    errno = 0;
    uint64_t number = strtoull(text, &end, 0);
    if (end == text || *end || errno || *text == '-' || number > most)
        usage("%s %s: a number from 0 to %llu is needed", name, text, (unsigned long long)most);
    return number;
}

uint64_t parse_size(const char *name, const char *text, uint64_t unit) {
    static const char suffixes[] = "BKMGT";
    char *end;
    errno = 0;
    uint64_t number = strtoull(text, &end, 10);
    if (end != text && *end) {
        const char *suffix = strchr(suffixes, *end & ~0x20);
        if (suffix && !end[1]) {
            unit = 1ull << (10 * (suffix - suffixes));
            end++;
        }
    }
    if (end == text || *end || errno || *text == '-' || number > UINT64_MAX / unit)
        usage("%s %s: a size such as 512M or 1G is needed", name, text);
    return number * unit;
}

bool parse_switch(const char *name, const char *text) {
    if (strcmp(text, "on") && strcmp(text, "off"))
        usage("%s=%s: it is on or off", name, text);
    return !strcmp(text, "on");
}

static uint64_t parse_nodes(const char *text) {
    char *end;
    unsigned long first = strtoul(text, &end, 10), last = first;
    if (end != text && *end == '-')
        last = strtoul(text = end + 1, &end, 10);
    if (end == text || *end || first > last || last > 63)
        usage("host-nodes=%s: N or N-M is needed, from 0 to 63", text);
    return (UINT64_MAX >> (63 - last)) & (UINT64_MAX << first);
}

static uint32_t parse_policy(const char *text) {
    static const char *const names[] = {[GUESTRAM_POLICY_DEFAULT] = "default",
                                        [GUESTRAM_POLICY_PREFERRED] = "preferred",
                                        [GUESTRAM_POLICY_BIND] = "bind",
                                        [GUESTRAM_POLICY_INTERLEAVE] = "interleave"};
    for (uint32_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(text, names[i]))
            return i;
    usage("policy=%s: it is default, preferred, bind or interleave", text);
}

/* What the properties say before the backend's kind gives them their meaning. */
struct properties {
    int share; /* -1: not given */
    bool hugetlb, slot;
};

static void object_property(struct backend *backend, struct properties *properties, const char *key,
                            const char *value) {
    if (!strcmp(key, "id")) {
        if (!*value || strlen(value) >= sizeof backend->id)
            usage("-object id=%s: 1 to 63 characters", value);
        strcpy(backend->id, value);
    } else if (!strcmp(key, "size")) {
        backend->size = parse_size("size", value, 1);
    } else if (!strcmp(key, "share")) {
        properties->share = parse_switch(key, value);
    } else if (!strcmp(key, "hugetlb")) {
        properties->hugetlb = parse_switch(key, value);
    } else if (!strcmp(key, "hugetlbsize")) {
        backend->page_size = parse_size(key, value, 1);
    } else if (!strcmp(key, "host-nodes")) {
        backend->host_nodes |= parse_nodes(value);
    } else if (!strcmp(key, "policy")) {
        backend->policy = parse_policy(value);
    } else if (!strcmp(key, "reserve")) {
        backend->flags |= parse_switch(key, value) ? 0 : GUESTRAM_REGION_NORESERVE;
    } else if (!strcmp(key, "slot")) {
        if (strcmp(value, "memfd") && strcmp(value, "plain"))
            usage("slot=%s: it is memfd or plain", value);
        backend->plain_slot = !strcmp(value, "plain");
        properties->slot = true;
    } else if (!strcmp(key, "mem-path")) {
        if (!*value || strlen(value) >= sizeof backend->mem_path)
            usage("mem-path=%s: a file or a directory is needed", value);
        strcpy(backend->mem_path, value);
    } else if (!strcmp(key, "readonly")) {
        backend->read_only = parse_switch(key, value);
    } else if (!strcmp(key, "prealloc")) {
        if (parse_switch(key, value))
            usage("prealloc=on: what is populated beforehand cannot be restored lazily");
    } else {
        usage("-object: unknown property %s", key);
    }
}

/* What the backend's kind and the properties say together. */
static void object_kind(struct backend *backend, const struct properties *properties,
                        const char *kind) {
    bool file = !strcmp(kind, "memory-backend-file"), memfd = !strcmp(kind, "memory-backend-memfd");
    bool guest_memfd = !strcmp(kind, "memory-backend-guest-memfd");
    if (!file && !memfd && !guest_memfd && strcmp(kind, "memory-backend-ram"))
        usage("-object %s: memory-backend-ram, -memfd, -file and -guest-memfd are known", kind);
    if (!backend->id[0])
        usage("-object %s: id= is missing", kind);
    if (properties->hugetlb && !memfd)
        usage("-object %s: hugetlb= is memory-backend-memfd's", kind);
    if (backend->page_size && !properties->hugetlb)
        usage("-object %s: hugetlbsize= needs hugetlb=on", kind);
    if (properties->slot && !guest_memfd)
        usage("-object %s: slot= is memory-backend-guest-memfd's", kind);
    if (properties->share == 0 && guest_memfd)
        usage("-object %s: share=off: a guest_memfd cannot be mapped privately", kind);
    if (file != (backend->mem_path[0] != 0))
        usage("-object %s: mem-path= %s", kind, file ? "is missing" : "is memory-backend-file's");
    if (backend->read_only && (!file || properties->share == 1))
        usage("-object %s: readonly=on is for memory-backend-file with share=off", kind);

    if (guest_memfd)
        backend->type = GUESTRAM_GUEST_MEMFD;
    else if (memfd || file) /* of a file it shows when it is open */
        backend->type = properties->hugetlb ? GUESTRAM_HUGETLB : GUESTRAM_SHMEM;
    else
        backend->type = properties->share == 1 ? GUESTRAM_SHMEM : GUESTRAM_ANON;
    /* As in QEMU a memfd is shared unless it says otherwise, a file is not. */
    if ((memfd && properties->share == 0) || (file && properties->share != 1))
        backend->flags |= GUESTRAM_REGION_PRIVATE;
}

void object_parse(struct options *options, const char *text) {
    if (options->backend_count == MAX_BACKENDS)
        usage("-object %s: at most %d backends", text, MAX_BACKENDS);
    struct backend *backend = &options->backends[options->backend_count++];
    struct properties properties = {.share = -1};
    char *copy = strdup(text), *rest = copy, *kind = strsep(&rest, ",");
    if (!kind)
        abort();
    *backend = (struct backend){0};
    for (char *key; (key = strsep(&rest, ","));) {
        char *value = strchr(key, '=');
        if (!value)
            usage("-object %s: %s has no =VALUE", kind, key);
        *value++ = 0;
        object_property(backend, &properties, key, value);
    }
    object_kind(backend, &properties, kind);
    free(copy);
    for (const struct backend *other = options->backends; other < backend; other++)
        if (!strcmp(other->id, backend->id))
            usage("-object id=%s: there is another of this id", backend->id);
}
