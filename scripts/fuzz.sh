#!/usr/bin/env bash
# For who changes a file reader: builds the fuzzers (clang, libFuzzer, address and undefined-behaviour sanitizers, no LibTorch)
# and runs each for SECONDS, starting from tests/corpus. Needs clang and libclang-rt-dev. A crash is kept as build/fuzz/crash-*;
# fixed, it becomes tests/corpus/READER/crash_NAME, which the tests replay.
#   scripts/fuzz.sh [SECONDS=60] [READER...]
#   NEXTSCALE_FUZZ=DIR   where programs and findings go (build/fuzz)
set -euo pipefail
cd "$(dirname "$0")/.."
all=(safetensors idx tar npz pth numpy_pickle picture tokens config state metrics)
seconds=${1:-60}
[ $# -gt 0 ] && shift
readers=("$@")
[ ${#readers[@]} -gt 0 ] || readers=("${all[@]}")

command -v clang++ >/dev/null || { echo "fuzz: clang++ is missing; install clang and libclang-rt-14-dev (or your clang's version)" >&2; exit 1; }
out=${NEXTSCALE_FUZZ:-build/fuzz}
mkdir -p "$out/include" "$out/objects"
ln -sfn "$PWD" "$out/include/nextscale"
flags=(-std=c++20 -g -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined -Wall -Wextra
  -I"$out/include" -isystem /usr/include/opencv4)

# the rooms' sources that do without LibTorch; only what a fuzzer calls is linked
sources=(base/error.cpp base/options.cpp data/exif.cpp data/token_cache_config.cpp train/checkpoint_state.cpp train/metrics_log.cpp)
for source in io/*.cpp data/picture_*.cpp; do
  grep -qE '<(ATen|c10|torch)/|/(state_dict|weights|pth_writer|picture_quality)\.h"' "$source" || sources+=("$source")
done
newest_header=$(find base io data train tests/fuzz -name '*.h' -printf '%T@ %p\n' | sort -n | tail -n 1 | cut -d' ' -f2-)
objects=()
for source in "${sources[@]}"; do
  object=$out/objects/$(tr / _ <<<"${source%.cpp}").o
  objects+=("$object")
  [ "$object" -nt "$source" ] && [ "$object" -nt "$newest_header" ] && continue
  clang++ "${flags[@]}" -fsanitize=fuzzer-no-link -c "$source" -o "$object"
done
rm -f "$out/readers.a"
ar rcs "$out/readers.a" "${objects[@]}"

libraries() {  # of a reader
  case $1 in
    picture) echo -ljpeg -lpng -lopencv_imgcodecs -lopencv_imgproc -lopencv_core ;;
    tar) echo -larchive ;;
  esac
}

total=0
for reader in "${readers[@]}"; do
  read -ra more <<<"$(libraries "$reader")"
  clang++ "${flags[@]}" -fsanitize=fuzzer "tests/fuzz/${reader}_fuzz.cpp" "$out/readers.a" "${more[@]}" -lfmt -lz -o "$out/$reader"
  mkdir -p "$out/found/$reader"
  # what this run finds goes to the first folder; the seeds are only read
  "$out/$reader" -max_total_time="$seconds" -rss_limit_mb=2048 -malloc_limit_mb=1024 -timeout=60 -max_len=65536 -print_final_stats=1 \
    -artifact_prefix="$out/crash-$reader-" "$out/found/$reader" "tests/corpus/$reader" >"$out/$reader.log" 2>&1 ||
    { tail -n 40 "$out/$reader.log" >&2; echo "fuzz: $reader failed, see $out/crash-$reader-*" >&2; exit 1; }
  count=$(sed -n 's/^stat::number_of_executed_units: *//p' "$out/$reader.log")
  total=$((total + count))
  echo "fuzz: $reader: $count executions in $seconds s, no crash"
done
echo "fuzz: $total executions of ${#readers[@]} readers, no crash"
