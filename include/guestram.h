/*
 * guestram.h: one virtual machine's RAM, restored lazily and served by userfaultfd.
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The shape of a program (examples/restore.c is a whole one):
 *
 *     guestram_snapshot_open("dir", &snapshot);        what was saved
 *     guestram_create(NULL, &memory);                  one VM's RAM
 *     guestram_restore(memory, snapshot, NULL);        its regions, lazily
 *     guestram_start(memory);                          from here on faults are answered
 *     ... map guestram_region_info().host_address into KVM, run the vCPUs ...
 *     guestram_destroy(memory);                        after the vCPUs have stopped
 *
 * Rules that hold for every call
 *
 * - Results. Functions that return int return 0 or a negative errno value. After a failure
 *   guestram_error() gives a sentence that names the argument, what is wrong with it and what to
 *   do. A failed call changes nothing unless its comment says so.
 * - Threads. Every call may be made from any thread at any time, except that a handle must not be
 *   in use by another call while it is destroyed or closed. Calls that change the configuration of
 *   one memory (regions, restore, start, stop, save) wait for each other.
 * - Option structs. The first member, `size`, is sizeof the struct as the caller compiled it.
 *   Members are only ever appended. A smaller struct from an older caller is accepted, the missing
 *   members count as zero; a larger one is accepted while the unknown tail is zero, else -E2BIG.
 *   Reserved and unknown flag bits must be zero, else -EINVAL. Zero is always the default.
 * - Result structs. The caller sets `size`; the library fills as many bytes as both sides know.
 * - Units. Lengths, offsets and addresses are bytes; times are nanoseconds unless the name says
 *   otherwise. Offsets and lengths are multiples of the region's granule (its page size) unless a
 *   call says otherwise.
 * - Ranges. `region` is an id from guestram_region_add(); the offset counts from the region's
 *   start. With GUESTRAM_GUEST_PHYSICAL as region, the offset is a guest-physical address and the
 *   range must be covered by slots.
 * - Ownership. The library copies what it is given (names, paths, state), and duplicates
 *   descriptors: the caller keeps its own and may close it. Handles are released by exactly one
 *   destroy or close call; NULL is accepted there and does nothing.
 * - fork. Guest memory is MADV_DONTFORK unless asked otherwise; handles are of no use in a child.
 * - Privilege. Drop the VMM's privileges (setresuid, capset) and load its own TSYNC seccomp filter
 *   before guestram_start() or guestram_pool_create(): afterwards glibc's setresuid would run in
 *   the sandboxed workers as well and end the process (docs/threat-model.md).
 */
#ifndef GUESTRAM_H
#define GUESTRAM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GUESTRAM_VERSION_MAJOR 0
#define GUESTRAM_VERSION_MINOR 1
#define GUESTRAM_VERSION_PATCH 0

/* major << 16 | minor << 8 | patch of the library that is linked. */
uint32_t guestram_version(void);

/*
 * What went wrong in this thread's last call that failed: one sentence, UTF-8, at most 511 bytes,
 * never NULL ("" before the first failure). Valid until the thread's next failing call.
 */
const char *guestram_error(void);

typedef struct guestram guestram_t;                   /* one VM's RAM */
typedef struct guestram_pool guestram_pool_t;         /* worker threads, shared by memories */
typedef struct guestram_snapshot guestram_snapshot_t; /* an opened, checked snapshot */

/* ---------------------------------------------------------------- what this machine can do -- */

/* Memory types. */
enum {
    GUESTRAM_ANON = 1,    /* private anonymous memory */
    GUESTRAM_SHMEM = 2,   /* memfd or tmpfs file */
    GUESTRAM_HUGETLB = 3, /* hugetlbfs or MFD_HUGETLB */
    GUESTRAM_GUEST_MEMFD = 4 /* KVM_CREATE_GUEST_MEMFD, made with MMAP and INIT_SHARED. Behind a
                                KVM_MEM_GUEST_MEMFD slot KVM takes pages straight from the file, and
                                no kernel raises faults there: restore such memory eagerly. Lazily
                                only behind a plain slot over the mapping. */
};

/* Fill operations, as bits: `1u << GUESTRAM_OP_…`. */
enum {
    GUESTRAM_OP_COPY = 0,
    GUESTRAM_OP_ZEROPAGE = 1,
    GUESTRAM_OP_CONTINUE = 2,
    GUESTRAM_OP_POISON = 3,
    GUESTRAM_OP_MOVE = 4,
    GUESTRAM_OP_WRITEPROTECT = 5
};

