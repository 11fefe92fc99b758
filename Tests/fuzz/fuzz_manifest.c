/* The manifest parser, which is not public: fuzz_manifest.swift. */
#include "fuzz.h"

int fuzz_manifest(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) { return fuzz_manifest(data, size); }
