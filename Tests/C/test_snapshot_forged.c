/* Manifests with a right checksum and wrong contents (docs/snapshot-format.md): nothing in a
 * snapshot is trusted, whoever wrote it. */
#include "support.h"

#define VERSION "guestram-snapshot 1\n"
#define BYTES "memory bytes=6291456\n"
#define LOW "region name=low type=shmem sharing=shared length=1048576 page-size=4096 file-offset=0 data=0\n"
#define HIGH "region name=high type=anon sharing=private length=2097152 page-size=4096 file-offset=4194304 data=0\n"
#define SLOT_LOW "slot region=low guest-physical=0x0 offset=0 length=1048576\n"
#define SLOT_HIGH "slot region=high guest-physical=0x100000000 offset=4096 length=1048576\n"

/* Opens a snapshot with that manifest, whose memory file has 6 MiB of holes. */
static int forged(const char *text) {
    static unsigned count;
    char name[16], path[560];
    snprintf(name, sizeof name, "forged%u", count++);
    const char *directory = scratch(name);
    REQUIRE(mkdir(directory, 0700) == 0);
    snprintf(path, sizeof path, "%s/memory", directory);
    int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    REQUIRE(file >= 0 && ftruncate(file, 6 * MIB) == 0);
    close(file);
    snprintf(path, sizeof path, "%s/manifest", directory);
    file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    REQUIRE(file >= 0 && write(file, text, strlen(text)) == (ssize_t)strlen(text));
    dprintf(file, "checksum crc64=%016llx\n", (unsigned long long)crc64(text, strlen(text)));
    close(file);
    guestram_snapshot_t *snapshot = NULL;
    int error = guestram_snapshot_open(directory, &snapshot);
    CHECK((error == 0) == (snapshot != NULL));
    guestram_snapshot_close(snapshot);
    return error;
}

#define REFUSED(text, word)                                                   \
    do {                                                                      \
        CHECK_EQ(forged(text), -EINVAL);                                      \
        check_says(guestram_error(), word, "guestram_snapshot_open");         \
    } while (0)

TEST(forging_by_itself_is_no_reason) {
    CHECK_EQ(forged(VERSION BYTES LOW HIGH SLOT_LOW SLOT_HIGH), 0);
    CHECK_EQ(forged(VERSION BYTES), 0);
}

TEST(versions) {
    CHECK_EQ(forged("guestram-snapshot 2\n" BYTES LOW HIGH), -EPROTONOSUPPORT);
    check_says(guestram_error(), "newer", "guestram_snapshot_open");
    CHECK_EQ(forged("guestram-snapshot 99\nwhatever it will be\n"), -EPROTONOSUPPORT);
    REFUSED("guestram-snapshot 0\n" BYTES LOW HIGH, "0");
    REFUSED("guestram-snapshot -1\n" BYTES LOW HIGH, "manifest");
    REFUSED("guestram-snapshot 18446744073709551617\n" BYTES LOW HIGH, "manifest");
    REFUSED("guestram 1\n" BYTES LOW HIGH, "manifest");
}

