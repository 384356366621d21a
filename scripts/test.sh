#!/usr/bin/env bash
# For everybody who changes something: set-up, build, all tests. Arguments go to ctest, e.g. scripts/test.sh -R Parity
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

build all >&2
cd "$root"
ctest --preset release -j "$(nproc)" "$@"
