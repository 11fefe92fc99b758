#!/usr/bin/env bash
# What the archive defines and asks for, against the header.
set -uo pipefail
. "$(dirname "$0")/../../scripts/lib.sh"
archive=$BUILD/libguestram.a

# Names of functions that the header declares.
declared() {
    gcc -E -P -x c "$top/include/guestram.h" | grep -oE '\bguestram_[a-z0-9_]+ *\(' |
        tr -d ' (' | sort -u
}

# same A B: the two files hold the same lines, and some.
same() { [ -s "$1" ] && diff "$1" "$2"; }

only_ours_are_global() {
    nm -g --defined-only "$archive" | awk 'NF == 3 && $3 !~ /^guestram_/ { print; bad = 1 }
        NF == 3 { seen = 1 } END { exit bad || !seen }'
}

no_swift_runtime_is_asked_for() {
    local asked
    asked=$(nm -u "$archive" | awk 'NF == 2 { print $2 }')
    [ -n "$asked" ] && ! grep -E '^(_?swift_|\$)' <<<"$asked"
}

# Position-independent, no writable text, no executable stack, nothing but the three libraries.
links_into_a_shared_library() {
    local needed
    gcc -shared -o "$scratch/lib.so" -Wl,--whole-archive "$archive" -Wl,--no-whole-archive \
        -lseccomp -lcap -Wl,-z,defs,-z,text,--fatal-warnings,--as-needed &&
        needed=$(readelf -d "$scratch/lib.so" | sed -n 's/.*NEEDED.*\[\(.*\)\.so.*/\1/p') &&
        ! grep -vxE 'libc|libcap|libseccomp|ld-linux-x86-64' <<<"$needed"
}

declared >"$scratch/declared"
nm -g --defined-only "$archive" | awk '$2 == "T" { print $3 }' | sort >"$scratch/defined"

check archive_has_only_our_global_symbols only_ours_are_global
check archive_defines_what_the_header_declares same "$scratch/declared" "$scratch/defined"
check archive_asks_for_no_swift_runtime no_swift_runtime_is_asked_for
check archive_links_into_a_shared_library links_into_a_shared_library
finish
