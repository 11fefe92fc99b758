#!/usr/bin/env bash
# The short form of scripts/soak.
exec "$(dirname "$0")/../../scripts/soak" --seconds "$([ "${TEST_QUICK:-}" = 1 ] && echo 5 || echo 10)"
