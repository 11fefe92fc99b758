#!/usr/bin/env bash
# The C test harness itself: what it says of tests that fail in every way.
set -uo pipefail
. "$(dirname "$0")/../../scripts/lib.sh"
here=$top/Tests/scenarios
export TMPDIR=$scratch/tmp
mkdir "$TMPDIR"

builds() {
    gcc "$@" -std=c11 -Wall -Wextra -Wpedantic -Werror -I"$top/Tests/C" -o "$scratch/harness" \
        "$here/fixtures/harness.c" "$top"/Tests/C/harness*.c
}

# says PATTERN NAME [VARIABLE=VALUE]: the line about the test NAME begins like that.
says() {
    local line
    line=$(env -u CI -u TEST_QUICK "${@:3}" "$scratch/harness" "$2" | grep -E '^(ok|FAIL|skip) ')
    echo "$line"
    # shellcheck disable=SC2053
    [[ $line == $1* ]]
}

counts() {
    local out status=0
    out=$(env -u CI -u TEST_QUICK "$scratch/harness" check_fails skips lacks exits_early) || status=$?
    [ $status = 1 ] && [ "$(tail -n 1 <<<"$out")" = "0 passed, 2 failed, 2 skipped" ] &&
        "$scratch/harness" passes
}

lists() { [ "$("$scratch/harness" -l skip)" = skips ]; }

interrupted() {
    local pid status=0
    "$scratch/harness" hangs &
    pid=$!
    sleep 0.3
    kill -TERM $pid
    wait $pid || status=$?
    [ $status = 143 ]
}

left_nothing() { [ -z "$(ls -A "$TMPDIR")" ] && says "ok leaves_a_file" leaves_a_file &&
    [ -z "$(ls -A "$TMPDIR")" ]; }

restores_hugepages() {
    local pool=/proc/sys/vm/nr_hugepages before
    before=$(cat $pool)
    says "FAIL dies_with_hugepages: ended by SIGKILL" dies_with_hugepages &&
        [ "$(cat $pool)" = "$before" ]
}

check harness_builds_static builds -static
check harness_builds builds
expect() { check "harness_$2" says "$@"; }
expect "ok passes" passes
expect "FAIL check_fails: harness.c:*: 2 + 2 == 5" check_fails
expect "FAIL require_ends_the_test: harness.c:*: harness_fds() == 0" require_ends_the_test
expect "FAIL thread_fails: harness.c:*: argument == NULL" thread_fails
expect "FAIL forked_process_fails: harness.c:*: 1 == 2: 1, not 2" forked_process_fails
expect "FAIL crashes: ended by SIGSEGV" crashes
expect "FAIL exits_with_a_status: exited with status 3" exits_with_a_status
expect "FAIL exits_early: exited before its end" exits_early
expect "FAIL hangs: no end after 1 s" hangs
expect "FAIL leaves_a_process: left a process behind: harness" leaves_a_process
expect "FAIL returns_twice: a process that the test forked returned" returns_twice
expect "skip skips: no such kernel" skips
expect "skip lacks: a thing" lacks
check harness_lacks_in_ci says "FAIL lacks: lacking, with CI=true: a thing" lacks CI=true
expect "ok is_slow" is_slow
check harness_is_slow_left_out says "skip is_slow: slow" is_slow TEST_QUICK=1
check harness_counts counts
check harness_lists lists
check harness_ends_when_interrupted interrupted
check harness_leaves_no_files left_nothing
if [ -w /proc/sys/vm/nr_hugepages ]; then
    check harness_restores_hugepages restores_hugepages
else
    lacking harness_restores_hugepages "the right to write vm.nr_hugepages"
fi
finish
