#!/usr/bin/env bash
# A minute of fuzzing: the seeds, among them every input that once failed, and what comes of them.
set -uo pipefail
if [ "${TEST_QUICK:-}" = 1 ]; then
    echo "skip fuzz: slow"
    echo "0 passed, 0 failed, 1 skipped"
    exit
fi
exec "$(dirname "$0")/../../scripts/fuzz" --seconds 60
