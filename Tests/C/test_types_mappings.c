/* Mappings that the library did not expect to be whole: split VMAs, huge folios, sealed files. */
#include "support.h"

#include <sched.h>
#include <sys/mount.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

static vm_t serve_callers(const variant_t *variant, uint8_t *address, int fd, uint64_t length) {
    guestram_region_options_t o = region_options(variant, length);
    o.host_address = address;
    o.flags |= fd < 0 ? 0 : GUESTRAM_REGION_FD;
    o.fd = fd;
    return vm_restored_as(variant, &o, NULL, GUESTRAM_RESTORE_LAZY);
}

/* Windows of 2 MiB over VMAs that mprotect() and madvise() split after the start. */
static void windows_across_split_vmas(const variant_t *variant) {
    need_variant(variant);
    uint64_t length = 1100 * PAGE;
    int fd;
    uint8_t *address;
    REQUIRE(variant_map(variant, length, &fd, &address) == 0);
    vm_t vm = serve_callers(variant, address, fd, length);
    for (uint64_t page = 5; page < 1100; page += 37)
        REQUIRE(mprotect(address + page * PAGE, PAGE, page % 2 ? PROT_READ : PROT_NONE) == 0);
    REQUIRE(madvise(address + 700 * PAGE, 50 * PAGE, MADV_DONTDUMP) == 0);
    uint64_t value;
    for (uint64_t page = 0; page < 1100; page += 3) {
        if (page % 37 == 5 && page % 2 == 0) continue;
        CHECK_EQ(touch_read(address + page * PAGE, &value), 0);
        CHECK_EQ(value, pattern_word(page * PAGE, PAGE, VM_SEED));
    }
    REQUIRE(mprotect(address, length, PROT_READ | PROT_WRITE) == 0);
    CHECK_EQ(vm_mismatch(&vm), -1);
    vm_destroy(&vm);
    munmap(address, length);
    if (fd >= 0) close(fd);
}
TEST_SMALL_VARIANTS(windows_across_split_vmas)

