# Sourced by the test scripts. Results are lines `ok NAME`, `FAIL NAME: why`, `skip NAME: reason`,
# and at the end `N passed, N failed, N skipped`: what scripts/test adds up.

top=$(dirname "$(dirname "$(realpath "${BASH_SOURCE[0]}")")")
BUILD=${BUILD:-$top/build}
scratch=$(mktemp -d "${TMPDIR:-/tmp}/guestram-test.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
passed=0 failed=0 skipped=0

ok() { echo "ok $1"; passed=$((passed + 1)); }
fail() { echo "FAIL $1: $2"; failed=$((failed + 1)); }
skip() { echo "skip $1: $2"; skipped=$((skipped + 1)); }

# What this machine could have and does not: a failure where CI=true.
lacking() {
    if [ "${CI:-}" = true ]; then fail "$1" "lacking, with CI=true: $2"; else skip "$1" "$2"; fi
}

# check NAME COMMAND...: ok if it succeeds; otherwise what it printed, and FAIL.
check() {
    local name=$1 status=0
    shift
    "$@" >"$scratch/check.log" 2>&1 || status=$?
    if [ $status = 0 ]; then
        ok "$name"
    else
        sed 's/^/  | /' "$scratch/check.log"
        fail "$name" "exit $status of: $*"
    fi
}

# The swift tool of the same toolchain, where it is not in PATH.
swift_tool() {
    command -v "$1" || { [ -x "/opt/swift/usr/bin/$1" ] && echo "/opt/swift/usr/bin/$1"; }
}

finish() {
    echo "$passed passed, $failed failed, $skipped skipped"
    [ $failed = 0 ]
}
