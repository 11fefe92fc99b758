#include "model.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

model_t models[MODELS];

uint64_t model_word(uint64_t base, uint64_t index) {
    return base ? (base * UINT64_C(0x9e3779b97f4a7c15) ^ index * UINT64_C(0xbf58476d1ce4e5b9)) | 1
                : 0;
}

model_t *model_find(uint32_t id) {
    for (unsigned i = 0; id && i < MODELS; i++)
        if (models[i].id == id)
            return &models[i];
    return NULL;
}

model_t *model_new(guestram_t *memory, uint32_t id) {
    guestram_region_info_t info = {.size = sizeof info};
    HOLDS(guestram_region_info(memory, id, &info) == 0);
    HOLDS(info.length == MODEL_BYTES && info.granule == PAGE);
    for (unsigned i = 0; i < MODELS; i++) {
        if (models[i].id)
            continue;
        models[i] = (model_t){.id = id, .address = info.host_address};
        memcpy(models[i].name, info.name, sizeof info.name);
        return &models[i];
    }
    return NULL;
}

void model_forget(void) {
    for (unsigned i = 0; i < MODELS; i++)
        for (unsigned page = 0; page < MODEL_PAGES; page++)
            models[i].pages[page] = (page_t){.holds = ANYTHING};
}

static uint64_t snapshot_base(unsigned page) { return page % 4 == 3 ? 0 : 1000 + page; }

static void snapshot_make(const char *directory) {
    guestram_options_t options = {.size = sizeof options, .pool = fuzz_pool()};
    guestram_region_options_t ram = {
        .size = sizeof ram, .name = "ram", .type = GUESTRAM_ANON, .length = MODEL_BYTES};
    guestram_t *memory;
    uint32_t region;
    HOLDS(guestram_create(&options, &memory) == 0);
    HOLDS(guestram_region_add(memory, &ram, &region) == 0);
    model_t *model = model_new(memory, region);
    for (unsigned page = 0; page < MODEL_PAGES; page++)
        for (uint64_t i = 0; snapshot_base(page) && i < PAGE / 8; i++)
            ((uint64_t *)(void *)(model->address + page * PAGE))[i] =
                model_word(snapshot_base(page), i);
    HOLDS(guestram_save(memory, directory, NULL) == 0);
    guestram_destroy(memory);
    model->id = 0;
}

guestram_snapshot_t *model_snapshot(void) {
    static guestram_snapshot_t *snapshot;
    if (snapshot)
        return snapshot;
    char directory[96];
    snprintf(directory, sizeof directory, "%s/ram", fuzz_directory());
    snapshot_make(directory);
    HOLDS(guestram_snapshot_open(directory, &snapshot) == 0);
    return snapshot;
}

void model_restored(guestram_t *memory, guestram_snapshot_t *snapshot, unsigned shape) {
    guestram_region_options_t ram = {.size = sizeof ram,
                                     .name = "ram",
                                     .length = MODEL_BYTES,
                                     .type = shape & 1 ? GUESTRAM_SHMEM : GUESTRAM_ANON};
    if (shape & 1 && shape & 2)
        ram.flags |= GUESTRAM_REGION_PRIVATE;
    if (shape & 4)
        ram.flags |= GUESTRAM_REGION_USERFAULT;
    guestram_restore_options_t how = {.size = sizeof how, .mode = (shape & 24) == 24};
    uint32_t region;
    memset(models, 0, sizeof models);
    HOLDS(guestram_region_add(memory, &ram, &region) == 0);
    model_t *model = model_new(memory, region);
    if ((shape & 24) == 16)
        return; /* empty */
    HOLDS(guestram_restore(memory, snapshot, &how) == 0);
    for (unsigned page = 0; page < MODEL_PAGES; page++)
        model->pages[page] = (page_t){.base = snapshot_base(page)};
}

static bool agrees(const page_t *page, const uint64_t *words) {
    if (page->holds == ANYTHING)
        return true;
    if (page->holds == POISONED)
        return false;
    bool same = words[0] == (page->written ? page->written : model_word(page->base, 0));
    for (uint64_t i = 1; same && i < PAGE / 8; i++)
        same = words[i] == model_word(page->base, i);
    return same;
}

void model_touch(model_t *model, unsigned number, uint64_t value, bool stopped) {
    static uint64_t words[PAGE / 8];
    page_t *page = &model->pages[number];
    uint8_t *at = model->address + number * PAGE;
    if (!read_page(words, at)) {
        HOLDS(page->holds != CONTENTS || (stopped && !page->touched));
        return;
    }
    HOLDS(agrees(page, words));
    page->touched = true;
    if (page->holds == ZERO_OR_POISONED)
        page->holds = CONTENTS;
    if (!value)
        return;
    HOLDS(write_word(at, value));
    page->written = value;
    if (page->armed)
        page->dirty = true;
    page->armed = false;
}

void model_check(bool stopped) {
    for (unsigned i = 0; i < MODELS; i++)
        for (unsigned page = 0; models[i].id && page < MODEL_PAGES; page++)
            model_touch(&models[i], page, 0, stopped);
}

static void check_saved(guestram_snapshot_t *snapshot, const char *directory) {
    static uint64_t words[PAGE / 8];
    guestram_snapshot_region_t saved = {.size = sizeof saved};
    char path[128];
    snprintf(path, sizeof path, "%s/memory", directory);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    HOLDS(file >= 0);
    uint32_t count = 0;
    for (; guestram_snapshot_region(snapshot, count, &saved) == 0; count++) {
        HOLDS(saved.length == MODEL_BYTES);
        model_t *model = &models[0];
        while (model < models + MODELS - 1 && (!model->id || strcmp(model->name, saved.name) != 0))
            model++;
        for (unsigned page = 0; page < MODEL_PAGES; page++) {
            HOLDS(pread(file, words, PAGE, (off_t)(saved.file_offset + page * PAGE)) == PAGE);
            HOLDS(agrees(&model->pages[page], words));
        }
    }
    for (unsigned i = 0; i < MODELS; i++)
        count -= models[i].id != 0;
    HOLDS(count == 0);
    close(file);
}

void model_save(guestram_t *memory, uint8_t shape) {
    char directory[96];
    guestram_save_options_t options = {
        .size = sizeof options, .state = "state", .state_length = shape & 1 ? 5 : 0};
    snprintf(directory, sizeof directory, "%s/saved", fuzz_directory());
    int error = answered(guestram_save(memory, directory, &options));
    HOLDS((access(directory, F_OK) == 0) == (error == 0));
    if (error < 0)
        return;
    guestram_snapshot_t *snapshot;
    HOLDS(guestram_snapshot_open(directory, &snapshot) == 0);
    check_saved(snapshot, directory);
    guestram_snapshot_close(snapshot);
    remove_directory(directory);
}
