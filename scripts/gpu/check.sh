#!/usr/bin/env bash
# For a machine with a GPU and nothing else installed: builds, runs all tests, every verb on the GPU, and compares with the CPU.
#   scripts/gpu/check.sh PREFIX      PREFIX: folder, or its .tar.xz, with the dependencies but LibTorch (/usr)
# Needs CMake, ninja, a compiler, and a Python with torch (NEXTSCALE_PYTHON, else python3), whose LibTorch is built against.
#   NEXTSCALE_GPU_DEVICE=cuda:1    another GPU; cpu tries the script itself
#   NEXTSCALE_GPU_WORK=DIR         where everything is built (build-gpu)
# Ends with a line for each step; exit code 1 if one failed.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[ $# -eq 1 ] || fail "usage: scripts/gpu/check.sh PREFIX"

mkdir -p "$work"
prefix=$(prefix_folder "$1")
out=$work/check
rm -rf "$out" && mkdir -p "$out"
nextscale=$work/nextscale
threads=$(nproc)
compare=("$python" "$root/scripts/gpu/compare.py")
exact=(env NVIDIA_TF32_OVERRIDE=0)  # float32 means float32

# They register themselves when loaded, and nothing names them: a linker may drop them.
loads_cuda() { [ ! -f "$(find_libtorch)/lib/libtorch_cuda.so" ] || ldd "$nextscale" | grep libtorch_cuda; }
tests_on_cpu() { ctest --test-dir "$work" -j "$threads" --output-on-failure -E '^gpu$'; }
tests_on_device() { NEXTSCALE_GPU_DEVICE=$device "$work/gpu_tests" --gtest_brief=0; }

verb() { "$nextscale" "$@" --quiet; }
on_device() { verb "$@" --device "$device"; }

train_classifier() { on_device train-classifier --data "$out/data" --run "$out/classifier" --preset fast --steps 60 --batch 32; }
train_tokenizer() { on_device train-tokenizer --data "$out/data" --run "$out/tokenizer" --preset fast --steps 120 --batch 32; }
train_against_a_discriminator() {
  on_device train-tokenizer --data "$out/data" --run "$out/against" --preset fast --steps 80 --batch 32 --checkpoint-activations \
    --discriminator patchgan --adaptive --lecam 0.001 --augment 1 --consistency 1 --blur-fade 0.1
}
cache_tokens() { on_device cache-tokens --data "$out/data" --tokenizer "$out/tokenizer" --out "$out/tokens.safetensors"; }
train() { on_device train --tokens "$out/tokens.safetensors" --run "$out/transformer" --preset fast --steps 120 --batch 32; }
train_again() {  # the same command goes on, from a checkpoint of the GPU
  on_device train --tokens "$out/tokens.safetensors" --run "$out/halves" --preset fast --steps 40 --batch 32 --max-steps 20 || return 1
  on_device train --tokens "$out/tokens.safetensors" --run "$out/halves" --preset fast --steps 40 --batch 32
}
models=(--model "$out/transformer" --tokenizer "$out/tokenizer")
sample() {
  on_device sample "${models[@]}" --out "$out/pictures" --classes 0-1 --per-class 16 --grid "$out/grid.png" \
    --scales-strip "$out/strip.png" --tokens-out "$out/sampled.safetensors"
}
encode() { on_device encode --tokenizer "$out/tokenizer" --images "$out/pictures" --tokens-out "$out/encoded.safetensors"; }
decode() { on_device decode --tokens "$out/encoded.safetensors" --tokenizer "$out/tokenizer" --out "$out/decoded"; }
classify() {
  on_device classify --classifier "$out/classifier" --images "$out/pictures" --reference "$out/data" --tokenizer "$out/tokenizer" \
    --real-pictures 16 --json "$out/score.json"
}

# The same weights on both sides, in float32 without TF32: runs a verb on the CPU and on the device, @ in its words is a, then b.
on_both() {
  local words=("$@")
  "${exact[@]}" "$nextscale" "${words[@]//@/a}" --quiet --dtype float32 --device cpu || return 1
  "${exact[@]}" "$nextscale" "${words[@]//@/b}" --quiet --dtype float32 --device "$device"
}
encode_agrees() {
  on_both encode --tokenizer "$out/tokenizer" --images "$out/pictures" --tokens-out "$out/encode_@.safetensors" || return 1
  "${compare[@]}" tokens "$out/encode_a.safetensors" "$out/encode_b.safetensors" --least 0.99
}
decode_agrees() {
  on_both decode --tokenizer "$out/tokenizer" --tokens "$out/encoded.safetensors" --out "$out/decode_@" || return 1
  "${compare[@]}" pictures "$out/decode_a" "$out/decode_b" --levels 2
}
sample_agrees() {
  on_both sample "${models[@]}" --classes 0-1 --per-class 8 --out "$out/sample_@" --tokens-out "$out/sample_@.safetensors" || return 1
  "${compare[@]}" tokens "$out/sample_a.safetensors" "$out/sample_b.safetensors" --least 0.9
}
graphs_agree() {  # several batches of two sizes; on a CPU they are refused, as an option that does not fit
  local words=(sample "${models[@]}" --classes 0-1 --per-class 10 --batch 8)
  if [[ $device != cuda* ]]; then
    local code=0
    on_device "${words[@]}" --graphs --out "$out/by_graphs" 2>&1 || code=$?
    [ "$code" = 2 ]
    return
  fi
  on_device "${words[@]}" --out "$out/by_kernels" --tokens-out "$out/by_kernels.safetensors" || return 1
  on_device "${words[@]}" --graphs --out "$out/by_graphs" --tokens-out "$out/by_graphs.safetensors" || return 1
  "${compare[@]}" tokens "$out/by_kernels.safetensors" "$out/by_graphs.safetensors" --least 1 || return 1
  on_device "${words[@]}" --graphs --draws device --out "$out/by_draws"
}
evaluate_agrees() {
  on_both evaluate --generated "$out/pictures" --reference "$out/data/train-images-idx3-ubyte" --features classifier --classifier "$out/classifier" \
    --metrics fid,pr,prdc --json "$out/evaluate_@.json" || return 1
  "${compare[@]}" numbers "$out/evaluate_a.json" "$out/evaluate_b.json" --relative 1e-3
}

say "device $device, prefix $prefix, LibTorch $(find_libtorch), work $work"
describe_machine >&2
step "build" build "$prefix" all || summary
step "the program loads CUDA" loads_cuda || true
step "tests (CPU)" tests_on_cpu || true
step "tests of the GPU against the CPU, hidden copies" tests_on_device || true
step "tiny data" "$python" "$root/scripts/tiny_data.py" "$out/data" || summary
for verb_step in train_classifier train_tokenizer train_against_a_discriminator cache_tokens train train_again sample encode decode classify; do
  step "$verb_step --device $device" "$verb_step" || true
done
step "encode: tokens of both devices agree (float32)" encode_agrees || true
step "decode: pictures of both devices within 2 levels (float32)" decode_agrees || true
step "evaluate: metrics of both devices agree (float32)" evaluate_agrees || true
step "sample: tokens of both devices agree (float32, same seed)" sample_agrees || true
step "sample: graphs give the tokens of their kernels; the device's own draws" graphs_agree || true
summary
