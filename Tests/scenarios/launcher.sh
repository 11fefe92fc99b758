#!/usr/bin/env bash
# launcher.sh [BUILD]: a guest saved and restored by the launcher, end to end.
set -uo pipefail
[ $# = 0 ] || BUILD=$1
. "$(dirname "$0")/../../scripts/lib.sh"
launcher=$BUILD/examples/guestram-launcher restore=$BUILD/examples/restore
report=$scratch/report.json log=$scratch/launch.log

# launch OPTION...: its report into $report, all else into $log.
launch() { "$launcher" -report json "$@" >"$report" 2>"$log"; }
# value NAME: from the report.
value() { sed -n "s/.*\"$1\":\"\{0,1\}\([^,\"}]*\).*/\1/p" "$report"; }
backend() { echo "-object memory-backend-$1 -machine memory-backend=ram"; }
memfd=$(backend memfd,id=ram) private=$(backend memfd,id=ram,share=off) ram=$(backend ram,id=ram)

# below NAME LIMIT: the report's number is below the limit.
below() {
    local number
    number=$(value "$1")
    [ "$number" -lt "$2" ] || { echo "$1 is $number, not below $2"; return 1; }
}
says() { grep -q -- "$1" "$log" || { cat "$log"; echo "does not say: $1"; return 1; }; }

# refused STATUS MESSAGE OPTION...: this exit status, and a message that says so.
refused() {
    local wanted=$1 message=$2 status=0
    shift 2
    launch "$@" || status=$?
    [ $status = "$wanted" ] || { cat "$log"; echo "exit status $status, not $wanted"; return 1; }
    says "$message"
}

# same SNAPSHOT OPTION...: the guest goes on and finds its memory right.
same() {
    local snapshot=$1
    shift
    launch -incoming "file:$snapshot" "$@" && [ "$(value checksum_ok)" = true ] ||
        { cat "$log"; return 1; }
}

# save DIR OPTION...
save() { launch -save "$@" || { cat "$log"; return 1; }; }

# 1 GiB: how little is read.
touches_two_percent() {
    same "$scratch/big" "$@" && below bytes_read $((1024 * 1024 * 1024 / 20)) &&
        below pages_loaded_at_first_output $((262144 / 100))
}

# A page is poisoned: the file ends before what the manifest says, once it was opened. The guest is
# asleep between its first output and its checksum.
truncated_beneath() {
    local status=0
    cp -r "$scratch/small" "$scratch/cut"
    local file=$scratch/cut/memory
    : >"$log"
    "$launcher" -incoming "file:$scratch/cut" -run sleep:700,checksum "$@" >"$log" 2>&1 &
    local pid=$!
    while ! grep -q tick "$log"; do
        kill -0 $pid || break
        sleep 0.05
    done
    truncate -s 34M "$file"
    wait $pid || status=$?
    rm -rf "$scratch/cut"
    [ $status = 3 ] || { cat "$log"; echo "exit status $status, not 3"; return 1; }
    says "touched guest-physical 0x" && says "cannot be read from the snapshot"
}

# One byte of the saved memory is another: the guest itself must notice.
changed_memory() {
    rm -rf "$scratch/changed"
    cp -r "$scratch/small" "$scratch/changed" &&
        printf '\125' | dd of="$scratch/changed/memory" bs=1 seek=33554439 conv=notrunc status=none &&
        refused 4 'is right' -incoming "file:$scratch/changed" "$@"
}

signals_during_checksum() {
    local status=0 sent=0
    : >"$log"
    "$launcher" -incoming "file:$scratch/small" "$@" -smp 2 -run checksum:each >"$log" 2>&1 &
    local pid=$!
    while ! grep -q tick "$log" && kill -0 $pid; do sleep 0.01; done
    while kill -USR1 $pid 2>/dev/null; do
        sent=$((sent + 1))
        sleep 0.001
    done
    wait $pid || status=$?
    [ $status = 0 ] && [ $sent -gt 5 ] && says ", right" ||
        { cat "$log"; echo "exit status $status after $sent signals"; return 1; }
}

saved_while_absent() {
    rm -rf "$scratch/second"
    same "$scratch/small" "$@" -run touch:10 -save "$scratch/second" &&
        same "$scratch/second" "$@"
}

discards_do_not_come_back() {
    same "$scratch/small" "$@" -run touch:20,balloon:9M,checksum,balloon:4K,checksum &&
        says 'not zero: 0'
}

resident_in_background() {
    same "$scratch/small" "$@" -background max -run resident,checksum && says 'all memory is resident'
}

# The same run as Prometheus text and as JSON.
prometheus() {
    local metrics=$scratch/metrics name sample
    same "$scratch/small" -run touch:30,balloon:9M,checksum -report "prometheus:$metrics" &&
        awk -f "$top/Tests/scenarios/fixtures/prometheus.awk" "$metrics" || return
    while read -r name sample; do
        [ "$(value "$name")" = "$(sed -n "s/^$sample //p" "$metrics")" ] ||
            { echo "$name: $(value "$name"), but $(grep "^$sample" "$metrics")"; return 1; }
    done <<END
pages_total guestram_pages
pages_loaded guestram_pages_loaded_total
pages_copied guestram_pages_filled_total{operation="copy"}
pages_zeroed guestram_pages_filled_total{operation="zeropage"}
pages_continued guestram_pages_filled_total{operation="continue"}
pages_poisoned guestram_pages_filled_total{operation="poison"}
pages_discarded guestram_pages_discarded_total
bytes_read guestram_source_read_bytes_total
missing guestram_faults_total{mode="missing"}
minor guestram_faults_total{mode="minor"}
wp guestram_faults_total{mode="wp"}
missing guestram_fault_seconds_count{mode="missing"}
minor guestram_fault_seconds_count{mode="minor"}
events_remove guestram_uffd_events_total{event="remove"}
END
}

# Of several memories, each with its name.
prometheus_of_two() {
    local here=$top/Tests/scenarios/fixtures
    gcc -std=c11 -Wall -Wextra -Wpedantic -Werror -I"$top/include" -o "$scratch/two" \
        "$here/prometheus.c" "$top/examples/prometheus.c" "$BUILD/libguestram.a" -lseccomp -lcap &&
        "$scratch/two" >"$scratch/metrics" && awk -f "$here/prometheus.awk" "$scratch/metrics" &&
        grep -qxF 'guestram_pages{memory="a"} 0' "$scratch/metrics" &&
        grep -qxF 'guestram_pages{memory="b\\c\"d\ne"} 0' "$scratch/metrics"
}

smallest_use() {
    "$restore" "$scratch/small" --all >"$log" && says 'pages loaded' &&
        ! "$restore" /nonexistent >"$log" 2>&1 && says /nonexistent
}

snapshot_of_another_kind() {
    rm -rf "$scratch/threads"
    save "$scratch/threads" -accel threads -m 16M &&
        refused 1 'are of -accel threads' -accel kvm -incoming "file:$scratch/threads"
}

# RAM on both sides of the hole below 4 GiB.
around_the_hole() {
    save "$scratch/hole" "$@" -m 3137M -smp 2 && same "$scratch/hole" "$@" -run touch:1:16 &&
        same "$scratch/hole" "$@" -background max
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

# numa BACKEND...: the RAM is these, one behind the other.
numa() {
    local one id
    for one in "$@"; do
        id=${one#*id=}
        echo "-object memory-backend-$one -numa node,memdev=${id%%,*}"
    done
}

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

# matrix NAME OPTION...: every restore of the small snapshot into a type.
matrix() {
    local name=$1
    shift
    check "launcher_eager_$name" same "$scratch/small" "$@" -restore eager
    check "launcher_lazy_$name" same "$scratch/small" "$@"
    check "launcher_lazy_two_orders_$name" same "$scratch/small" "$@" -run checksum:each
    check "launcher_lazy_beside_a_reader_$name" same "$scratch/small" "$@" -reader
    check "launcher_writes_after_lazy_$name" same "$scratch/small" "$@" \
        -run touch:5,fill:9,checksum:each
    check "launcher_balloon_$name" discards_do_not_come_back "$@"
    check "launcher_balloon_by_madvise_$name" discards_do_not_come_back "$@" -balloon madvise
    check "launcher_background_$name" resident_in_background "$@"
    check "launcher_poisoned_page_$name" truncated_beneath "$@"
}

accels=threads
if [ -r /dev/kvm ] && [ -w /dev/kvm ]; then
    accels="kvm threads"
else
    lacking launcher_kvm "no /dev/kvm that can be opened"
fi

for accel in $accels; do
    on=(-accel "$accel")
    # Not a multiple of 2 MiB, nor of 64 KiB, nor of 16 KiB.
    rm -rf "$scratch/small"
    # shellcheck disable=SC2086
    check "launcher_saves_$accel" save "$scratch/small" "${on[@]}" $memfd -m 69652K -smp 2 || break
    for type in memfd private ram; do
        # shellcheck disable=SC2086
        matrix "${type}_$accel" "${on[@]}" ${!type}
    done
    check "launcher_signals_to_blocked_vcpus_$accel" signals_during_checksum "${on[@]}"
    check "launcher_changed_memory_$accel" changed_memory "${on[@]}"
    check "launcher_saves_while_absent_$accel" saved_while_absent "${on[@]}"
    check "launcher_two_backends_$accel" two_backends "${on[@]}"
    [ "$accel" = "${accels%% *}" ] || continue
    for size in 4M 5000K 33M; do
        rm -rf "$scratch/odd"
        check "launcher_saves_${size}_$accel" save "$scratch/odd" "${on[@]}" -m $size
        check "launcher_lazy_${size}_$accel" same "$scratch/odd" "${on[@]}"
    done

    rm -rf "$scratch/big"
    # shellcheck disable=SC2086
    check "launcher_saves_1G_$accel" save "$scratch/big" "${on[@]}" $memfd -m 1G
    for type in memfd ram; do
        # shellcheck disable=SC2086
        check "launcher_touches_two_percent_${type}_$accel" touches_two_percent "${on[@]}" \
            ${!type} -touch 2
    done
    rm -rf "$scratch/big"
done

if command -v python3 >/dev/null; then
    check launcher_report_is_json python3 -m json.tool "$report"
else
    lacking launcher_report_is_json "no python3 to parse it with"
fi
if [ -w /proc/sys/vm/nr_hugepages ]; then
    with_hugepages
else
    lacking launcher_hugetlb "huge pages cannot be reserved without root"
fi
rm -rf "$scratch/small"
check launcher_saves_for_the_rest save "$scratch/small" -m 69652K -smp 2
shm=$(mktemp -d /dev/shm/guestram-test.XXXXXX)
trap 'rm -rf "$scratch" "$shm"' EXIT
check launcher_file file_backend
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
check launcher_report_is_prometheus prometheus
check launcher_prometheus_of_two_memories prometheus_of_two
check launcher_smallest_use smallest_use
[ "$accels" = threads ] || check launcher_snapshot_of_another_accel snapshot_of_another_kind
check launcher_help "$launcher" -help
check launcher_probe "$launcher" -probe
check launcher_sandbox_list "$launcher" -sandbox-list
check launcher_unknown_option refused 2 'frob: not an option' -frob on
check launcher_missing_argument refused 2 'argument is missing' -smp
check launcher_unknown_backend refused 2 'memory-backend-disk' -object memory-backend-disk,id=ram
check launcher_unknown_property refused 2 'unknown property color' \
    -object memory-backend-ram,id=ram,color=red
check launcher_unused_backend refused 2 'not used' -object memory-backend-ram,id=ram,size=64M
check launcher_sizes_disagree refused 2 'says' -m 1G \
    -object memory-backend-ram,id=ram,size=64M -machine memory-backend=ram
check launcher_prealloc refused 2 'prealloc=on' -object memory-backend-ram,id=ram,prealloc=on
check launcher_unknown_report refused 2 'text, json or prometheus' -report yaml
check launcher_report_not_written refused 1 /nonexistent/m -m 4M -report prometheus:/nonexistent/m
check launcher_bad_size refused 2 'a size such as' -m lots
if [ "$(stat -f -c %T "$scratch")" = tmpfs ]; then
    skip launcher_file_elsewhere "$scratch is on tmpfs"
else
    # shellcheck disable=SC2046
    check launcher_file_elsewhere refused 1 "$scratch/ram: neither on tmpfs nor on hugetlbfs" \
        $(backend "file,id=ram,mem-path=$scratch/ram")
    check launcher_file_elsewhere_leaves_none test ! -e "$scratch/ram"
fi
check launcher_file_without_path refused 2 'mem-path= is missing' -object memory-backend-file,id=ram
# shellcheck disable=SC2046
check launcher_size_missing refused 2 'id=b: size= is missing' \
    $(numa ram,id=a,size=64M ram,id=b)
check launcher_backend_twice refused 2 'or no other one' -object memory-backend-ram,id=a,size=64M \
    -numa node,memdev=a -numa node,memdev=a
check launcher_other_backends refused 2 'holds memory-backend=ram, the options say disk' \
    -incoming "file:$scratch/small" $(numa ram,id=disk)
check launcher_more_backends refused 2 'does not hold memory-backend=more' \
    -incoming "file:$scratch/small" $(numa ram,id=ram ram,id=more)
check launcher_odd_size refused 2 'pages of 4 KiB' -m 8193B
check launcher_no_snapshot refused 1 /nonexistent -incoming file:/nonexistent
check launcher_other_smp refused 2 'vCPUs, -smp says' -incoming "file:$scratch/small" \
    -smp 3
check launcher_other_size refused 2 'bytes of RAM' -incoming "file:$scratch/small" \
    -m 64M
check launcher_save_onto_existing refused 1 "$scratch/small" -m 4M -save "$scratch/small"
finish
