#!/usr/bin/env bash
# For everybody who changes something: set-up, build, all tests. Arguments go to ctest, e.g. scripts/test.sh -R Parity
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

build all >&2
# Without them the script says so in a line each, and the tests that need them are skipped.
export NEXTSCALE_WEIGHTS; NEXTSCALE_WEIGHTS=$(realpath -m "${NEXTSCALE_WEIGHTS:-$root/build/weights}")
"$root/scripts/registry-weights.sh" "$NEXTSCALE_WEIGHTS" efficientnet-lite0-57934424.pth lpips-vgg.pth lpips-squeeze.pth squeezenet_weights.pkl || true
cd "$root"
ctest --preset release -j "$(nproc)" "$@"
