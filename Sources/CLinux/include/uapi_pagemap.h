// PAGEMAP_SCAN, Linux 6.7 and later: which pages were written (or accessed), and re-arm them.
#ifndef CLINUX_UAPI_PAGEMAP_H
#define CLINUX_UAPI_PAGEMAP_H

#include <linux/fs.h>

#ifndef PAGEMAP_SCAN
struct page_region {
    __u64 start;
    __u64 end;
    __u64 categories;
};
struct pm_scan_arg {
    __u64 size;
    __u64 flags;
    __u64 start;
    __u64 end;
    __u64 walk_end;
    __u64 vec;
    __u64 vec_len;
    __u64 max_pages;
    __u64 category_inverted;
    __u64 category_mask;
    __u64 category_anyof_mask;
    __u64 return_mask;
};
#define PAGEMAP_SCAN _IOWR('f', 16, struct pm_scan_arg)
#define PM_SCAN_WP_MATCHING (1 << 0)
#define PM_SCAN_CHECK_WPASYNC (1 << 1)
#define PAGE_IS_WPALLOWED (1 << 0)
#define PAGE_IS_WRITTEN (1 << 1)
#define PAGE_IS_FILE (1 << 2)
#define PAGE_IS_PRESENT (1 << 3)
#define PAGE_IS_SWAPPED (1 << 4)
#define PAGE_IS_PFNZERO (1 << 5)
#define PAGE_IS_HUGE (1 << 6)
#endif
#ifndef PAGE_IS_SOFT_DIRTY
#define PAGE_IS_SOFT_DIRTY (1 << 7)
#endif
#ifndef PAGE_IS_GUARD
#define PAGE_IS_GUARD (1 << 8)
#endif
#ifndef PAGE_IS_ACCESSED // 7.3, with RWP
#define PAGE_IS_ACCESSED (1 << 9)
#endif

_Static_assert(sizeof(struct page_region) == 24, "page_region");
_Static_assert(sizeof(struct pm_scan_arg) == 96, "pm_scan_arg");
_Static_assert(PAGEMAP_SCAN == 0xc0606610, "PAGEMAP_SCAN");
CL_CONST(unsigned long, PAGEMAP_SCAN);

CL_CONST(uint64_t, PM_SCAN_WP_MATCHING);
CL_CONST(uint64_t, PM_SCAN_CHECK_WPASYNC);
CL_CONST(uint64_t, PAGE_IS_WPALLOWED);
CL_CONST(uint64_t, PAGE_IS_WRITTEN);
CL_CONST(uint64_t, PAGE_IS_FILE);
CL_CONST(uint64_t, PAGE_IS_PRESENT);
CL_CONST(uint64_t, PAGE_IS_SWAPPED);
CL_CONST(uint64_t, PAGE_IS_PFNZERO);
CL_CONST(uint64_t, PAGE_IS_HUGE);
CL_CONST(uint64_t, PAGE_IS_SOFT_DIRTY);
CL_CONST(uint64_t, PAGE_IS_GUARD);
CL_CONST(uint64_t, PAGE_IS_ACCESSED);

#endif
