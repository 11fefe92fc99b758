#!/usr/bin/env bash
# Programs outside the tree, built against an installed copy and nothing else.
set -uo pipefail
. "$(dirname "$0")/../../scripts/lib.sh"
source=$scratch/source prefix=$scratch/prefix
cp -r "$top/Tests/consumer" "$source"
check installs cmake --install "$BUILD" --prefix "$prefix"
export PKG_CONFIG_PATH
PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name guestram.pc)")
strict=(-Wall -Wextra -Wpedantic -Werror)

# builds COMPILER [-static] [FLAG...] FILE: builds with what pkg-config says, and runs it.
builds() {
    local flags=()
    [ "$2" != -static ] || flags=(--static)
    # shellcheck disable=SC2046
    "$1" "${@:2}" "${strict[@]}" -o "$scratch/program" \
        $(pkg-config "${flags[@]}" --cflags --libs guestram) && "$scratch/program"
}

finds_package() {
    cmake -G Ninja -S "$source" -B "$scratch/build" -DCMAKE_PREFIX_PATH="$prefix" &&
        cmake --build "$scratch/build" && "$scratch/build/consumer"
}

# A VMM may hold a whole Swift runtime of its own: nothing of ours may clash with it.
links_beside_swift() {
    # shellcheck disable=SC2046
    "$(swift_tool swiftc)" -static-stdlib -parse-as-library "$source/consumer.swift" \
        -o "$scratch/swift" $(pkg-config --libs guestram) && "$scratch/swift"
}

for cc in gcc clang; do
    compiler=$(swift_tool $cc)
    if [ -z "$compiler" ]; then
        lacking "consumer_$cc" "no $cc in PATH or beside swiftc"
        continue
    fi
    check "consumer_${cc}_dynamic" builds "$compiler" -std=c11 "$source/consumer.c"
    check "consumer_${cc}_static" builds "$compiler" -static -std=c11 "$source/consumer.c"
done
for cxx in g++ clang++; do
    compiler=$(swift_tool $cxx)
    if [ -z "$compiler" ]; then
        lacking "consumer_$cxx" "no $cxx in PATH or beside swiftc"
        continue
    fi
    check "consumer_${cxx}_c++17" builds "$compiler" -std=c++17 "$source/consumer.cpp"
done
check consumer_find_package finds_package
check consumer_beside_a_swift_runtime links_beside_swift
finish
