#!/usr/bin/env bash
# launcher-gmem.sh [BUILD]: the launcher on the kernel that takes userfaultfd on guest_memfd, where
# the same region goes the lazy way. What runs there is one file: a shell script, and behind it the
# static launcher that it unpacks.
set -uo pipefail
[ $# = 0 ] || BUILD=$1
. "$(dirname "$0")/../../scripts/lib.sh"
launcher=$BUILD/examples/guestram-launcher-static
if [ "${TEST_QUICK:-}" = 1 ]; then
    skip launcher_gmem "slow"
    finish
    exit
elif [ ! -x "$launcher" ]; then
    lacking launcher_gmem "no static launcher: configure with GUESTRAM_STATIC_TESTS=ON"
    finish
    exit
fi
cat >"$scratch/script" <<'SCRIPT'
#!/bin/sh
cd /tmp && tail -c +SCRIPT_LENGTH "$0" >launcher && chmod +x launcher
passed=0 failed=0
memfd="-object memory-backend-guest-memfd,id=ram -machine memory-backend=ram"
plain="-object memory-backend-guest-memfd,id=ram,slot=plain -machine memory-backend=ram"

# holds NAME PATTERN... -- OPTION...: the launcher succeeds, and its report has each PATTERN.
holds() {
    name=launcher_gmem_$1 patterns=
    shift
    while [ "$1" != -- ]; do patterns="$patterns $1" && shift; done
    shift
    why=
    ./launcher -accel kvm -report json "$@" >report 2>log || why="exit status $?"
    for pattern in $patterns; do
        grep -q "$pattern" report || why="$why; no $pattern"
    done
    if [ -z "$why" ]; then
        echo "ok $name"
        passed=$((passed + 1))
    else
        cat log report
        echo "FAIL $name: $why"
        failed=$((failed + 1))
    fi
}

holds save '"checksum_ok":true' -- $plain -m 12M -smp 2 -save snapshot
holds plain_slot_lazy '"checksum_ok":true' '"fill":"lazy"' '"pages_continued":[1-9]' \
    '"pages_copied":0' -- $plain -incoming file:snapshot -run checksum:each
holds plain_slot_touch '"checksum_ok":true' '"pages_loaded":[0-9]\{1,2\},' -- \
    $plain -incoming file:snapshot -touch 3
holds plain_slot_balloon '"checksum_ok":true' -- \
    $plain -incoming file:snapshot -run touch:3,balloon:1M,checksum
holds memfd_slot_eager '"checksum_ok":true' '"fill":"eager"' '"faults":0' -- \
    $memfd -incoming file:snapshot
echo "$passed passed, $failed failed, 0 skipped"
[ $failed = 0 ]
exit
SCRIPT
length=$(($(sed 's/SCRIPT_LENGTH/1000000/' "$scratch/script" | wc -c) + 1))
sed "s/SCRIPT_LENGTH/$(printf %07d $length)/" "$scratch/script" |
    cat - "$launcher" >"$scratch/launcher"
chmod +x "$scratch/launcher"
"$top/scripts/test-kernels" --kernel gmem "$scratch/launcher"
