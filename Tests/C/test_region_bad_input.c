/* Regions and slots that are refused: -errno, a message that names the member, and nothing changed. */
#include "support.h"

static guestram_t *memory;

static void begin(void) { REQUIRE(guestram_create(NULL, &memory) == 0); }

static void end(void) {
    uint32_t id;
    CHECK_EQ(guestram_region_next(memory, 0, &id), -ENOENT);
    guestram_destroy(memory);
}

/* The region with one change. Nothing is added. */
#define REFUSED(variant, length, error, word, ...)                                         \
    do {                                                                                   \
        guestram_region_options_t o = region_options(variant, length);                     \
        __VA_ARGS__;                                                                       \
        uint32_t id_ = 0;                                                                  \
        CHECK_FAILS(guestram_region_add(memory, &o, &id_), error, word);                   \
        CHECK_EQ(id_, 0);                                                                  \
    } while (0)

TEST(region_names) {
    begin();
    REFUSED(&ANON, MIB, EINVAL, "name", o.name = NULL);
    REFUSED(&ANON, MIB, EINVAL, "name", o.name = "");
    REFUSED(&ANON, MIB, EINVAL, "name", o.name = "a/b");
    REFUSED(&ANON, MIB, EINVAL, "name", o.name = "two words");
    REFUSED(&ANON, MIB, EINVAL, "name", o.name = "line\n");
    REFUSED(&ANON, MIB, EINVAL, "name", o.name = "\xc3\xa9");
    REFUSED(&ANON, MIB, EINVAL, "name", o.name = "0123456789012345678901234567890123456789012345678901234567890123");
    guestram_region_options_t longest = region_options(&ANON, MIB);
    longest.name = "012345678901234567890123456789012345678901234567890123456789.-_";
    uint32_t id = 0, found = 0;
    CHECK_EQ(guestram_region_add(memory, &longest, &id), 0);
    CHECK_EQ(guestram_region_find(memory, longest.name, &found), 0);
    CHECK_EQ(found, id);
    CHECK_FAILS(guestram_region_add(memory, &longest, &id), EEXIST, "name");
    CHECK_FAILS(guestram_region_find(memory, "other", &found), ENOENT, "other");
    CHECK_EQ(guestram_region_remove(memory, id), 0);
    CHECK_FAILS(guestram_region_remove(memory, id), ENOENT, "region");
    end();
}

TEST(region_members_out_of_range) {
    begin();
    REFUSED(&ANON, MIB, EINVAL, "size", o.size = 0);
    REFUSED(&ANON, MIB, EINVAL, "type", o.type = 0);
    REFUSED(&ANON, MIB, EINVAL, "type", o.type = 5);
    REFUSED(&ANON, MIB, EINVAL, "flags", o.flags = 1u << 7);
    REFUSED(&ANON, MIB, EINVAL, "flags", o.flags = 1u << 31);
    REFUSED(&ANON, MIB, EINVAL, "reserved", o.reserved = 1);
    REFUSED(&ANON, 0, EINVAL, "length", (void)o);
    REFUSED(&ANON, PAGE - 1, EINVAL, "length", (void)o);
    REFUSED(&SHMEM, MIB + 512, EINVAL, "length", (void)o);
    REFUSED(&SHMEM, MIB, EINVAL, "page_size", o.page_size = 8192);
    REFUSED(&HUGETLB, 4 * MIB, EINVAL, "page_size", o.page_size = 3 * MIB);
    REFUSED(&HUGETLB, 3 * MIB, EINVAL, "length", (void)o);
    REFUSED(&ANON, MIB, EINVAL, "policy", o.policy = 4);
    REFUSED(&ANON, MIB, EINVAL, "host_nodes", o.host_nodes = 1);
    REFUSED(&ANON, MIB, EINVAL, "host_nodes", o.policy = GUESTRAM_POLICY_BIND);
    REFUSED(&ANON, MIB, EINVAL, "host_nodes", (o.policy = GUESTRAM_POLICY_BIND, o.host_nodes = UINT64_C(1) << 63));
    REFUSED(&SHMEM, MIB, EINVAL, "FILLED", o.flags = GUESTRAM_REGION_FILLED);
    end();
}

