#!/usr/bin/env bash
# Every system call of the library's made to fail (Tests/inject/inject.c says how). A sample of a
# few seconds for each memory type; --all: the whole matrix, some minutes.
set -uo pipefail
. "$(dirname "$0")/../../scripts/lib.sh"
export INJECT_SECONDS=${INJECT_SECONDS:-15}
[ "${TEST_QUICK:-}" != 1 ] || INJECT_SECONDS=2
[ "${1:-}" != --all ] || { INJECT_SECONDS=0 && shift; }
program=$BUILD/Tests/inject

builds() {
    local shared
    mapfile -t shared < <(find "$top/Tests/C" -name '*.c' ! -name 'test_*')
    gcc -std=c11 -D_GNU_SOURCE -O1 -g -Wall -Wextra -Wpedantic -I"$top/include" -I"$top/Tests/C" \
        -o "$program" "$top"/Tests/inject/*.c "${shared[@]}" "$BUILD/libguestram.a" -lseccomp -lcap
}

if [ "$(uname -m)" != x86_64 ]; then
    skip inject "Tests/inject/trace.c knows the registers of x86-64 alone"
elif builds >"$scratch/log" 2>&1; then
    # On tmpfs: an fsync on a disk would be most of the time.
    TMPDIR=/dev/shm "$program" "$@"
    exit
else
    sed 's/^/  | /' "$scratch/log"
    fail inject "it does not build"
fi
finish
