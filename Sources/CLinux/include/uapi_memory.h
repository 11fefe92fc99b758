// memfd, seals, madvise, mempolicy and preadv2 constants.
#ifndef CLINUX_UAPI_MEMORY_H
#define CLINUX_UAPI_MEMORY_H

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/uio.h>

#ifndef MFD_NOEXEC_SEAL // 6.3
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef F_SEAL_EXEC // 6.3
#define F_SEAL_EXEC 0x0020
#endif
#ifndef MADV_COLLAPSE // 6.1, glibc 2.37
#define MADV_COLLAPSE 25
#endif
#ifndef MAP_HUGE_SHIFT
#define MAP_HUGE_SHIFT 26
#endif

_Static_assert(MFD_HUGE_2MB == 21U << 26 && MFD_HUGE_1GB == 30U << 26, "MFD_HUGE");
_Static_assert(MADV_POPULATE_READ == 22 && MADV_POPULATE_WRITE == 23, "MADV_POPULATE");
_Static_assert(RWF_NOWAIT == 8, "RWF_NOWAIT");

CL_CONST(unsigned int, MFD_CLOEXEC);
CL_CONST(unsigned int, MFD_ALLOW_SEALING);
CL_CONST(unsigned int, MFD_HUGETLB);
CL_CONST(unsigned int, MFD_HUGE_2MB);
CL_CONST(unsigned int, MFD_HUGE_1GB);

static const int CL_MAP_HUGE_2MB = 21 << MAP_HUGE_SHIFT;
static const int CL_MAP_HUGE_1GB = 30 << MAP_HUGE_SHIFT;

CL_CONST(int, MADV_COLLAPSE);
CL_CONST(int, MADV_DONTNEED_LOCKED);
CL_CONST(int, MADV_POPULATE_READ);
CL_CONST(int, MADV_POPULATE_WRITE);

CL_CONST(uint64_t, TMPFS_MAGIC);
CL_CONST(uint64_t, HUGETLBFS_MAGIC);

#endif
