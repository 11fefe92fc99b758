/* Calls of fuzz_api.c on ranges, good and bad, and what the model says of them. */
#ifndef RANGES_H
#define RANGES_H

#include "fuzz.h"
#include "model.h"

/* What the program of calls works on. */
extern guestram_t *memory;
extern bool started, stopped;

typedef struct range {
    uint32_t region;
    uint64_t offset, length;
} range_t;

/* Mostly of the model's, at times any number. */
uint64_t take_offset(input_t *input);
uint64_t take_length(input_t *input);
uint32_t take_region(input_t *input);
range_t take_range(input_t *input);

void touch(input_t *input);
/* Which: 0 copy, 1 zeropage, 2 poison, 3 continue */
void fill(input_t *input, uint8_t which);
void move(input_t *input);
void discard(input_t *input);
/* Arms write-protection, or reads what it saw. */
void track(input_t *input, bool arm);

#endif
