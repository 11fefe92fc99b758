#!/usr/bin/env bash
# What the pages promise: the README's program compiles, links and restores; links lead somewhere.
set -uo pipefail
. "$(dirname "$0")/../../scripts/lib.sh"

compiles() {
    sed -n '/^```c$/,/^```$/p' "$top/README.md" | sed '1d;$d' >"$scratch/readme.c" &&
        gcc -std=c11 -Wall -Wextra -Wpedantic -Werror -I"$top/include" -o "$scratch/readme" \
            "$scratch/readme.c" "$BUILD/libguestram.a" -lseccomp -lcap
}

# In about 30 lines, of which the last says how little was loaded.
restores() {
    local out loaded total
    "$BUILD/examples/guestram-launcher" -accel threads -m 16M -save "$scratch/snapshot" || return
    out=$("$scratch/readme" "$scratch/snapshot") || return
    echo "$out"
    [[ $out =~ ([0-9]+)\ of\ ([0-9]+)\ pages\ loaded$ ]] || return
    loaded=${BASH_REMATCH[1]} total=${BASH_REMATCH[2]}
    [ "$loaded" -le 8 ] && [ "$total" = 4096 ]
}

fails_with_a_sentence() {
    local out
    ! out=$("$scratch/readme" "$scratch/nothing" 2>&1) && grep -q "nothing" <<<"$out"
}

links_lead_somewhere() {
    local page target bad=0
    for page in "$top"/*.md "$top"/docs/*.md; do
        while IFS= read -r target; do
            [ -e "$(dirname "$page")/$target" ] && continue
            echo "${page#"$top"/}: $target"
            bad=1
        done < <(grep -oE '\]\([^)#]+' "$page" | cut -c3- | grep -vE '^[a-z]+:')
    done
    return $bad
}

check readme_program_compiles compiles
check readme_program_restores restores
check readme_program_says_what_is_wrong fails_with_a_sentence
check readme_links_lead_somewhere links_lead_somewhere
finish