/* Register modes, as bits. */
enum {
    GUESTRAM_MODE_MISSING = 1u << 0,
    GUESTRAM_MODE_WP = 1u << 1,
    GUESTRAM_MODE_MINOR = 1u << 2
};

typedef struct guestram_probe {
    size_t size;
    uint64_t uffd_features;    /* UFFD_FEATURE_* bits of this kernel; 0 if no userfaultfd */
    int32_t userfaultfd;       /* 0, or the -errno with which opening one failed */
    uint32_t kernel_faults;    /* 1: faults of KVM and of the kernel are served as well */
    /* Per memory type (index GUESTRAM_ANON - 1 …): modes and operations that registering memory
     * of the type just now showed to work, 0 where the type cannot be had. */
    uint32_t modes[4];
    uint32_t operations[4];
    int32_t error[4];          /* 0, or why the type cannot be had */
    uint32_t landlock_abi;     /* 0: none */
    uint32_t seccomp;          /* 1: filters can be loaded */
} guestram_probe_t;

/*
 * Finds out by trying, on throw-away descriptors, never by kernel version. Answers 0 even where
 * much is missing: what is missing stands in *probe, and guestram_probe_text() says why in words.
 */
int guestram_probe(guestram_probe_t *probe);

/*
 * The same as a table for people, a line per capability with what is missing and why, at most
 * `length` bytes with the final NUL. Returns the length that the whole text has, or -errno.
 */
int guestram_probe_text(char *text, size_t length);

/* ------------------------------------------------------------------------ pools of workers -- */

enum {
    GUESTRAM_SANDBOX_ENFORCE = 0, /* a call that is not on the list kills the process */
    GUESTRAM_SANDBOX_LOG = 1,     /* it fails with EPERM and is reported as an event */
    GUESTRAM_SANDBOX_OFF = 2      /* no filter, no Landlock, capabilities kept */
};

typedef struct guestram_pool_options {
    size_t size;
    uint32_t workers;     /* fault handler threads, 1…16; 0: 4 */
    uint32_t sandbox;     /* GUESTRAM_SANDBOX_* */
    uint32_t descriptors; /* descriptors set aside for the workers: a power of two, 16…1024; 0: 64.
                             A memory uses one, each of its files and snapshots one more. */
    uint32_t fillers;     /* threads for background fill and prefetch, 1…16; 0: as workers, ≤ 2 */
} guestram_pool_options_t;

/*
 * Starts worker threads that several memories share. Without a pool of its own a memory makes a
 * default one at guestram_start(). -EMFILE when the descriptors cannot be set aside; -EPERM,
 * -ENOSYS when the sandbox cannot be had (the message names what the kernel lacks); -EBUSY in log
 * mode where the process already has a seccomp listener.
 */
int guestram_pool_create(const guestram_pool_options_t *options, guestram_pool_t **pool);

/* Joins the threads. -EBUSY while a memory still uses the pool. */
int guestram_pool_destroy(guestram_pool_t *pool);

/* What the sandbox of the pool's workers is made of. Bits: */
enum {
    GUESTRAM_SANDBOX_SIGNALS = 1u << 0,      /* every signal blocked */
    GUESTRAM_SANDBOX_NO_NEW_PRIVS = 1u << 1,
    GUESTRAM_SANDBOX_CAPABILITIES = 1u << 2, /* all sets empty; the bounding set stays where
                                                CAP_SETPCAP is missing */
    GUESTRAM_SANDBOX_SECUREBITS = 1u << 3,   /* locked; needs CAP_SETPCAP at start */
    GUESTRAM_SANDBOX_LANDLOCK = 1u << 4,
    GUESTRAM_SANDBOX_SECCOMP = 1u << 5
};

typedef struct guestram_sandbox_info {
    size_t size;
    uint32_t mode;    /* GUESTRAM_SANDBOX_ENFORCE, … */
    uint32_t layers;  /* bits that every worker has */
    uint32_t missing; /* bits that were wanted and that the kernel or our rights did not give */
    uint32_t landlock_abi;
} guestram_sandbox_info_t;

int guestram_sandbox_info(guestram_pool_t *pool, guestram_sandbox_info_t *info);

