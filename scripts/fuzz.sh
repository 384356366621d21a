#!/usr/bin/env bash
# For who changes a file reader: builds the fuzzers (clang, libFuzzer, address and undefined-behaviour sanitizers, no LibTorch)
# and runs each for SECONDS, starting from tests/corpus. Needs clang and libclang-rt-dev. A crash is kept as build/fuzz/crash-*.
#   scripts/fuzz.sh [SECONDS=60] [READER...]          readers: safetensors idx tar
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
[ $# -gt 0 ] && shift
readers=("$@")
[ ${#readers[@]} -gt 0 ] || readers=(safetensors idx tar)

command -v clang++ >/dev/null || { echo "fuzz: clang++ is missing; install clang and libclang-rt-14-dev (or your clang's version)" >&2; exit 1; }
out=build/fuzz
mkdir -p $out/include $out/objects
ln -sfn "$PWD" $out/include/nextscale
flags=(-std=c++20 -g -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined -Wall -Wextra -I$out/include)

sources=(base/error.cpp io/bytes.cpp io/file_operations.cpp io/mapped_file.cpp io/atomic_file.cpp io/gzip.cpp io/idx.cpp io/archive.cpp
  io/safetensors.cpp)
objects=()
for source in "${sources[@]}"; do
  object=$out/objects/$(basename "$source" .cpp).o
  clang++ "${flags[@]}" -fsanitize=fuzzer-no-link -c "$source" -o "$object"
  objects+=("$object")
done

for reader in "${readers[@]}"; do
  clang++ "${flags[@]}" -fsanitize=fuzzer "tests/fuzz/${reader}_fuzz.cpp" "${objects[@]}" -lfmt -lz -larchive -o "$out/$reader"
  mkdir -p "$out/found/$reader"
  # what this run finds goes to the first folder; the seeds are only read
  "$out/$reader" -max_total_time="$seconds" -rss_limit_mb=2048 -malloc_limit_mb=1024 -timeout=10 -max_len=65536 -print_final_stats=1 \
    -artifact_prefix="$out/crash-$reader-" "$out/found/$reader" "tests/corpus/$reader" >"$out/$reader.log" 2>&1 ||
    { tail -n 40 "$out/$reader.log" >&2; echo "fuzz: $reader failed, see $out/crash-$reader-*" >&2; exit 1; }
  echo "fuzz: $reader: $(sed -n 's/^stat::number_of_executed_units: *//p' "$out/$reader.log") executions in $seconds s, no crash"
done
