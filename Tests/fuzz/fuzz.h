/*
 * What the fuzz targets share. A target is fuzz_NAME.c with LLVMFuzzerTestOneInput() and seeds in
 * corpus/NAME; scripts/fuzz builds it with the library, both instrumented, and runs it.
 */
#ifndef FUZZ_H
#define FUZZ_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guestram.h"

enum { PAGE = 4096 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The fuzzer records the input when the program aborts. */
#define HOLDS(condition) ((condition) ? (void)0 : fuzz_failed(__FILE__, __LINE__, #condition))
_Noreturn void fuzz_failed(const char *file, int line, const char *text);

/* A result: 0 or more, or a known errno with a message. Returns it. */
int answered(int result);

/* The input, taken byte by byte; zeros after its end. */
typedef struct input {
    const uint8_t *at, *end;
} input_t;
uint8_t take(input_t *input);
uint64_t take_number(input_t *input);

/* False: SIGBUS. */
bool read_page(void *to, const void *page);
bool write_word(void *page, uint64_t value);

/* A pool without the sandbox (the sanitizer's own calls are not on the list), made once. */
guestram_pool_t *fuzz_pool(void);
/* A directory of this process on tmpfs, removed at its end. */
const char *fuzz_directory(void);
void remove_directory(const char *path);
size_t open_fds(void);
uint64_t crc64(const void *bytes, size_t length);

#endif