/*
 * The system calls that a worker may make, a line each with the arguments that are compared.
 * Returns the whole text's length, or -errno; writes at most `length` bytes with the NUL.
 */
int guestram_sandbox_text(char *text, size_t length);

/* ------------------------------------------------------------------------------- a memory -- */

/* What happens to a granule whose contents cannot be read. Never are zeros served instead. */
enum {
    GUESTRAM_ON_ERROR_POISON = 0, /* the granule is poisoned: SIGBUS, as for failed hardware */
    GUESTRAM_ON_ERROR_RETRY = 1,  /* read again, up to `retries` times with growing pauses; poison */
    GUESTRAM_ON_ERROR_ASK = 2     /* GUESTRAM_EVENT_PAGE_ERROR only; the fault waits until the VMM
                                     calls guestram_copy, _zeropage, _poison or _prefetch on it */
};

typedef struct guestram_options {
    size_t size;
    guestram_pool_t *pool;   /* NULL: one of its own; must outlive the memory */
    uint32_t flags;          /* none yet */
    uint32_t on_error;       /* GUESTRAM_ON_ERROR_* */
    uint32_t retries;        /* 1…100; 0: 3 */
    uint32_t stall_ms;       /* a source silent for longer is GUESTRAM_EVENT_STALLED; 0: 1000 */
    uint64_t window;         /* largest fault window, 4 KiB…2 MiB, a power of two; 0: 2 MiB.
                                4096 turns read-ahead off */
} guestram_options_t;

int guestram_create(const guestram_options_t *options, guestram_t **memory);

/*
 * Stops serving as guestram_stop(memory, 0) does, unmaps what the library mapped, frees all. The
 * vCPUs must have stopped. A caller's own mapping stays, unregistered, absent pages poisoned.
 */
void guestram_destroy(guestram_t *memory);

/* -------------------------------------------------------------------------------- regions -- */

/* Flags of a region. */
enum {
    GUESTRAM_REGION_PRIVATE = 1u << 0,   /* MAP_PRIVATE of the file, QEMU's share=off */
    GUESTRAM_REGION_FD = 1u << 1,        /* `fd` and `fd_offset` are given */
    GUESTRAM_REGION_FILLED = 1u << 2,    /* the file's contents are the region's: data is mapped by
                                            CONTINUE, holes are zero. Needs _FD */
    GUESTRAM_REGION_LOCKED = 1u << 3,    /* mlock2(MLOCK_ONFAULT): never swapped once present */
    GUESTRAM_REGION_NORESERVE = 1u << 4, /* QEMU's reserve=off: overcommit swap and hugepages */
    GUESTRAM_REGION_DOFORK = 1u << 5,    /* no MADV_DONTFORK; a child finds present pages, and
                                            SIGBUS where none were (needs CAP_SYS_PTRACE) */
    GUESTRAM_REGION_USERFAULT = 1u << 6  /* register even where no source is attached, so that the
                                            calls on ranges below can be used */
};

/* NUMA policy of a region, as QEMU's memory backends name them. */
enum {
    GUESTRAM_POLICY_DEFAULT = 0,
    GUESTRAM_POLICY_PREFERRED = 1,
    GUESTRAM_POLICY_BIND = 2,
    GUESTRAM_POLICY_INTERLEAVE = 3
};

typedef struct guestram_region_options {
    size_t size;
    const char *name;      /* 1…63 of [A-Za-z0-9._-], unique in the memory; ties it to a snapshot */
    uint32_t type;         /* GUESTRAM_ANON … */
    uint32_t flags;        /* GUESTRAM_REGION_* */
    uint64_t length;       /* a multiple of the page size, > 0 */
    uint64_t page_size;    /* hugetlb: 2 MiB or 1 GiB; 0: the type's usual one */
    void *host_address;    /* NULL: the library maps. Else the caller's own mapping of exactly this
                              memory; it must be page-aligned, wholly mapped, of the type and
                              sharing given, and empty (nothing populated), else -EINVAL or -EEXIST:
                              a populated page would never fault. Stays the caller's. */
    int fd;                /* with _FD: memfd, hugetlbfs file or guest_memfd */
    int vm_fd;             /* guest_memfd without _FD: the KVM VM to create it on */
    uint64_t fd_offset;    /* where in fd the region starts */
    uint64_t host_nodes;   /* NUMA nodes, bit n = node n; 0 with POLICY_DEFAULT */
    uint32_t policy;       /* GUESTRAM_POLICY_* */
    uint32_t reserved;     /* 0 */
} guestram_region_options_t;

