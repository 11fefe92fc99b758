#!/usr/bin/env bash
# The library under sanitizers: no data race in races, restores and reads under way, no bad access or
# undefined behaviour in the C tests that take little time. scripts/sanitize runs more.
set -uo pipefail
. "$(dirname "$0")/../../scripts/lib.sh"

if [ "${TEST_QUICK:-}" = 1 ]; then
    skip sanitize "slow (TEST_QUICK=1)"
    finish
    exit
fi

# sanitized KIND PROGRAM...: its lines, with the kind in front of each name.
sanitized() {
    local line counts=''
    while IFS= read -r line; do
        case $line in
        "ok "*) ok "$1/${line#ok }" ;;
        "FAIL "*) fail "$1/$(sed 's/^FAIL \([^:]*\):.*/\1/' <<<"$line")" "${line#*: }" ;;
        "skip "*) skip "$1/$(sed 's/^skip \([^:]*\):.*/\1/' <<<"$line")" "${line#*: }" ;;
        *" passed, "*" failed, "*) counts=$line ;;
        *) echo "  $line" ;;
        esac
    done < <("$top/scripts/sanitize" "$@")
    [ -n "$counts" ] || fail "$1" "ended without its counts"
}

GUESTRAM_RACE_SECONDS=2 sanitized thread test_race test_restore test_cold test_types_threads
GUESTRAM_RACE_SECONDS=1 sanitized address test_api_bad_input test_range_bad_input \
    test_region_bad_input test_region_flags test_regions test_snapshot_forged test_table \
    test_types_fill test_types_events test_types_hugetlb test_types_mappings test_race
finish
