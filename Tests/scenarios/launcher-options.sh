#!/usr/bin/env bash
# launcher-options.sh [BUILD]: what the launcher prints, reports and refuses.
set -uo pipefail
[ $# = 0 ] || BUILD=$1
. "$(dirname "$0")/../../scripts/lib.sh"
. "$(dirname "$0")/fixtures/launcher.sh"

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

restore=$BUILD/examples/restore
smallest_use() {
    "$restore" "$scratch/small" --all >"$log" && says 'pages loaded' &&
        ! "$restore" /nonexistent >"$log" 2>&1 && says /nonexistent
}

check launcher_options_saves save "$scratch/small" -m 69652K -smp 2
if command -v python3 >/dev/null; then
    check launcher_report_is_json python3 -m json.tool "$report"
else
    lacking launcher_report_is_json "no python3 to parse it with"
fi
check launcher_report_is_prometheus prometheus
check launcher_prometheus_of_two_memories prometheus_of_two
check launcher_smallest_use smallest_use
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