/*
 * Adds a region, before or while serving (memory hotplug). It starts out reading zero, or with the
 * file's contents (_FILLED); guestram_restore() gives it a snapshot's. *region is its id, from 1
 * up, never used again by this memory.
 * -EINVAL an argument (see the message); -EEXIST the name is taken, the host address overlaps
 * another region, or the caller's mapping holds pages already; -ENOMEM out of memory, hugepages or
 * table space; -EPERM no userfaultfd may be opened; -EOPNOTSUPP the kernel does not offer what the
 * type needs here; -EBADF fd.
 */
int guestram_region_add(guestram_t *memory, const guestram_region_options_t *options,
                        uint32_t *region);

/*
 * Removes a region and its slots (memory unplug), while serving as well: absent granules are
 * poisoned, its waiters woken, what the library mapped is unmapped. The guest must not use it.
 */
int guestram_region_remove(guestram_t *memory, uint32_t region);

/* *region = the id of the region of that name; -ENOENT. */
int guestram_region_find(guestram_t *memory, const char *name, uint32_t *region);

/* *region = the smallest id above `after` (0: the first); -ENOENT at the end. */
int guestram_region_next(guestram_t *memory, uint32_t after, uint32_t *region);

/* How a region gets its contents. */
enum {
    GUESTRAM_FILL_NONE = 0,    /* the kernel's own zero pages; nothing is served */
    GUESTRAM_FILL_LAZY = 1,    /* by fault, through userfaultfd */
    GUESTRAM_FILL_EAGER = 2,   /* all of it before guestram_start() returns */
};

typedef struct guestram_region_info {
    size_t size;
    char name[64];
    uint32_t type;
    uint32_t flags;
    uint64_t length;
    uint64_t granule;        /* the unit in which it is filled: its page size */
    void *host_address;
    int fd;                  /* for KVM and for sharing: the library's own, do not close; -1: none */
    uint32_t fill;           /* GUESTRAM_FILL_* */
    uint64_t fd_offset;
    uint32_t modes;          /* GUESTRAM_MODE_* it is registered with, 0 when not registered */
    uint32_t operations;     /* bits 1 << GUESTRAM_OP_*: the type's, where the kernel offers them */
    char why[128];           /* why it is filled this way, a sentence */
    uint64_t granules;       /* in all */
    uint64_t present;        /* filled */
    uint64_t absent;         /* their contents are still only in the source */
    uint64_t zero;           /* not filled; will read zero */
    uint64_t poisoned;
} guestram_region_info_t;

int guestram_region_info(guestram_t *memory, uint32_t region, guestram_region_info_t *info);

/* As `region` of a range: offsets are guest-physical addresses. */
#define GUESTRAM_GUEST_PHYSICAL 0u

typedef struct guestram_slot {
    size_t size;
    uint64_t guest_physical; /* first guest-physical address */
    uint64_t length;
    uint64_t offset;         /* in the region */
    uint32_t region;
    uint32_t reserved;
    void *host_address;      /* result only: what KVM_SET_USER_MEMORY_REGION takes */
} guestram_slot_t;

/*
 * Says where in guest-physical space a part of a region appears; saved and restored with it. 4 KiB
 * granularity. -EEXIST if it overlaps another slot, -ENOENT no such region, -ERANGE outside it.
 */
int guestram_slot_add(guestram_t *memory, const guestram_slot_t *slot);
/* Removes the slot that starts at that address; -ENOENT. */
int guestram_slot_remove(guestram_t *memory, uint64_t guest_physical);
/* *slot = the first slot that starts at or above `from`; -ENOENT at the end. */
int guestram_slot_next(guestram_t *memory, uint64_t from, guestram_slot_t *slot);

/* ------------------------------------------------------------------------------ snapshots -- */

typedef struct guestram_save_options {
    size_t size;
    const void *state;     /* the VMM's own opaque state (registers, devices); NULL: none */
    size_t state_length;   /* bytes, at most 1 GiB */
    uint32_t flags;        /* none yet */
    uint32_t reserved;
} guestram_save_options_t;

