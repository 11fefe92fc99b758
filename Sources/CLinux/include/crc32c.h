// CRC-32C (Castagnoli) of pages, with the initial value 0 and no final exclusive-or, so that a page
// of zeros has 0 (docs/snapshot-format.md). By the CPU's own instruction where it has one.
#ifndef CLINUX_CRC32C_H
#define CLINUX_CRC32C_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define CL_CRC32C_PAGE 4096

// For every CPU, half a byte a step.
static inline uint32_t cl_crc32c(uint32_t crc, const void *bytes, size_t length) {
    static const uint32_t table[16] = {
        0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
        0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
    };
    for (const unsigned char *at = (const unsigned char *)bytes; length > 0; length--) {
        crc ^= *at++;
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return crc;
}

// By hand what <cpuid.h> and <arm_acle.h> have: their modules of clang draw in headers of libc without
// _GNU_SOURCE. Not __builtin_cpu_supports(), which needs a symbol of libgcc.
#if defined(__x86_64__)
#define CL_CRC32C_TARGET __attribute__((target("sse4.2")))
static inline int cl_crc32c_is_built_in(void) {
    unsigned a = 1, b, c = 0, d;
    __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    return (c >> 20 & 1) != 0; // SSE4.2
}
// 64 bits wide in and out, as the instruction is: nothing has to be widened in between.
CL_CRC32C_TARGET static inline uint64_t cl_crc32c_word(uint64_t crc, uint64_t word) {
    return __builtin_ia32_crc32di(crc, word);
}
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#define CL_CRC32C_TARGET __attribute__((target("+crc")))
static inline int cl_crc32c_is_built_in(void) { return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0; }
CL_CRC32C_TARGET static inline uint64_t cl_crc32c_word(uint64_t crc, uint64_t word) {
#ifdef __clang__
    return __builtin_arm_crc32cd((uint32_t)crc, word);
#else
    return __builtin_aarch64_crc32cx((uint32_t)crc, word);
#endif
}
#endif

#ifdef CL_CRC32C_TARGET
CL_CRC32C_TARGET static inline uint64_t cl_crc32c_load(const unsigned char *at) {
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

// The instruction's result takes three cycles and one can be started in each: three pages at once.
CL_CRC32C_TARGET static inline void cl_crc32c_pages_built_in(const void *pages, size_t count, uint32_t *out) {
    const unsigned char *page = (const unsigned char *)pages;
    for (; count >= 3; count -= 3, out += 3, page += 3 * CL_CRC32C_PAGE) {
        uint64_t a = 0, b = 0, c = 0;
        for (size_t at = 0; at < CL_CRC32C_PAGE; at += 8) {
            a = cl_crc32c_word(a, cl_crc32c_load(page + at));
            b = cl_crc32c_word(b, cl_crc32c_load(page + at + CL_CRC32C_PAGE));
            c = cl_crc32c_word(c, cl_crc32c_load(page + at + 2 * CL_CRC32C_PAGE));
        }
        out[0] = (uint32_t)a, out[1] = (uint32_t)b, out[2] = (uint32_t)c;
    }
    for (; count > 0; count--, out++, page += CL_CRC32C_PAGE) {
        uint64_t crc = 0;
        for (size_t at = 0; at < CL_CRC32C_PAGE; at += 8) crc = cl_crc32c_word(crc, cl_crc32c_load(page + at));
        *out = (uint32_t)crc;
    }
}
#endif

// One for each page. The CPU is asked once: in a virtual machine CPUID is slow.
static inline void cl_crc32c_pages(const void *pages, size_t count, uint32_t *out) {
#ifdef CL_CRC32C_TARGET
    static int built_in; // 0: not asked yet; 1: no; 2: yes
    int known = __atomic_load_n(&built_in, __ATOMIC_RELAXED);
    if (known == 0) {
        known = cl_crc32c_is_built_in() ? 2 : 1;
        __atomic_store_n(&built_in, known, __ATOMIC_RELAXED);
    }
    if (known == 2) {
        cl_crc32c_pages_built_in(pages, count, out);
        return;
    }
#endif
    for (size_t page = 0; page < count; page++)
        out[page] = cl_crc32c(0, (const unsigned char *)pages + page * CL_CRC32C_PAGE, CL_CRC32C_PAGE);
}

// The number of the first page that is not what was expected; `count`: all are.
static inline size_t cl_crc32c_first_difference(const void *pages, size_t count, const uint32_t *expected) {
    enum { batch = 48 };
    uint32_t sums[batch];
    for (size_t done = 0; done < count; done += batch) {
        size_t some = count - done < batch ? count - done : batch;
        cl_crc32c_pages((const unsigned char *)pages + done * CL_CRC32C_PAGE, some, sums);
        for (size_t page = 0; page < some; page++)
            if (sums[page] != expected[done + page]) return done + page;
    }
    return count;
}

#endif
