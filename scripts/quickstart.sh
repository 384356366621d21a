#!/usr/bin/env bash
# For newcomers: from nothing to new pictures of clothes. Installs what is missing, builds, trains a judge, a tokenizer and a
# transformer on Fashion-MNIST (70,000 real pictures), samples, scores. Interrupted, it goes on where it was.
#   NEXTSCALE_QUICKSTART=DIR   where everything goes (runs/quickstart)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

out=${NEXTSCALE_QUICKSTART:-$root/runs/quickstart}
nextscale=$root/build/nextscale
mkdir -p "$out"

# Fashion-MNIST (MIT licence, Zalando SE): Debian's package, else the publisher's files; both checked by the hash of what is inside.
data_url=https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion
declare -A data_sums=(
  [train-images-idx3-ubyte]=c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888
  [train-labels-idx1-ubyte]=bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9
  [t10k-images-idx3-ubyte]=5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b
  [t10k-labels-idx1-ubyte]=0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34
)

data_is_right() {  # data_is_right FOLDER
  local name
  for name in "${!data_sums[@]}"; do
    [ -f "$1/$name.gz" ] || return 1
    [ "$(gzip -dc "$1/$name.gz" 2>/dev/null | sha256sum | cut -d' ' -f1)" = "${data_sums[$name]}" ] || return 1
  done
}

find_data() {  # sets $data
  for data in /usr/share/datasets/fashion-mnist "$out/fashion-mnist"; do
    data_is_right "$data" && return 0
  done
  if command -v apt-cache >/dev/null && apt-cache show dataset-fashion-mnist >/dev/null 2>&1 && install_packages dataset-fashion-mnist; then
    data=/usr/share/datasets/fashion-mnist
    data_is_right "$data" && return 0
  fi
  data=$out/fashion-mnist
  mkdir -p "$data"
  local name
  for name in "${!data_sums[@]}"; do
    say "quickstart: downloading $name.gz"
    curl -fsSL --retry 2 -o "$data/$name.gz" "$data_url/$name.gz" ||
      { say "quickstart: $data_url/$name.gz could not be downloaded; put it into $data and start again"; return 1; }
  done
  data_is_right "$data" || { say "quickstart: the files in $data are not Fashion-MNIST (their hashes differ); remove them and start again"; return 1; }
}

step() { printf '\n%s\n' "== $*" >&2; }

# Grids with names instead of numbers; the names are the publisher's.
classes=$out/classes.tsv
printf '%s\t%s\t%s\n' 0 0 T-shirt 1 1 trouser 2 2 pullover 3 3 dress 4 4 coat 5 5 sandal 6 6 shirt 7 7 sneaker 8 8 bag 9 9 'ankle boot' >"$classes"

if [ -f "$out/result.txt" ]; then
  say "quickstart: finished before; remove $out to do it again"
  cat "$out/result.txt"
  exit 0
fi

# Where other programs hold a core, GCC's OpenMP would burn the rest of it waiting (docs/benchmarks.md).
export GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-2000}

step "building"
build nextscale >&2
find_data
common=(--data "$data" --class-index "$classes")

step "1/6 the judge: a small classifier of the real pictures"
"$nextscale" train-classifier "${common[@]}" --run "$out/classifier" --preset fast --hflip

step "2/6 the tokenizer: pictures to token maps and back"
"$nextscale" train-tokenizer "${common[@]}" --run "$out/tokenizer" --preset fast

step "3/6 the token cache: all pictures as token maps, once"
[ -f "$out/tokens.safetensors" ] || "$nextscale" cache-tokens "${common[@]}" --tokenizer "$out/tokenizer" --out "$out/tokens.safetensors"

step "4/6 the transformer: the next scale from the scales before"
"$nextscale" train --tokens "$out/tokens.safetensors" --run "$out/transformer" --preset fast

step "5/6 new pictures"
models=(--model "$out/transformer" --tokenizer "$out/tokenizer" --top-k 0 --top-p 0.9 --cfg 3)
"$nextscale" sample "${models[@]}" --out "$out/pictures" --classes 0-9 --per-class 10 --batch 100 \
  --grid "$out/grid.png" --scales-strip "$out/scales.png"
"$nextscale" sample "${models[@]}" --out "$out/samples" --classes 0-9 --per-class 200 --batch 500 --seed 1

step "6/6 the score"
"$nextscale" classify --classifier "$out/classifier" --images "$out/samples" --reference "$data" --tokenizer "$out/tokenizer" \
  --json "$out/score.json" >"$out/score.txt"

{
  printf 'Look at:\n'
  printf '  %s\n' "$out/grid.png            new pictures, a row a class" \
    "$out/scales.png          how they come about, scale by scale" \
    "$out/tokenizer/pictures  real pictures and what the tokenizer makes of them" \
    "$out/score.json          the numbers below"
  cat "$out/score.txt"
} >"$out/result.txt.part"
mv "$out/result.txt.part" "$out/result.txt"
cat "$out/result.txt"