/*
 * Writes a snapshot of all regions into `directory`, which must not exist yet (-EEXIST): a sparse
 * memory file, the state, and the manifest, under a temporary name beside it, fsynced, renamed.
 * docs/snapshot-format.md describes it. The vCPUs must be stopped; regions may still be partly
 * absent: those granules come from their source. -EIO if a granule is poisoned (the message says
 * which), or what the file system answers; then nothing is left behind.
 */
int guestram_save(guestram_t *memory, const char *directory,
                  const guestram_save_options_t *options);

/*
 * Opens and checks a snapshot: version, checksum of the manifest, sizes, overlaps; nothing in it
 * is trusted. -ENOENT, -EINVAL (damaged; the message says how), -EPROTONOSUPPORT (a newer
 * version). The snapshot may be closed as soon as guestram_restore() has returned.
 */
int guestram_snapshot_open(const char *directory, guestram_snapshot_t **snapshot);
void guestram_snapshot_close(guestram_snapshot_t *snapshot);

/* The VMM's state: *state stays valid until the snapshot is closed. Checked against its checksum. */
int guestram_snapshot_state(guestram_snapshot_t *snapshot, const void **state, size_t *length);

typedef struct guestram_snapshot_region {
    size_t size;
    char name[64];
    uint32_t type;
    uint32_t flags;       /* GUESTRAM_REGION_PRIVATE or 0 */
    uint64_t length;
    uint64_t page_size;
    uint64_t file_offset; /* where it starts in the memory file */
    uint64_t data;        /* bytes that are not holes */
} guestram_snapshot_region_t;

/* The region number `index` (from 0) of the snapshot; -ENOENT past the last. */
int guestram_snapshot_region(guestram_snapshot_t *snapshot, uint32_t index,
                             guestram_snapshot_region_t *region);

enum {
    GUESTRAM_RESTORE_LAZY = 0, /* a granule is read when it is first touched */
    GUESTRAM_RESTORE_EAGER = 1 /* all is read before guestram_start() returns */
};

/* Flags of a restore. */
enum {
    /* Every page that is read from the snapshot is compared with its checksum. One that differs, or
     * is a hole by now, is a page error with EBADMSG; read eagerly, guestram_start() answers it.
     * -ENODATA when the snapshot has no checksums, -EINVAL when those it has are damaged. Off by
     * default: otherwise a page goes to the guest straight from the page cache, without being read
     * through; and checksums take 1 MiB of own memory for each GiB. */
    GUESTRAM_RESTORE_VERIFY = 1u << 0
};

typedef struct guestram_restore_options {
    size_t size;
    uint32_t mode;  /* GUESTRAM_RESTORE_LAZY, _EAGER */
    uint32_t flags; /* GUESTRAM_RESTORE_VERIFY */
} guestram_restore_options_t;

/*
 * Gives regions a snapshot's contents, once each and before guestram_start(). A region of the
 * memory that bears a snapshot region's name takes its contents, whatever its type; its length must
 * be the same (-EINVAL) and it must be fresh (-EBUSY). Where the memory has none of the name, one
 * is made with the type and slots that were saved. Regions the snapshot does not know are left.
 * Nothing of it may be touched before guestram_start(): a lazy region's reader would wait until
 * then, an eager one's contents are not there yet.
 */
int guestram_restore(guestram_t *memory, guestram_snapshot_t *snapshot,
                     const guestram_restore_options_t *options);

/* -------------------------------------------------------------------------------- serving -- */

/*
 * From its return on, faults are answered. -EALREADY when started; -EPERM, with a message that
 * names /dev/userfaultfd, the sysctl and the capability, when no userfaultfd may be opened.
 */
int guestram_start(guestram_t *memory);

enum { GUESTRAM_STOP_IF_RESIDENT = 1u << 0 /* -EBUSY while any granule is absent */ };

/*
 * Stops serving for good (-ESHUTDOWN from calls on ranges afterwards). The vCPUs must have stopped:
 * whoever still touches an absent granule gets SIGBUS, never zeros, and nobody is left waiting.
 */
int guestram_stop(guestram_t *memory, uint32_t flags);

/*
 * Brings what is absent in the background, `bytes_per_second` at most (UINT64_MAX: no limit;
 * 0: pause). Yields to demand faults. When nothing is absent any more the region is unregistered,
 * GUESTRAM_EVENT_RESIDENT is sent once for the memory, and faults cost nothing from then on.
 * -ENOTCONN before guestram_start().
 */
