/* What the pages of a memory's regions must hold, beside the memory that fuzz_api.c works on. */
#ifndef MODEL_H
#define MODEL_H

#include "fuzz.h"

enum { MODELS = 3, MODEL_PAGES = 70, MODEL_BYTES = MODEL_PAGES * PAGE };

typedef struct page {
    enum { CONTENTS, POISONED, ZERO_OR_POISONED, ANYTHING } holds;
    uint64_t base;    /* of the words; 0: all zero */
    uint64_t written; /* the first word, if not 0 */
    bool touched;     /* by the guest: it was there, and stays when serving ends */
    bool armed, dirty;
} page_t;

typedef struct model {
    uint32_t id; /* of the region; 0: none */
    uint8_t *address;
    char name[64];
    page_t pages[MODEL_PAGES];
} model_t;

extern model_t models[MODELS];

uint64_t model_word(uint64_t base, uint64_t index);
model_t *model_find(uint32_t id);
/* NULL: there are MODELS already. */
model_t *model_new(guestram_t *memory, uint32_t id);
/* Nothing is known of any contents. */
void model_forget(void);

/* A saved "ram", made once; every fourth page is a hole. */
guestram_snapshot_t *model_snapshot(void);
/* The only region: "ram", of the shape's type, with the snapshot's contents or empty. */
void model_restored(guestram_t *memory, guestram_snapshot_t *snapshot, unsigned shape);

/* Reads a page, and writes its first word unless that is 0. */
void model_touch(model_t *model, unsigned page, uint64_t value, bool stopped);
void model_check(bool stopped);
/* Saves; what is in the file is what the model says. */
void model_save(guestram_t *memory, uint8_t shape);

#endif
