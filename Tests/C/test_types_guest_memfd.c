/* guest_memfd: filled through its own mapping before the vCPUs run; lazily, where the kernel takes
 * a userfault on it. Which of the two is found out here by a raw registration. */
#include "support.h"

#include <linux/kvm.h>
#include <sys/ioctl.h>

#ifndef KVM_CREATE_GUEST_MEMFD
struct kvm_create_guest_memfd {
    __u64 size, flags, reserved[6];
};
#define KVM_CREATE_GUEST_MEMFD _IOWR(KVMIO, 0xd4, struct kvm_create_guest_memfd)
#endif
#define CAP_GUEST_MEMFD_FLAGS 244
#define MMAP_AND_INIT_SHARED 3u

#define LENGTH (333 * PAGE)
static const variant_t GUEST_MEMFD = {"guest_memfd", GUESTRAM_GUEST_MEMFD, 0, PAGE, false};

static int new_vm(void) {
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (kvm < 0) SKIP_LACKING("/dev/kvm");
    int vm = ioctl(kvm, KVM_CREATE_VM, 0UL);
    REQUIRE(vm >= 0);
    close(kvm);
    if ((ioctl(vm, KVM_CHECK_EXTENSION, CAP_GUEST_MEMFD_FLAGS) & MMAP_AND_INIT_SHARED) != MMAP_AND_INIT_SHARED)
        SKIP("guest_memfd with MMAP and INIT_SHARED");
    return vm;
}

static int new_guest_memfd(int vm) {
    struct kvm_create_guest_memfd create = {.size = LENGTH, .flags = MMAP_AND_INIT_SHARED};
    int fd = ioctl(vm, KVM_CREATE_GUEST_MEMFD, &create);
    REQUIRE(fd >= 0);
    return fd;
}

static bool kernel_takes_faults(int vm) {
    twin_t twin = {.uffd = -1, .length = LENGTH, .fd = new_guest_memfd(vm)};
    twin.address = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, twin.fd, 0);
    REQUIRE(twin.address != MAP_FAILED);
    bool takes = raw_register(&twin, GUESTRAM_MODE_MISSING | GUESTRAM_MODE_MINOR) == 0;
    twin_close(&twin);
    return takes;
}

static vm_t restored(int vm_fd, int fd, uint32_t mode) {
    guestram_region_options_t o = region_options(&GUEST_MEMFD, LENGTH);
    o.vm_fd = vm_fd;
    o.fd = fd;
    o.flags = fd < 0 ? 0 : GUESTRAM_REGION_FD;
    return vm_restored_as(&GUEST_MEMFD, &o, NULL, mode);
}

static void check_restored(int vm_fd, int fd) {
    bool lazy = kernel_takes_faults(vm_fd);
    printf("guest_memfd is filled %s\n", lazy ? "by fault" : "before the vCPUs run");
    vm_t vm = restored(vm_fd, fd, GUESTRAM_RESTORE_LAZY);
    guestram_region_info_t info = vm_info(&vm);
    CHECK_EQ(info.fill, lazy ? GUESTRAM_FILL_LAZY : GUESTRAM_FILL_EAGER);
    CHECK(strlen(info.why) > 0);
    CHECK(info.fd >= 0);
    if (!lazy) {
        CHECK_EQ(info.operations, 0);
        CHECK_EQ(info.modes, 0);
        CHECK_EQ(info.absent, 0);
        CHECK_EQ(vm_stats(&vm).pages_absent, 0);
    } else {
        CHECK_EQ(vm_stats(&vm).bytes_read, 0);
        CHECK(info.operations & 1u << GUESTRAM_OP_CONTINUE);
    }
    /* The kernel may offer them; the type has no way to allocate for them. */
    CHECK(!(info.operations & (1u << GUESTRAM_OP_COPY | 1u << GUESTRAM_OP_ZEROPAGE | 1u << GUESTRAM_OP_MOVE)));
    CHECK_EQ(vm_mismatch(&vm), -1);
    CHECK_EQ(vm_stats(&vm).source_errors, 0);
    if (lazy) CHECK(vm_stats(&vm).faults > 0);
    CHECK_EQ(guestram_wait_resident(vm.memory, 1000), 0);
    CHECK_FAILS(guestram_copy(vm.memory, vm.region, 0, vm.address + PAGE, PAGE, NULL), EOPNOTSUPP, "guest_memfd");
    vm_destroy(&vm);
}

TEST(guest_memfd_made_on_a_vm) {
    int vm = new_vm();
    check_restored(vm, -1);
    close(vm);
}

TEST(guest_memfd_given) {
    int vm = new_vm(), fd = new_guest_memfd(vm);
    check_restored(vm, fd);
    close(fd), close(vm);
}

TEST(guest_memfd_holes_take_no_memory) {
    int vm_fd = new_vm();
    vm_t vm = restored(vm_fd, -1, GUESTRAM_RESTORE_EAGER);
    struct stat info;
    REQUIRE(fstat(vm_info(&vm).fd, &info) == 0);
    CHECK(vm_stats(&vm).pages_loaded >= 333 - 333 / 4);
    CHECK_EQ(vm_stats(&vm).bytes_read, (333 - 333 / 4) * PAGE);
    CHECK(vm_info(&vm).zero > 0 || vm_info(&vm).present == 333);
    CHECK_EQ(vm_mismatch(&vm), -1);
    vm_destroy(&vm);
    close(vm_fd);
}

TEST(guest_memfd_discard_and_punch) {
    int vm_fd = new_vm();
    vm_t vm = restored(vm_fd, -1, GUESTRAM_RESTORE_LAZY);
    CHECK_EQ(guestram_discard(vm.memory, vm.region, 0, 3 * PAGE), 0);
    CHECK(is_zero(vm.address, 3 * PAGE));
    CHECK_EQ(touch_write(vm.address + PAGE, 5), 0);
    uint64_t value;
    CHECK_EQ(touch_read(vm.address + 8 * PAGE, &value), 0);
    CHECK_EQ(fallocate(vm_info(&vm).fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 8 * PAGE, PAGE), 0);
    CHECK(is_zero(vm.address + 8 * PAGE, PAGE));
    CHECK_EQ(*(uint64_t *)(void *)(vm.address + PAGE), 5);
    CHECK_EQ(*(uint64_t *)(void *)(vm.address + 4 * PAGE), pattern_word(4 * PAGE, PAGE, vm.seed));
    CHECK_EQ(guestram_save(vm.memory, scratch("again"), NULL), 0);
    vm_destroy(&vm);
    close(vm_fd);
}

TEST(guest_memfd_of_another_kind_is_refused) {
    int vm_fd = new_vm(), shm = memfd_create("shm", MFD_CLOEXEC);
    guestram_t *memory = NULL;
    guestram_region_options_t o = region_options(&GUEST_MEMFD, LENGTH);
    uint32_t id;
    REQUIRE(ftruncate(shm, LENGTH) == 0 && guestram_create(NULL, &memory) == 0);
    o.flags = GUESTRAM_REGION_FD;
    o.fd = shm;
    CHECK_FAILS(guestram_region_add(memory, &o, &id), EINVAL, "fd");
    o.flags = 0;
    o.vm_fd = shm;
    CHECK_FAILS(guestram_region_add(memory, &o, &id), EINVAL, "vm_fd");
    guestram_destroy(memory);
    close(shm), close(vm_fd);
}