/* Two regions side by side in one VMA: a window of one must not reach into the other. */
TEST(windows_end_with_their_region) {
    uint64_t length = 700 * PAGE;
    uint8_t *address = mmap(NULL, 2 * length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(address != MAP_FAILED);
    guestram_region_options_t o = region_options(&ANON, length);
    uint32_t id;
    vm_t vm = serve_callers(&ANON, address, -1, length);
    o.name = "next";
    o.flags = GUESTRAM_REGION_USERFAULT;
    o.host_address = address + length;
    REQUIRE(guestram_region_add(vm.memory, &o, &id) == 0);
    CHECK(is_zero(address + length, PAGE));
    CHECK_EQ(vm_mismatch(&vm), -1);
    CHECK(is_zero(address + length, length));
    CHECK_EQ(guestram_region_remove(vm.memory, vm.region), 0);
    CHECK_EQ(touch_write(address + 2 * length - PAGE, 1), 0);
    guestram_destroy(vm.memory);
    munmap(address, 2 * length);
}

/* One 4 KiB write through a second mapping allocates 2 MiB of zeros: none of them are contents. */
static void huge_folio_trap(const variant_t *variant, uint32_t mode) {
    const char *place = scratch("huge");
    uint64_t length = 4 * MIB;
    struct stat info;
    REQUIRE(mkdir(place, 0700) == 0);
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        SKIP_LACKING("the right to mount a tmpfs");
    if (mount("tmpfs", place, "tmpfs", 0, "huge=always") < 0) SKIP("tmpfs without huge pages");
    int fd = open(scratch("huge/file"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    REQUIRE(fd >= 0 && ftruncate(fd, (off_t)length) == 0);
    save_pattern(scratch("snapshot"), length, PAGE, VM_SEED);

    vm_t vm = {.variant = variant, .fd = -1, .length = length, .granule = PAGE, .seed = VM_SEED};
    guestram_region_options_t o = region_options(variant, length);
    REQUIRE(guestram_create(NULL, &vm.memory) == 0);
    o.flags |= GUESTRAM_REGION_FD;
    o.fd = fd;
    REQUIRE(guestram_region_add(vm.memory, &o, &vm.region) == 0);
    vm.address = vm_info(&vm).host_address;
    restore(vm.memory, scratch("snapshot"), mode);
    uint8_t *alias = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    REQUIRE(alias != MAP_FAILED);
    alias[MIB + 5] = 0xaa; /* the guest's contents are still the snapshot's there */
    REQUIRE(fstat(fd, &info) == 0);
    if (info.st_blocks * 512 < (int64_t)(2 * MIB)) SKIP("this kernel gave no huge folio");
    REQUIRE(guestram_start(vm.memory) == 0);
    if (mode == GUESTRAM_RESTORE_LAZY) alias[2 * MIB + 5] = 0xaa;
    CHECK_EQ(vm_mismatch(&vm), -1);
    vm_destroy(&vm);
    munmap(alias, length);
    close(fd);
    umount2(place, MNT_DETACH);
}
TEST(huge_folio_trap_shmem) { huge_folio_trap(&SHMEM, GUESTRAM_RESTORE_LAZY); }
TEST(huge_folio_trap_shmem_private) { huge_folio_trap(&SHMEM_PRIVATE, GUESTRAM_RESTORE_LAZY); }
TEST(huge_folio_trap_eager) { huge_folio_trap(&SHMEM, GUESTRAM_RESTORE_EAGER); }

/* One sealed, read-only template under several clones. */
TEST(sealed_template_under_private_clones) {
    uint64_t length = 600 * PAGE;
    int fd = memfd_create("template", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    uint8_t *contents = calloc(1, length);
    char path[64];
    REQUIRE(fd >= 0 && contents && ftruncate(fd, (off_t)length) == 0);
    pattern_fill(contents, length, PAGE, VM_SEED);
    for (uint64_t at = 0; at < length; at += PAGE) /* holes stay holes */
        if (!pattern_is_hole(at, PAGE)) REQUIRE(pwrite(fd, contents + at, PAGE, (off_t)at) == (ssize_t)PAGE);
    REQUIRE(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) == 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int readonly = open(path, O_RDONLY | O_CLOEXEC);
    REQUIRE(readonly >= 0);

    vm_t clones[3];
    for (unsigned i = 0; i < 3; i++) {
        vm_t *vm = &clones[i];
        guestram_region_options_t o = region_options(&SHMEM_PRIVATE, length);
        *vm = (vm_t){.variant = &SHMEM_PRIVATE, .fd = -1, .length = length, .granule = PAGE, .seed = VM_SEED};
        REQUIRE(guestram_create(NULL, &vm->memory) == 0);
        o.flags |= GUESTRAM_REGION_FD | GUESTRAM_REGION_FILLED;
        o.fd = readonly;
        int error = guestram_region_add(vm->memory, &o, &vm->region);
        if (error < 0) printf("%s\n", guestram_error());
        REQUIRE(error == 0 && guestram_start(vm->memory) == 0);
        vm->address = vm_info(vm).host_address;
    }
    for (unsigned i = 0; i < 3; i++) {
        CHECK_EQ(vm_mismatch(&clones[i]), -1);
        CHECK(vm_stats(&clones[i]).minor > 0);
        memset(clones[i].address, (int)i + 1, length / 2);
        CHECK_EQ(guestram_discard(clones[i].memory, clones[i].region, 0, PAGE), 0);
        CHECK(is_zero(clones[i].address, PAGE)); /* not the template's */
    }
    for (unsigned i = 0; i < 3; i++) {
        CHECK_EQ(clones[i].address[PAGE], i + 1);
        CHECK_EQ(*(uint64_t *)(void *)(clones[i].address + length / 2), pattern_word(length / 2, PAGE, VM_SEED));
        vm_destroy(&clones[i]);
    }
    uint8_t *again = mmap(NULL, length, PROT_READ, MAP_SHARED, readonly, 0);
    REQUIRE(again != MAP_FAILED);
    CHECK_EQ(memcmp(again, contents, length), 0);

    /* Shared, it cannot be registered: refused, not served wrongly. */
    guestram_t *memory = NULL;
    guestram_region_options_t o = region_options(&SHMEM, length);
    uint32_t id;
    REQUIRE(guestram_create(NULL, &memory) == 0);
    o.flags |= GUESTRAM_REGION_FD | GUESTRAM_REGION_FILLED;
    o.fd = fd;
    CHECK(guestram_region_add(memory, &o, &id) < 0);
    check_says(guestram_error(), "fd", "guestram_region_add of a sealed file");
    guestram_destroy(memory);
    munmap(again, length), free(contents), close(readonly), close(fd);
}

/* ---- huge mappings again -- */

static void collapse(const variant_t *variant) {
    twin_t twin = {.uffd = -1, .length = 8 * MIB};
    REQUIRE(variant_map(variant, 8 * MIB, &twin.fd, &twin.address) == 0);
    uint8_t *place = mmap(NULL, 10 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint8_t *aligned = (uint8_t *)(((uintptr_t)place + 2 * MIB - 1) & ~(uintptr_t)(2 * MIB - 1));
    twin.address = mremap(twin.address, 8 * MIB, 8 * MIB, MREMAP_MAYMOVE | MREMAP_FIXED, aligned);
    REQUIRE(twin.address == aligned);
    memset(aligned, 1, 8 * MIB);
    int raw = madvise(aligned, 8 * MIB, MADV_COLLAPSE) < 0 ? -errno : 0;
    twin_close(&twin);
    if (raw < 0) SKIP("this kernel has no MADV_COLLAPSE for the type");

    vm_t vm = vm_restored(variant, 2048, &(guestram_options_t){.size = sizeof(guestram_options_t), .window = 4096});
    uint64_t value;
    CHECK_EQ(touch_read(vm.address, &value), 0);
    CHECK_FAILS(guestram_collapse(vm.memory, vm.region, 0, vm.length), EAGAIN, "absent");
    CHECK_EQ(guestram_background_fill(vm.memory, UINT64_MAX), 0);
    CHECK_EQ(guestram_wait_resident(vm.memory, 5000), 0);
    int error = guestram_collapse(vm.memory, vm.region, 0, vm.length);
    if (error < 0) printf("%s\n", guestram_error());
    CHECK_EQ(error, 0);
    CHECK_EQ(vm_mismatch(&vm), -1);
    vm_destroy(&vm);
}
TEST(collapse_anon) { collapse(&ANON); }
TEST(collapse_shmem) { collapse(&SHMEM); }
