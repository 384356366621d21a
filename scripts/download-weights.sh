#!/usr/bin/env bash
# For who wants published weights: downloads them into a folder, goes on where an earlier call was interrupted, checks size and
# sha256 where they are known. A file is in its place when it is whole, never before.
#   scripts/download-weights.sh --list                  what there is: file, size, licence, address
#   scripts/download-weights.sh FOLDER FILE...          e.g. scripts/download-weights.sh weights vae_ch160v4096z32.pth var_d16.pth
#   NEXTSCALE_WEIGHTS_BASE=URL   take every file from URL/FILE instead (a mirror, file:///folder)
# Ends with 0: everything is there; 1: something could not be had or is not what it should be; 2: the call was wrong.
set -euo pipefail

# file | bytes, ~ where only rounded figures are known | sha256 or its beginning (as in the file's name), - where none is known
# | licence | address
var=https://huggingface.co/FoundationVision/var/resolve/main
models=https://download.pytorch.org/models
lpips=https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1
pytorch_fid=https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights
fidelity=https://github.com/toshas/torch-fidelity/releases/download/v0.2.0
adm=https://openaipublic.blob.core.windows.net/diffusion/jul-2021/ref_batches/imagenet/256
dino=https://dl.fbaipublicfiles.com/dino/dino_deitsmall16_pretrain
table="\
vae_ch160v4096z32.pth|436075834|7c3ec27ae28a3f87055e83211ea8cc8558bd1985d7b51742d074fb4c2fcf186c|MIT|$var/vae_ch160v4096z32.pth
var_d16.pth|~1.24 GB|-|MIT|$var/var_d16.pth
var_d20.pth|~2.40 GB|-|MIT|$var/var_d20.pth
var_d24.pth|~4.13 GB|-|MIT|$var/var_d24.pth
var_d30.pth|~8.04 GB|-|MIT|$var/var_d30.pth
var_d36.pth|~9.42 GB|-|MIT|$var/var_d36.pth
vgg16-397923af.pth|553433881|397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0|not stated (code: BSD-3-Clause)|$models/vgg16-397923af.pth
squeezenet1_1-b8a52dc0.pth|~5.0 MB|b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b|not stated (code: BSD-3-Clause)|$models/squeezenet1_1-b8a52dc0.pth
lpips-vgg.pth|7289|a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868|BSD-2-Clause|$lpips/vgg.pth
lpips-squeeze.pth|10811|4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76|BSD-2-Clause|$lpips/squeeze.pth
pt_inception-2015-12-05-6726825d.pth|~95.6 MB|6726825d|Apache-2.0|$pytorch_fid/pt_inception-2015-12-05-6726825d.pth
weights-inception-2015-12-05-6726825d.pth|~95.6 MB|6726825d|Apache-2.0|$fidelity/weights-inception-2015-12-05-6726825d.pth
VIRTUAL_imagenet256_labeled.npz|~2 GB|-|not stated|$adm/VIRTUAL_imagenet256_labeled.npz
dino_deitsmall16_pretrain.pth|~86.7 MB|-|Apache-2.0|$dino/dino_deitsmall16_pretrain.pth"

row() { awk -F'|' -v file="$1" '$1 == file' <<<"$table"; }
say() { printf 'download-weights: %s\n' "$*" >&2; }

list() {
  printf '%-30s %12s  %-31s %s\n' file bytes licence address
  local file bytes sum licence address
  while IFS='|' read -r file bytes sum licence address; do
    printf '%-30s %12s  %-31s %s\n%30s %12s  sha256 %s\n' "$file" "$bytes" "$licence" "$address" '' '' "${sum/#-/not known}"
  done <<<"$table"
  printf '%s\n' "The VAR files' licence is that of their repository, which states none for the weights alone; their training data is under" \
    "ImageNet's terms. ~: rounded, not checked."
}

# fault PATH BYTES SUM : prints what is wrong with a whole file; nothing if nothing is
fault() {
  local size sum
  size=$(stat -c %s "$1")
  if [[ $2 != '~'* && $size != "$2" ]]; then
    printf 'wrong size: expected %s bytes, got %s' "$2" "$size"
    return
  fi
  if [ "$3" != - ]; then
    sum=$(sha256sum "$1" | cut -d' ' -f1)
    [ "${sum:0:${#3}}" = "$3" ] || printf 'wrong sha256: expected %s, got %s' "$3" "$sum"
    return
  fi
  # nothing is known to compare with: at least no web page in place of a PyTorch file (a zip file or a pickle)
  case $(head -c 2 "$1" | od -An -tx1 | tr -d ' \n') in
    504b | 80*) ;;
    *) printf 'not a PyTorch file: it begins with %s' "$(head -c 16 "$1" | tr -c '[:print:]' '.')" ;;
  esac
}

download() {  # download FOLDER FILE BYTES SUM ADDRESS
  local path=$1/$2 part=$1/$2.part wrong status=0
  if [ -e "$path" ]; then
    wrong=$(fault "$path" "$3" "$4")
    [ -z "$wrong" ] || { say "$path: $wrong; remove it and start again"; return 1; }
    say "$path: is there"
    return 0
  fi
  if ! { [[ $3 != '~'* ]] && [ -f "$part" ] && [ "$(stat -c %s "$part")" = "$3" ]; }; then
    say "$path: from $5"
    curl -fL --retry 2 --connect-timeout 20 -C - -o "$part" "$5" || status=$?
    case $status in
      0) ;;
      33 | 36) say "$part: the server cannot go on in the middle; remove this file and start again"; return 1 ;;
      *) say "$path: $5 could not be downloaded (curl ended with $status); the same command goes on"; return 1 ;;
    esac
  fi
  wrong=$(fault "$part" "$3" "$4")
  [ -z "$wrong" ] || { rm -f "$part"; say "$path: $wrong; what came was removed"; return 1; }
  sync "$part"
  mv "$part" "$path"
  [ "$4" != - ] || say "$path: no checksum is known; sha256 of what came: $(sha256sum "$path" | cut -d' ' -f1)"
}

[ "${1:-}" = --list ] && [ $# -eq 1 ] && { list; exit 0; }
[ $# -ge 2 ] && [[ $1 != -* ]] || { say "expected --list, or a folder and names of files (see --list)"; exit 2; }
command -v curl >/dev/null || { say "curl is missing"; exit 1; }
folder=$1
shift
for name in "$@"; do
  [ -n "$(row "$name")" ] || { say "$name: not among the files of --list"; exit 2; }
done
mkdir -p "$folder" || exit 1
failed=0
for name in "$@"; do
  IFS='|' read -r file bytes sum _ address < <(row "$name")
  [ -z "${NEXTSCALE_WEIGHTS_BASE:-}" ] || address=${NEXTSCALE_WEIGHTS_BASE%/}/$file
  download "$folder" "$file" "$bytes" "$sum" "$address" || failed=1
done
exit $failed
