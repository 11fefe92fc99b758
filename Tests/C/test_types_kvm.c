/* A KVM guest's own faults on every type: the same answers as for the host's. */
#include "support.h"
#include "support_kvm.h"
#include "support_slow.h"

#include <sys/utsname.h>

static guestram_options_t small_windows = {.size = sizeof(guestram_options_t), .window = 4096};
static uint64_t few(const variant_t *variant) { return variant->granule == PAGE ? 64 : 7; }

static _Thread_local volatile sig_atomic_t sigbus_code;
static _Thread_local void *volatile sigbus_address;

static void on_sigbus(int number, siginfo_t *info, void *context) {
    (void)number, (void)context;
    sigbus_code = info->si_code;
    sigbus_address = info->si_addr;
}

static void on_signal(int number) { (void)number; }

static void guest_loads_and_stores(const variant_t *variant) {
    guest_t guest = guest_open();
    vm_t vm = vm_restored(variant, few(variant), &small_windows);
    guest_map(&guest, vm.address, vm.length);
    vcpu_t vcpu = vcpu_open(&guest);
    uint64_t g = vm.granule, value = 0;
    for (uint64_t at = 0; at < vm.length; at += g) {
        if (at / g % 2)
            CHECK_EQ(vcpu_store(&vcpu, at + 16, at + 3), 0);
        CHECK_EQ(vcpu_load(&vcpu, at + 8, &value), 0);
        CHECK_EQ(value, pattern_word(at + 8, g, vm.seed));
        CHECK_EQ(vcpu_load(&vcpu, at + 16, &value), 0);
        CHECK_EQ(value, at / g % 2 ? at + 3 : pattern_word(at + 16, g, vm.seed));
        CHECK_EQ(*(uint64_t *)(void *)(vm.address + at + 16), value);
    }
    CHECK(vm_stats(&vm).faults >= few(variant) - few(variant) / 4); /* resident, the last holes need none */
    CHECK_EQ(guestram_discard(vm.memory, vm.region, 0, 2 * g), 0);
    CHECK_EQ(vcpu_load(&vcpu, g + 16, &value), 0);
    CHECK_EQ(value, 0);
    vcpu_close(&vcpu);
    guest_close(&guest);
    vm_destroy(&vm);
}
TEST_EVERY_VARIANT(guest_loads_and_stores)

static void guest_on_poisoned_memory(const variant_t *variant) {
    struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO}, before;
    guest_t guest = guest_open();
    vm_t vm = vm_tracked(variant, few(variant), &small_windows);
    need_operation(&vm, GUESTRAM_OP_POISON);
    guest_map(&guest, vm.address, vm.length);
    vcpu_t vcpu = vcpu_open(&guest);
    uint64_t g = vm.granule, value = 0;
    uint8_t *bytes = malloc(g);
    CHECK_EQ(guestram_poison(vm.memory, vm.region, 2 * g, g, NULL), 0);
    sigaction(SIGBUS, &action, &before);
    CHECK_EQ(vcpu_load(&vcpu, 2 * g + 8, &value), -EINTR);
    sigaction(SIGBUS, &before, NULL);
    CHECK_EQ(sigbus_code, BUS_MCEERR_AR);
    CHECK(sigbus_address >= (void *)(vm.address + 2 * g) && sigbus_address < (void *)(vm.address + 3 * g));
    memset(bytes, 0x44, g);
    CHECK_EQ(guestram_copy(vm.memory, vm.region, 2 * g, bytes, g, NULL), 0);
    CHECK_EQ(vcpu_load(&vcpu, 2 * g + 8, &value), 0);
    CHECK_EQ(value, UINT64_C(0x4444444444444444));
    free(bytes);
    vcpu_close(&vcpu);
    guest_close(&guest);
    vm_destroy(&vm);
}
TEST_EVERY_VARIANT(guest_on_poisoned_memory)

static void guest_stores_are_seen_as_dirty(const variant_t *variant) {
    guest_t guest = guest_open();
    vm_t vm = vm_tracked(variant, few(variant), &small_windows);
    need_operation(&vm, GUESTRAM_OP_WRITEPROTECT);
    guest_map(&guest, vm.address, vm.length);
    vcpu_t vcpu = vcpu_open(&guest);
    uint64_t g = vm.granule, value, bits = 0;
    CHECK_EQ(guestram_writeprotect(vm.memory, vm.region, 0, vm.length, 1), 0);
    CHECK_EQ(guestram_dirty_read(vm.memory, vm.region, 0, 6 * g, &bits, 1), 0);
    CHECK_EQ(vcpu_load(&vcpu, g, &value), 0);
    CHECK_EQ(vcpu_load(&vcpu, 2 * g, &value), 0);
    CHECK_EQ(vcpu_store(&vcpu, 2 * g, 1), 0); /* present, then written */
    CHECK_EQ(vcpu_store(&vcpu, 4 * g, 1), 0); /* absent and written */
    CHECK_EQ(guestram_dirty_read(vm.memory, vm.region, 0, 6 * g, &bits, 0), 0);
    CHECK_EQ(bits, 1u << 2 | 1u << 4);
    vcpu_close(&vcpu);
    guest_close(&guest);
    vm_destroy(&vm);
}
TEST_EVERY_VARIANT(guest_stores_are_seen_as_dirty)

/* ---- two vCPUs, and a signal -- */

struct player {
    vcpu_t vcpu;
    pthread_t thread;
    pthread_barrier_t *barrier;
    uint64_t offset, value;
    int result;
    atomic_bool done;
};