int guestram_background_fill(guestram_t *memory, uint64_t bytes_per_second);

/* Asks for a range to be brought soon, ahead of the background fill. Returns at once.
 * -EAGAIN when 64 requests are pending. */
int guestram_prefetch(guestram_t *memory, uint32_t region, uint64_t offset, uint64_t length);

/*
 * Waits until no granule is absent. timeout_ms < 0: no limit. 0; -ETIMEDOUT; -EIO when all is done
 * but granules were poisoned; -ESHUTDOWN when serving stops meanwhile.
 */
int guestram_wait_resident(guestram_t *memory, int timeout_ms);

/*
 * The guest does not need the range any more (a balloon, free page reporting): it will read zero
 * and never be refilled from the snapshot. Marks first, then frees the memory: preferred over the
 * VMM's own madvise() or fallocate(). After a failure parts of the range may read zero already.
 */
int guestram_discard(guestram_t *memory, uint32_t region, uint64_t offset, uint64_t length);

/* MADV_COLLAPSE: huge mappings again, after all of the range is present (-EAGAIN before). */
int guestram_collapse(guestram_t *memory, uint32_t region, uint64_t offset, uint64_t length);

/* --------------------------------------------------------- operations on ranges of a region -- */

/*
 * The kernel's fill operations, through the same loop that the workers use. Each stops at the first
 * granule it cannot fill and returns that granule's -errno, as facts of the kernel are: -EEXIST
 * present already; -EFAULT for continue where no page is cached; -ENOENT not (or no more) mapped;
 * -ENOMEM no memory or no free hugepage; -EAGAIN another fills it just now, or an event is unread;
 * -EOPNOTSUPP where the type's row has no such operation (before any ioctl) or the kernel lacks it;
 * -ENOTCONN while the region is not registered (guestram_start(), GUESTRAM_REGION_USERFAULT).
 * `done`, unless NULL, receives the bytes that were done. Waiters on what was done are woken.
 */
int guestram_copy(guestram_t *memory, uint32_t region, uint64_t offset, const void *source,
                  uint64_t length, uint64_t *done);
int guestram_zeropage(guestram_t *memory, uint32_t region, uint64_t offset, uint64_t length,
                      uint64_t *done);
/* The caller vouches for the contents of the file there. */
int guestram_continue(guestram_t *memory, uint32_t region, uint64_t offset, uint64_t length,
                      uint64_t *done);
int guestram_poison(guestram_t *memory, uint32_t region, uint64_t offset, uint64_t length,
                    uint64_t *done);
/* Moves pages between two ranges of anon memory, not overlapping; the source then reads zero. */
int guestram_move(guestram_t *memory, uint32_t region, uint64_t offset, uint32_t source_region,
                  uint64_t source_offset, uint64_t length, uint64_t *done);
/* protect 1: the first write to each page is seen and recorded as dirty; 0: no more. Not atomic:
 * after -ENOENT a prefix may be changed. */
int guestram_writeprotect(guestram_t *memory, uint32_t region, uint64_t offset, uint64_t length,
                          int protect);

/*
 * Dirty bitmaps: bit n of the array (little-endian 64-bit words, as KVM_GET_DIRTY_LOG's) is the
 * granule n of the range. Merge ORs the VMM's own log (KVM's, vhost's) into the region's; read
 * copies it out, with what writeprotect saw, and clears it when `clear` is 1.
 */
int guestram_dirty_merge(guestram_t *memory, uint32_t region, uint64_t offset, uint64_t length,
                         const uint64_t *bitmap);
int guestram_dirty_read(guestram_t *memory, uint32_t region, uint64_t offset, uint64_t length,
                        uint64_t *bitmap, int clear);

/* ------------------------------------------------------------------- events and statistics -- */

