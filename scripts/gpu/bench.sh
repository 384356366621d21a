#!/usr/bin/env bash
# For a machine with a GPU and nothing else installed: how long a training step, sampling, encoding and decoding take at the
# published sizes, and which share of the machine's own matrix rate that is.
#   scripts/gpu/bench.sh PREFIX      PREFIX: folder, or its .tar.xz, with the dependencies but LibTorch (/usr)
# Needs what check.sh needs and uses its build.
#   NEXTSCALE_REFERENCE=VAR        a checkout of the Python reference: its modules are timed beside ours
#   NEXTSCALE_GPU_PRESET=d16       or d20, d24, d30
#   NEXTSCALE_GPU_BATCH=32         pictures at a time
#   NEXTSCALE_GPU_DEVICE, NEXTSCALE_GPU_WORK, NEXTSCALE_PYTHON as for check.sh
# The table goes to stdout.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[ $# -eq 1 ] || fail "usage: scripts/gpu/bench.sh PREFIX"

mkdir -p "$work"
prefix=$(prefix_folder "$1")
preset=${NEXTSCALE_GPU_PRESET:-d16}
batch=${NEXTSCALE_GPU_BATCH:-32}
inputs=$work/bench_inputs
table=$work/bench.md

make_inputs() {
  rm -rf "$inputs" && "$work/bench_published_inputs" "$inputs" "$batch" "$preset"
}
measure() {  # measure BATCH JOBS
  local words=(--build "$work" --folder "$inputs" --device "$device" --preset "$preset" --batch "$1" --threads "$(nproc)" --jobs "$2")
  [ -n "${NEXTSCALE_REFERENCE:-}" ] && words+=(--reference "$NEXTSCALE_REFERENCE")
  "$python" "$root/scripts/gpu/bench.py" "${words[@]}" >>"$table"
}

describe_machine >"$work/machine.txt"
step "build" build "$prefix" bench_whole_jobs bench_published_inputs || summary
step "weights and inputs of $preset" make_inputs || summary
rm -f "$table"
step "matrix rate, whole jobs" measure "$batch" "${NEXTSCALE_GPU_JOBS:-train,sample,sample-graphs,encode,decode}" || true
step "one picture" measure 1 sample,sample-graphs || true
cat "$work/machine.txt" "$table"
summary