static void *loads(void *argument) {
    struct player *player = argument;
    if (player->barrier) pthread_barrier_wait(player->barrier);
    player->result = vcpu_load(&player->vcpu, player->offset, &player->value);
    atomic_store(&player->done, true);
    return NULL;
}

static void two_vcpus_on_one_page(const variant_t *variant) {
    guest_t guest = guest_open();
    vm_t vm = vm_restored(variant, few(variant), &small_windows);
    guest_map(&guest, vm.address, vm.length);
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, 2);
    struct player players[2];
    memset(players, 0, sizeof players);
    for (unsigned i = 0; i < 2; i++) players[i].vcpu = vcpu_open(&guest);
    uint64_t loaded = 0;
    for (uint64_t at = 0; at < vm.length; at += vm.granule) {
        for (unsigned i = 0; i < 2; i++) {
            players[i].barrier = &barrier;
            players[i].offset = at + 8 * i;
            REQUIRE(pthread_create(&players[i].thread, NULL, loads, &players[i]) == 0);
        }
        for (unsigned i = 0; i < 2; i++) {
            pthread_join(players[i].thread, NULL);
            CHECK_EQ(players[i].result, 0);
            CHECK_EQ(players[i].value, pattern_word(at + 8 * i, vm.granule, vm.seed));
        }
        loaded += !pattern_is_hole(at, vm.granule);
        CHECK_EQ(vm_stats(&vm).pages_loaded, loaded);
    }
    for (unsigned i = 0; i < 2; i++) vcpu_close(&players[i].vcpu);
    guest_close(&guest);
    vm_destroy(&vm);
}
TEST_EVERY_VARIANT(two_vcpus_on_one_page)

/* Kicked while its page is being read, the vCPU returns at once; its fault comes again. */
static void signal_to_a_blocked_vcpu(const variant_t *variant) {
    struct utsname system;
    unsigned major = 0, minor = 0;
    REQUIRE(uname(&system) == 0 && sscanf(system.release, "%u.%u", &major, &minor) == 2);
    if (major < 6 || (major == 6 && minor < 3)) SKIP("KVM before Linux 6.3: no signal ends a vCPU's wait for a page");
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGUSR1, &action, NULL);
    need_variant(variant);
    save_pattern(scratch("snapshot"), 64 * PAGE, PAGE, VM_SEED);
    const char *place = slow_mount(scratch("snapshot"));
    guest_t guest = guest_open();
    guestram_t *memory = NULL;
    REQUIRE(guestram_create(&small_windows, &memory) == 0);
    vm_t vm = vm_add(memory, variant, 64 * PAGE, 0);
    restore(memory, place, GUESTRAM_RESTORE_LAZY);
    REQUIRE(guestram_start(memory) == 0);
    guest_map(&guest, vm.address, vm.length);
    struct player player = {.vcpu = vcpu_open(&guest), .offset = 5 * PAGE};
    slow_hold(true);
    REQUIRE(pthread_create(&player.thread, NULL, loads, &player) == 0);
    EVENTUALLY(slow_waiting() == 1);
    CHECK(!atomic_load(&player.done));
    pthread_kill(player.thread, SIGUSR1);
    EVENTUALLY(atomic_load(&player.done));
    pthread_join(player.thread, NULL);
    CHECK_EQ(player.result, -EINTR);
    slow_hold(false);
    CHECK_EQ(vcpu_load(&player.vcpu, 5 * PAGE, &player.value), 0);
    CHECK_EQ(player.value, pattern_word(5 * PAGE, PAGE, VM_SEED));
    CHECK_EQ(vm_stats(&vm).pages_loaded, 1);
    vcpu_close(&player.vcpu);
    guest_close(&guest);
    vm_destroy(&vm);
    slow_unmount();
}
TEST_SMALL_VARIANTS(signal_to_a_blocked_vcpu)

/* The mapping of a guest_memfd under a plain memslot: by fault where the kernel takes them. */
TEST(guest_on_guest_memfd_by_a_plain_memslot) {
    static const variant_t gmem = {"guest_memfd", GUESTRAM_GUEST_MEMFD, 0, PAGE, false};
    guest_t guest = guest_open();
    if ((guest_extension(&guest, 244) & 3) != 3) SKIP("guest_memfd with MMAP and INIT_SHARED");
    save_pattern(scratch("snapshot"), 64 * PAGE, PAGE, VM_SEED);
    vm_t vm = {.variant = &gmem, .fd = -1, .length = 64 * PAGE, .granule = PAGE, .seed = VM_SEED};
    guestram_region_options_t o = region_options(&gmem, vm.length);
    REQUIRE(guestram_create(&small_windows, &vm.memory) == 0);
    o.vm_fd = guest.vm;
    REQUIRE(guestram_region_add(vm.memory, &o, &vm.region) == 0);
    restore(vm.memory, scratch("snapshot"), GUESTRAM_RESTORE_LAZY);
    REQUIRE(guestram_start(vm.memory) == 0);
    vm.address = vm_info(&vm).host_address;
    guest_map(&guest, vm.address, vm.length);
    vcpu_t vcpu = vcpu_open(&guest);
    for (uint64_t at = 0; at < vm.length; at += PAGE) {
        uint64_t value = 1;
        CHECK_EQ(vcpu_load(&vcpu, at + 8, &value), 0);
        CHECK_EQ(value, pattern_word(at + 8, PAGE, VM_SEED));
    }
    bool lazy = vm_info(&vm).fill == GUESTRAM_FILL_LAZY;
    CHECK_EQ(vm_stats(&vm).faults > 0, lazy);
    vcpu_close(&vcpu);
    guest_close(&guest);
    vm_destroy(&vm);
}