enum {
    GUESTRAM_EVENT_RESIDENT = 1,   /* nothing is absent any more; sent once per memory */
    GUESTRAM_EVENT_PAGE_ERROR = 2, /* contents could not be read; region, offset, length, error.
                                      Neighbouring ones are one event */
    GUESTRAM_EVENT_STALLED = 3,    /* a read has taken longer than stall_ms: offset, length */
    GUESTRAM_EVENT_REMAPPED = 4,   /* the region was moved by mremap() and is served at its new
                                      address: offset, length */
    GUESTRAM_EVENT_UNMAPPED = 5,   /* a part was unmapped and is no longer served */
    GUESTRAM_EVENT_DENIED = 6,     /* sandbox in log mode: `error` is the system call's number */
    GUESTRAM_EVENT_REMAP_REFUSED = 7, /* a part of a region was moved away by mremap(): it is not
                                      served there, its absent pages are poisoned */
    GUESTRAM_EVENT_STALE_REMOVED = 8 /* guestram_save() removed what a save to the same path had
                                      left when it was killed: length = bytes that it took on disk;
                                      region and offset are 0 */
};

typedef struct guestram_event {
    size_t size;
    uint32_t type;    /* GUESTRAM_EVENT_* */
    uint32_t region;
    uint64_t offset;
    uint64_t length;
    int32_t error;    /* positive errno; 0 none */
    uint32_t dropped; /* events lost before this one because the queue (256) was full */
} guestram_event_t;

/* Readable (POLLIN) while events are queued. The memory's own: poll it, never read or close it. */
int guestram_event_fd(guestram_t *memory);
/* Takes the oldest event; -EAGAIN when there is none. */
int guestram_next_event(guestram_t *memory, guestram_event_t *event);

typedef struct guestram_stats {
    size_t size;
    uint64_t faults;          /* page fault messages read */
    uint64_t missing;         /* of these: MISSING, */
    uint64_t minor;           /* MINOR, */
    uint64_t wp;              /* write-protect */
    uint64_t faults_present;  /* found their granule present (another had filled it) */
    uint64_t faults_waited;   /* found their granule being filled */
    uint64_t faults_deferred; /* put off once because an event had to be read first */
    uint64_t pages_total;     /* granules of all regions */
    uint64_t pages_present;
    uint64_t pages_absent;
    uint64_t pages_loaded;    /* brought from a source by fault, prefetch, background or eager fill */
    uint64_t pages_copied;    /* by operation */
    uint64_t pages_zeroed;
    uint64_t pages_continued;
    uint64_t pages_poisoned;
    uint64_t pages_discarded;
    uint64_t bytes_read;      /* from sources */
    uint64_t reads;           /* calls that read */
    uint64_t reads_blocked;   /* not answered from the page cache */
    uint64_t source_errors;
    uint64_t events_remove;   /* userfaultfd events */
    uint64_t events_unmap;
    uint64_t events_remap;
    uint64_t events_fork;
    uint64_t events_dropped;  /* of our own queue */
    uint64_t own_memory;      /* bytes the library uses for itself for this memory */
} guestram_stats_t;

/*
 * Read at any time without stopping anyone. A thread whose fault is answered may run before its
 * worker has counted it: counts, states and events are right a moment later, and exact at rest.
 */
int guestram_stats(guestram_t *memory, guestram_stats_t *stats);

/* Latency histograms: why the fault came, where its bytes came from, and the parts of its time. */
enum {
    GUESTRAM_LATENCY_ALL = 0,     /* fault read until its thread was woken */
    GUESTRAM_LATENCY_MISSING = 1,
    GUESTRAM_LATENCY_MINOR = 2,
    GUESTRAM_LATENCY_WP = 3,
    GUESTRAM_LATENCY_HIT = 4,     /* contents were in memory (page cache, memfd) */
    GUESTRAM_LATENCY_DISK = 5,    /* had to be waited for */
    GUESTRAM_LATENCY_ZERO = 6,
    GUESTRAM_LATENCY_QUEUE = 7,   /* part: read until its turn */
    GUESTRAM_LATENCY_FETCH = 8,   /* part: source */
    GUESTRAM_LATENCY_FILL = 9     /* part: ioctls */
};

typedef struct guestram_latency {
    size_t size;
    uint64_t count;
    uint64_t sum_ns;
    uint64_t p50_ns; /* upper bound of the bucket that holds it; buckets are 1/8 octave wide */
    uint64_t p90_ns;
    uint64_t p99_ns;
    uint64_t p999_ns;
    uint64_t max_ns;
    uint64_t below[28]; /* how many took less than 128 ns << n, for histograms that are summed over
                           memories; n = 27: all */
} guestram_latency_t;

int guestram_latency(guestram_t *memory, uint32_t which, guestram_latency_t *latency);

#ifdef __cplusplus
}
#endif
#endif
