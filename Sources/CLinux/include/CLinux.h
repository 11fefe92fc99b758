// The one module through which Swift sees libc, the kernel UAPI, libseccomp and libcap.
//
// Three kinds of names:
//   CL_X    the kernel's constant X, where Swift cannot import the macro itself (a cast, an _IOWR)
//           or would give it the wrong width. Everything else (PROT_READ, EAGAIN, SYS_ioctl,
//           MAP_SHARED) is used under its own name.
//   cl_x()  a call that returns >= 0, or -errno. errno itself is never exposed.
//   cl_x    a struct of our own, where the kernel's or libc's does not import well.
//
// Everything is static inline except cl_error_buffer(), which CLinux.c defines.
#ifndef CLINUX_H
#define CLINUX_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

// Swift imports a static const as a typed value and folds it; the macro itself it drops.
#define CL_CONST(type, name) static const type CL_##name = (type)(name)

#include "uapi_userfaultfd.h"
#include "uapi_kvm.h"
#include "uapi_memory.h"
#include "wrappers.h"
#include "crc32c.h"
#include "thread.h"
#include "sandbox.h"

// The public header, so that Swift's @c @implementation is checked against its declarations.
// By path, not by search path: the same file is then found by SwiftPM and by a plain swiftc -I.
#include "../../../include/guestram.h"

// This thread's last error message, NUL-terminated by whoever writes it.
#define CL_ERROR_BUFFER_SIZE 512
char *cl_error_buffer(void);

#endif
