#!/usr/bin/env bash
# launcher-backends.sh [BUILD]: every kind of memory-backend that QEMU has, and several of them.
set -uo pipefail
[ $# = 0 ] || BUILD=$1
. "$(dirname "$0")/../../scripts/lib.sh"
. "$(dirname "$0")/fixtures/launcher.sh"

# OPTION...: RAM of two types; the balloon is on both sides of where they meet.
two_backends() {
    local two turned
    two=$(numa memfd,id=one,size=20M ram,id=two,size=15004K)
    turned=$(numa ram,id=one,size=20M memfd,id=two,share=off)
    rm -rf "$scratch/two" "$scratch/second"
    # shellcheck disable=SC2086
    save "$scratch/two" "$@" $two -m 35484K -smp 2 && same "$scratch/two" "$@" $two &&
        [ "$(value type)" = shmem+anon ] && same "$scratch/two" "$@" $two -restore eager &&
        same "$scratch/two" "$@" $two -reader -run checksum:each &&
        same "$scratch/two" "$@" $two -run balloon:12M,checksum && says 'not zero: 0' &&
        same "$scratch/two" "$@" $turned -balloon madvise -run touch:20,balloon:12M,checksum &&
        says 'not zero: 0' && same "$scratch/two" "$@" -run touch:10 -save "$scratch/second" &&
        same "$scratch/second" "$@" && [ "$(value type)" = shmem+anon ] &&
        same "$scratch/second" "$@" $turned -restore eager
}

# A file by its name: what is shared is in it, what is not leaves it empty.
file_backend() {
    local file=$shm/ram on
    on="-object memory-backend-file,id=ram,mem-path=$file -machine memory-backend=ram"
    # shellcheck disable=SC2086
    same "$scratch/small" ${on/ram,/ram,share=on,} &&
        cmp -i $((2 << 20)) "$file" "$scratch/small/memory" &&
        refused 1 "$file.*holds data" -m 69652K $on && rm "$file" &&
        same "$scratch/small" $on && [ "$(stat -c %s:%b "$file")" = $((69652 * 1024)):0 ] &&
        same "$scratch/small" ${on/ram,/ram,readonly=on,} && [ "$(stat -c %b "$file")" = 0 ] &&
        same "$scratch/small" ${on//"$file"/"$shm"} -run checksum:each,balloon:9M,checksum &&
        rm "$file" && [ -z "$(ls -A "$shm")" ]
}

# guest_memfd SLOT
guest_memfd() {
    local backend
    backend=$(backend "guest-memfd,id=ram,slot=$1")
    rm -rf "$scratch/gmem"
    # shellcheck disable=SC2086
    save "$scratch/gmem" $backend -m 69652K -smp 2 && same "$scratch/gmem" $backend &&
        same "$scratch/gmem" $backend -run checksum:each,balloon:9M,checksum &&
        same "$scratch/small" $backend
}

# hugetlb SHARE: a snapshot of its own, and one that was saved from small pages.
hugetlb() {
    local backend
    backend=$(backend "memfd,id=ram,hugetlb=on,share=$1")
    rm -rf "$scratch/huge"
    # shellcheck disable=SC2086
    save "$scratch/huge" $backend -m 66M -smp 2 && same "$scratch/huge" $backend &&
        same "$scratch/huge" $backend -restore eager && same "$scratch/huge" $memfd &&
        same "$scratch/huge" $backend -run checksum:each,balloon:8M,checksum
}

# Needs a mount, which is gone with the launcher's process.
hugetlb_file() {
    local launcher=$scratch/on_hugetlbfs on
    on=$(backend "file,id=ram,mem-path=$scratch/hugetlbfs,share=$1")
    mkdir -p "$scratch/hugetlbfs"
    printf '#!/bin/sh\nmount -t hugetlbfs none %q && exec %q "$@"\n' \
        "$scratch/hugetlbfs" "$BUILD/examples/guestram-launcher" >"$launcher.sh"
    printf '#!/bin/sh\nexec unshare -m sh %q "$@"\n' "$launcher.sh" >"$launcher"
    chmod +x "$launcher"
    # shellcheck disable=SC2086
    same "$scratch/huge" $on -run checksum:each,balloon:8M,checksum &&
        [[ $(value type) = hugetlb* ]] && same "$scratch/huge" $on -restore eager
}

# Reserves huge pages for these cases, and gives them back. The lock is the one all tests take.
with_hugepages() {
    local pool=/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages before
    exec 9<$pool && flock -w 120 9 || return
    before=$(<$pool)
    if echo $((before + 72)) >$pool && [ "$(<$pool)" -ge $((before + 72)) ]; then
        check launcher_hugetlb hugetlb on
        check launcher_hugetlb_private hugetlb off
        if unshare -m true 2>/dev/null; then
            check launcher_hugetlb_file hugetlb_file on
            check launcher_hugetlb_file_private hugetlb_file off
        else
            lacking launcher_hugetlb_file "no right to mount hugetlbfs"
        fi
    else
        lacking launcher_hugetlb "72 huge pages cannot be reserved"
    fi
    echo "$before" >$pool
    exec 9<&-
}

# RAM on both sides of the hole below 4 GiB.
around_the_hole() {
    rm -rf "$scratch/hole"
    save "$scratch/hole" "$@" -m 3137M -smp 2 && same "$scratch/hole" "$@" -run touch:1:16 &&
        same "$scratch/hole" "$@" -background max
}

check launcher_backends_saves save "$scratch/small" -m 69652K -smp 2
for accel in $accels; do
    check "launcher_two_backends_$accel" two_backends -accel "$accel"
done
shm=$(mktemp -d /dev/shm/guestram-test.XXXXXX)
trap 'rm -rf "$scratch" "$shm"' EXIT
check launcher_file file_backend
if [ -w /proc/sys/vm/nr_hugepages ]; then
    with_hugepages
else
    lacking launcher_hugetlb "huge pages cannot be reserved without root"
fi
if [ "$accels" = threads ]; then
    lacking launcher_guest_memfd "no /dev/kvm"
elif "$launcher" -probe | grep -q '^guest_memfd *no:'; then
    skip launcher_guest_memfd "this kernel has none that can be mapped"
else
    check launcher_guest_memfd guest_memfd memfd
    check launcher_guest_memfd_plain_slot guest_memfd plain
fi
if [ "${TEST_QUICK:-}" = 1 ]; then
    skip launcher_around_the_hole "slow"
    skip launcher_two_backends_around_the_hole "slow"
else
    check launcher_around_the_hole around_the_hole
    # shellcheck disable=SC2046
    check launcher_two_backends_around_the_hole around_the_hole \
        $(numa memfd,id=one,size=2G ram,id=two,size=1089M)
fi
finish