TEST(region_lengths_that_no_address_space_holds) {
    begin();
    uint64_t lengths[] = {UINT64_C(1) << 47, UINT64_C(1) << 62, UINT64_C(1) << 63, UINT64_MAX - PAGE + 1};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        guestram_region_options_t o = region_options(i % 2 ? &SHMEM : &ANON, lengths[i]);
        uint32_t id = 0;
        int error = guestram_region_add(memory, &o, &id);
        CHECK(error == -ENOMEM || error == -EINVAL);
        check_says(guestram_error(), "length", "guestram_region_add");
    }
    end();
}

TEST(region_descriptors) {
    begin();
    int pipes[2], shm, small, readonly;
    char path[64];
    REQUIRE(pipe(pipes) == 0);
    REQUIRE((shm = memfd_create("whole", MFD_CLOEXEC)) >= 0 && ftruncate(shm, MIB) == 0);
    REQUIRE((small = memfd_create("small", MFD_CLOEXEC)) >= 0 && ftruncate(small, PAGE) == 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", shm);
    REQUIRE((readonly = open(path, O_RDONLY | O_CLOEXEC)) >= 0);
    int closed = dup(shm);
    close(closed);
#define WITH_FD(error, word, fd_, ...) \
    REFUSED(&SHMEM, MIB, error, word, (o.flags |= GUESTRAM_REGION_FD, o.fd = (fd_), __VA_ARGS__))
    WITH_FD(EBADF, "fd", -1, (void)o);
    WITH_FD(EBADF, "fd", closed, (void)o);
    WITH_FD(EINVAL, "fd", pipes[0], (void)o);
    WITH_FD(EINVAL, "fd", small, (void)o);
    WITH_FD(EINVAL, "fd_offset", shm, o.fd_offset = 1);
    WITH_FD(EINVAL, "fd_offset", shm, o.fd_offset = PAGE);
    WITH_FD(EINVAL, "fd_offset", shm, o.fd_offset = UINT64_MAX - PAGE + 1);
    WITH_FD(EINVAL, "fd_offset", shm, o.fd_offset = UINT64_C(1) << 63);
    REFUSED(&ANON, MIB, EINVAL, "fd", (o.flags |= GUESTRAM_REGION_FD, o.fd = shm));
    REFUSED(&HUGETLB, 2 * MIB, EINVAL, "fd", (o.flags |= GUESTRAM_REGION_FD, o.fd = shm));

    /* A shared, writable mapping of it cannot be had. */
    guestram_region_options_t o = region_options(&SHMEM, MIB);
    uint32_t id = 0;
    o.flags |= GUESTRAM_REGION_FD;
    o.fd = readonly;
    int error = guestram_region_add(memory, &o, &id);
    CHECK(error == -EACCES || error == -EPERM || error == -EINVAL);
    check_says(guestram_error(), "fd", "guestram_region_add of a read-only fd");
    end();
    close(pipes[0]), close(pipes[1]), close(shm), close(small), close(readonly);
}

/* A new mapping, or the whole of an older one again. */
static uint8_t *map(int flags, int fd) {
    uint8_t *at = mmap(NULL, MIB, PROT_READ | PROT_WRITE, flags, fd, 0);
    REQUIRE(at != MAP_FAILED);
    return at;
}

TEST(region_host_addresses) {
    begin();
    uint8_t *anon = map(MAP_PRIVATE | MAP_ANONYMOUS, -1), *gone = map(MAP_PRIVATE | MAP_ANONYMOUS, -1);
    uint8_t *holed = map(MAP_PRIVATE | MAP_ANONYMOUS, -1);
    munmap(gone, MIB);
    munmap(holed + MIB / 2, PAGE);
    REFUSED(&ANON, MIB, EINVAL, "host_address", o.host_address = anon + 1);
    REFUSED(&ANON, MIB, EINVAL, "host_address", o.host_address = anon + 512);
    REFUSED(&ANON, MIB, EINVAL, "host_address", o.host_address = gone);
    REFUSED(&ANON, MIB, EINVAL, "host_address", o.host_address = holed);
    REFUSED(&ANON, MIB, EINVAL, "host_address", o.host_address = (void *)(uintptr_t)(UINT64_MAX - PAGE + 1));
    REFUSED(&SHMEM, MIB, EINVAL, "host_address", o.host_address = anon);
    REFUSED(&HUGETLB, 2 * MIB, EINVAL, "host_address", o.host_address = anon);

    anon[MIB - 1] = 1;
    REFUSED(&ANON, MIB, EEXIST, "host_address", o.host_address = anon);
    REQUIRE(madvise(anon, MIB, MADV_DONTNEED) == 0);
    /* Read only: the zero page is mapped, and would never fault. */
    uint64_t value;
    REQUIRE(touch_read(anon + PAGE, &value) == 0);
    REFUSED(&ANON, MIB, EEXIST, "host_address", o.host_address = anon);
    REQUIRE(madvise(anon, MIB, MADV_DONTNEED) == 0);

    guestram_region_options_t o = region_options(&ANON, MIB / 2);
    uint32_t id = 0;
    o.host_address = anon;
    CHECK_EQ(guestram_region_add(memory, &o, &id), 0);
    REFUSED(&ANON, MIB, EEXIST, "host_address", (o.name = "two", o.host_address = anon));
    REFUSED(&ANON, PAGE, EEXIST, "host_address", (o.name = "two", o.host_address = anon + MIB / 2 - PAGE));
    CHECK_EQ(guestram_region_remove(memory, id), 0);
    end();
    munmap(anon, MIB);
    munmap(holed, MIB);
}

TEST(region_host_addresses_of_files) {
    begin();
    int one = memfd_create("one", MFD_CLOEXEC), two = memfd_create("two", MFD_CLOEXEC);
    REQUIRE(one >= 0 && two >= 0 && ftruncate(one, 2 * MIB) == 0 && ftruncate(two, MIB) == 0);
    uint8_t *shared = map(MAP_SHARED, one), *private = map(MAP_PRIVATE, one);
#define MAPPED(variant, error, address, fd_, ...)                                          \
    REFUSED(variant, MIB, error, "host_address",                                           \
            (o.flags |= GUESTRAM_REGION_FD, o.fd = (fd_), o.host_address = (address), __VA_ARGS__))
    REFUSED(&ANON, MIB, EINVAL, "host_address", o.host_address = shared);
    REFUSED(&ANON, MIB, EINVAL, "host_address", o.host_address = private);
    MAPPED(&SHMEM, EINVAL, private, one, (void)o);
    MAPPED(&SHMEM_PRIVATE, EINVAL, shared, one, (void)o);
    MAPPED(&SHMEM, EINVAL, shared, two, (void)o);
    MAPPED(&SHMEM, EINVAL, shared, one, o.fd_offset = MIB);

    /* A page in the file but nowhere mapped would be mapped by the kernel without a fault. */
    REQUIRE(pwrite(one, "x", 1, 5 * PAGE) == 1);
    REFUSED(&SHMEM, MIB, EEXIST, "fd", (o.flags |= GUESTRAM_REGION_FD, o.fd = one, o.host_address = shared));
    end();
    munmap(shared, MIB), munmap(private, MIB);
    close(one), close(two);
}

TEST(guest_memfd_needs_a_vm_or_an_fd) {
    begin();
    variant_t gmem = {"guest_memfd", GUESTRAM_GUEST_MEMFD, 0, PAGE, false};
    REFUSED(&gmem, MIB, EBADF, "vm_fd", o.vm_fd = -1);
    REFUSED(&gmem, MIB, EBADF, "fd", (o.flags = GUESTRAM_REGION_FD, o.fd = -1));
    REFUSED(&gmem, MIB, EINVAL, "PRIVATE", (o.flags = GUESTRAM_REGION_PRIVATE, o.vm_fd = -1));
    end();
}

TEST(slots) {
    begin();
    guestram_region_options_t o = region_options(&ANON, MIB);
    guestram_slot_t found = {.size = sizeof found};
    uint32_t id = 0;
    REQUIRE(guestram_region_add(memory, &o, &id) == 0);
#define SLOT(gpa, length_, offset_, region_) \
    &(guestram_slot_t) { .size = sizeof(guestram_slot_t), .guest_physical = (gpa), .length = (length_), \
                         .offset = (offset_), .region = (region_) }
    CHECK_EQ(guestram_slot_add(memory, SLOT(GIB, 16 * PAGE, 0, id)), 0);
    CHECK_FAILS(guestram_slot_add(memory, SLOT(0, PAGE, 0, id + 1)), ENOENT, "region");
    CHECK_FAILS(guestram_slot_add(memory, SLOT(0, PAGE, 0, 0)), ENOENT, "region");
    CHECK_FAILS(guestram_slot_add(memory, SLOT(1, PAGE, 0, id)), EINVAL, "guest_physical");
    CHECK_FAILS(guestram_slot_add(memory, SLOT(0, 0, 0, id)), EINVAL, "length");
    CHECK_FAILS(guestram_slot_add(memory, SLOT(0, 100, 0, id)), EINVAL, "length");
    CHECK_FAILS(guestram_slot_add(memory, SLOT(0, PAGE, 8, id)), EINVAL, "offset");
    CHECK_FAILS(guestram_slot_add(memory, SLOT(UINT64_MAX - PAGE + 1, 2 * PAGE, 0, id)), EINVAL, "guest_physical");
    CHECK_FAILS(guestram_slot_add(memory, SLOT(0, MIB + PAGE, 0, id)), ERANGE, "length");
    CHECK_FAILS(guestram_slot_add(memory, SLOT(0, PAGE, MIB, id)), ERANGE, "offset");
    CHECK_FAILS(guestram_slot_add(memory, SLOT(0, PAGE, UINT64_MAX - PAGE + 1, id)), ERANGE, "offset");
    CHECK_FAILS(guestram_slot_add(memory, SLOT(GIB - PAGE, 2 * PAGE, 0, id)), EEXIST, "slot");
    CHECK_FAILS(guestram_slot_add(memory, SLOT(GIB + 15 * PAGE, PAGE, 0, id)), EEXIST, "slot");
    CHECK_FAILS(guestram_slot_add(memory, SLOT(GIB - PAGE, 64 * PAGE, 0, id)), EEXIST, "slot");
    CHECK_FAILS(guestram_slot_remove(memory, GIB + PAGE), ENOENT, "guest_physical");
    guestram_slot_t strange = *SLOT(0, PAGE, 0, id);
    strange.reserved = 1;
    CHECK_FAILS(guestram_slot_add(memory, &strange), EINVAL, "reserved");
    strange.size = 0;
    CHECK_FAILS(guestram_slot_add(memory, &strange), EINVAL, "size");

    CHECK_EQ(guestram_slot_next(memory, 0, &found), 0);
    CHECK_EQ(found.guest_physical, GIB);
    CHECK_FAILS(guestram_slot_next(memory, GIB + 1, &found), ENOENT, "slot");
    CHECK_EQ(guestram_region_remove(memory, id), 0);
    CHECK_EQ(guestram_slot_next(memory, 0, &found), -ENOENT);
    end();
}
