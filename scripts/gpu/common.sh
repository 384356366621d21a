#!/usr/bin/env bash
# Sourced by check.sh and bench.sh: finds what a bare GPU machine has, builds, tells the time of each step.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
device=${NEXTSCALE_GPU_DEVICE:-cuda}
work=${NEXTSCALE_GPU_WORK:-$root/build-gpu}
python=${NEXTSCALE_PYTHON:-python3}

say() { printf '%s\n' "$*" >&2; }
fail() { say "$(basename "$0"): $*"; exit 1; }

results=()
failed=0
step() {  # step NAME COMMAND… : runs it, prints its time, goes on after a failure
  local name=$1 begin=$SECONDS status=passed
  shift
  say ""
  say "== $name"
  if ! "$@" >&2; then
    status=FAILED
    failed=1
  fi
  results+=("$(printf '%-8s%5d s  %s' "$status" $((SECONDS - begin)) "$name")")
  say "${results[-1]}"
  [ "$status" = passed ]
}
summary() {
  printf '\n'
  printf '%s\n' "${results[@]}"
  printf '%s after %d s\n' "$([ "$failed" = 0 ] && echo "everything passed" || echo "something FAILED")" "$SECONDS"
  exit "$failed"
}

prefix_folder() {  # prefix_folder FOLDER|ARCHIVE : where cmake shall look; unpacks an archive once
  case $1 in
    *.tar.xz)
      local archive=$1 to=$work/prefix
      [ -f "$archive" ] || fail "$archive is not there"
      if [ ! -f "$to/done" ] || [ "$archive" -nt "$to/done" ]; then
        rm -rf "$to" && mkdir -p "$to"
        # Python reads xz also where there is no xz program.
        "$python" -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])' "$archive" "$to"
        touch "$to/done"
      fi
      dirname "$(find "$to" -maxdepth 2 -name include)" ;;
    *)
      [ -d "$1/include" ] || fail "$1 is neither a prefix (it has no include/) nor a .tar.xz of one"
      (cd "$1" && pwd) ;;
  esac
}

find_libtorch() {
  if [ -n "${LIBTORCH_ROOT:-}" ]; then
    echo "$LIBTORCH_ROOT"
    return
  fi
  "$python" -c 'import torch; print(torch.__path__[0])' 2>/dev/null || fail "$python has no torch; set NEXTSCALE_PYTHON or LIBTORCH_ROOT"
}

jobs_that_fit() {  # a compilation takes up to 1.5 GB
  local cores memory
  cores=$(nproc)
  memory=$(awk '/MemAvailable/ {print int($2 / 1500000)}' /proc/meminfo)
  [ "$memory" -ge 1 ] || memory=1
  echo $((cores < memory ? cores : memory))
}

build() {  # build PREFIX TARGET…
  local prefix=$1 libtorch
  shift
  libtorch=$(find_libtorch)
  cmake -S "$root" -B "$work" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH="$prefix" -DLIBTORCH_ROOT="$libtorch" \
    -DNEXTSCALE_BENCH=ON -DCMAKE_UNITY_BUILD=ON "-DPython3_EXECUTABLE=$(command -v "$python")" || return 1
  cmake --build "$work" -j "${NEXTSCALE_JOBS:-$(jobs_that_fit)}" --target "$@"
}

describe_machine() {
  uname -srm
  sed -n 's|^model name.*: ||p; T; q' /proc/cpuinfo
  if command -v nvidia-smi >/dev/null; then nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader; fi
  "$python" -c 'import torch; print("torch", torch.__version__)' || true
}