TEST(regions_that_cannot_be) {
#define REGION(text, word) REFUSED(VERSION BYTES "region " text "\n", word)
#define SIZES "page-size=4096 file-offset=0 data=0"
    REGION("name=a/b type=anon sharing=shared length=4096 " SIZES, "manifest");
    REGION("name= type=anon sharing=shared length=4096 " SIZES, "manifest");
    REGION("name=a type=disk sharing=shared length=4096 " SIZES, "type");
    REGION("name=a type=anon sharing=both length=4096 " SIZES, "manifest");
    REGION("name=a type=anon sharing=shared length=0 " SIZES, "length");
    REGION("name=a type=anon sharing=shared length=4097 " SIZES, "length");
    REGION("name=a type=anon sharing=shared length=-4096 " SIZES, "manifest");
    REGION("name=a type=anon sharing=shared length=04096 " SIZES, "manifest");
    REGION("name=a type=anon sharing=shared length=0x1000 " SIZES, "manifest");
    REGION("name=a type=anon sharing=shared length=8388608 " SIZES, "length");
    REGION("name=a type=anon sharing=shared length=18446744073709547520 " SIZES, "length");
    REGION("name=a type=anon sharing=shared length=99999999999999999999 " SIZES, "manifest");
    REGION("name=a type=anon sharing=shared length=4096 page-size=0 file-offset=0 data=0", "page-size");
    REGION("name=a type=anon sharing=shared length=4096 page-size=3 file-offset=0 data=0", "page-size");
    REGION("name=a type=hugetlb sharing=shared length=4096 page-size=2097152 file-offset=0 data=0", "length");
    REGION("name=a type=anon sharing=shared length=4096 page-size=4096 file-offset=4095 data=0", "file-offset");
    REGION("name=a type=anon sharing=shared length=4096 page-size=4096 file-offset=6291456 data=0", "file-offset");
    REGION("name=a type=anon sharing=shared length=4096 page-size=4096 file-offset=18446744073707454464 data=0", "file-offset");
    REGION("name=a type=anon sharing=shared length=4096 page-size=4096 file-offset=0 data=8192", "data");
    REGION("name=a type=anon sharing=shared length=4096 page-size=4096 file-offset=0 data=0 ", "manifest");
    REGION("name=a type=anon  sharing=shared length=4096 " SIZES, "manifest");
    REFUSED(VERSION BYTES LOW LOW, "low");
    REFUSED(VERSION BYTES HIGH LOW, "overlap");
    REFUSED(VERSION BYTES LOW "region name=b type=anon sharing=shared length=4096 page-size=4096 file-offset=0 data=0\n", "overlap");
    REFUSED(VERSION BYTES LOW SLOT_LOW HIGH, "manifest");
}

TEST(slots_that_cannot_be) {
#define BAD_SLOT(text, word) REFUSED(VERSION BYTES LOW HIGH "slot " text "\n", word)
    BAD_SLOT("region=none guest-physical=0x0 offset=0 length=4096", "none");
    BAD_SLOT("region=low guest-physical=0x1 offset=0 length=4096", "slot");
    BAD_SLOT("region=low guest-physical=0x0 offset=1 length=4096", "slot");
    BAD_SLOT("region=low guest-physical=0x0 offset=0 length=0", "slot");
    BAD_SLOT("region=low guest-physical=0x0 offset=0 length=1052672", "slot");
    BAD_SLOT("region=low guest-physical=0x0 offset=1048576 length=4096", "slot");
    BAD_SLOT("region=low guest-physical=0x0 offset=18446744073709547520 length=8192", "slot");
    BAD_SLOT("region=low guest-physical=0xfffffffffffff000 offset=0 length=8192", "slot");
    BAD_SLOT("region=low guest-physical=0x10000000000000000 offset=0 length=4096", "manifest");
    REFUSED(VERSION BYTES LOW HIGH SLOT_HIGH SLOT_LOW, "slot");
    REFUSED(VERSION BYTES LOW HIGH SLOT_LOW "slot region=high guest-physical=0xff000 offset=0 length=4096\n", "overlap");
}

TEST(files_of_impossible_sizes) {
    REFUSED(VERSION "memory bytes=6291457\n" LOW HIGH, "memory");
    REFUSED(VERSION "memory bytes=0\n" LOW HIGH, "manifest");
    REFUSED(VERSION "memory bytes=18446744073709551615\n" LOW HIGH, "manifest");
    REFUSED(VERSION BYTES "state bytes=0 crc64=0000000000000000\n" LOW, "state");
    REFUSED(VERSION BYTES "state bytes=1073741825 crc64=0000000000000000\n" LOW, "state");
    REFUSED(VERSION BYTES "state bytes=5 crc64=0000000000000000\n" LOW, "state"); /* there is none */
}

TEST(more_than_there_may_be) {
    static char text[400 * 1024];
    size_t length = (size_t)snprintf(text, sizeof text, VERSION "memory bytes=4294967296\n");
    for (unsigned i = 0; i < 1025; i++)
        length += (size_t)snprintf(text + length, sizeof text - length,
                                   "region name=r%u type=anon sharing=shared length=4096 page-size=4096 "
                                   "file-offset=%u data=0\n", i, i * 2097152);
    REFUSED(text, "regions");
    length = (size_t)snprintf(text, sizeof text, VERSION BYTES LOW);
    for (unsigned i = 0; i < 4097; i++)
        length += (size_t)snprintf(text + length, sizeof text - length,
                                   "slot region=low guest-physical=0x%x offset=0 length=4096\n", i * 4096);
    REFUSED(text, "slots");
}
