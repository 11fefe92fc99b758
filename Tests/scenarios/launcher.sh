#!/usr/bin/env bash
# launcher.sh [BUILD]: a guest saved and restored by the launcher, end to end.
set -uo pipefail
[ $# = 0 ] || BUILD=$1
. "$(dirname "$0")/../../scripts/lib.sh"
. "$(dirname "$0")/fixtures/launcher.sh"
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
    # The first signal ends the sleep.
    "$launcher" -incoming "file:$scratch/small" "$@" -smp 2 -run sleep:3000,checksum:each \
        >"$log" 2>&1 &
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

snapshot_of_another_kind() {
    rm -rf "$scratch/threads"
    save "$scratch/threads" -accel threads -m 16M &&
        refused 1 'are of -accel threads' -accel kvm -incoming "file:$scratch/threads"
}

[ "$accels" != threads ] || lacking launcher_kvm "no /dev/kvm that can be opened"
for accel in $accels; do
    on=(-accel "$accel")
    # Not a multiple of 2 MiB, nor of 64 KiB, nor of 16 KiB.
    rm -rf "$scratch/small"
    # shellcheck disable=SC2086
    check "launcher_saves_$accel" save "$scratch/small" "${on[@]}" $memfd -m 69652K -smp 2 || break
    for type in memfd private ram; do
        if [ "${TEST_QUICK:-}" = 1 ] && [ $type != memfd ] && [ "$accel" != "${accels%% *}" ]; then
            skip "launcher_matrix_${type}_$accel" "slow (TEST_QUICK=1)"
            continue
        fi
        # shellcheck disable=SC2086
        matrix "${type}_$accel" "${on[@]}" ${!type}
    done
    check "launcher_signals_to_blocked_vcpus_$accel" signals_during_checksum "${on[@]}"
    check "launcher_changed_memory_$accel" changed_memory "${on[@]}"
    check "launcher_saves_while_absent_$accel" saved_while_absent "${on[@]}"
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
[ "$accels" = threads ] || check launcher_snapshot_of_another_accel snapshot_of_another_kind
finish
