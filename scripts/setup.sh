#!/usr/bin/env bash
# For everybody who builds: installs what is missing (system packages, LibTorch) on Debian 12 and Ubuntu 24.04.
# Sourced or run by quickstart.sh and test.sh; does nothing that was done before.
#   LIBTORCH_ROOT=/path   use this LibTorch instead of the project's own virtual environment
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

torch_version=2.13.0
# PyTorch's own index of CPU wheels (200 MB instead of gigabytes); where it cannot be reached, the ordinary index serves.
torch_cpu_index=${NEXTSCALE_TORCH_CPU_INDEX:-https://download.pytorch.org/whl/cpu}

packages=(build-essential cmake ninja-build ccache git python3 python3-venv
  libcxxopts-dev nlohmann-json3-dev libfmt-dev libspdlog-dev libarchive-dev zlib1g-dev libxxhash-dev
  libopencv-imgcodecs-dev libopencv-imgproc-dev libjpeg-dev libpng-dev libgtest-dev libgmock-dev librapidcheck-dev libbenchmark-dev
  libgoogle-perftools-dev)

say() { printf '%s\n' "$*" >&2; }

install_packages() {  # install_packages PACKAGE… : those that are missing
  command -v dpkg-query >/dev/null || { say "setup: not a Debian system; needed are: $*"; return 0; }
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
      as_root=(sudo)
    else
      say "setup: packages are missing and this user may not install them. Run, then start again:"
      say "  sudo apt-get install -y --no-install-recommends ${missing[*]}"
      return 1
    fi
  fi
  say "setup: installing ${missing[*]}"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq >&2
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

torch_folder() {  # torch_folder PYTHON : where that Python's torch lies, if it has one
  "$1" -c "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')" 2>/dev/null || true
}

install_torch() {
  [ -n "${LIBTORCH_ROOT:-}" ] && return 0
  [ -n "$(torch_folder "$root/.venv/bin/python")" ] && return 0
  if { [ -n "${VIRTUAL_ENV:-}" ] || [ -n "${CONDA_PREFIX:-}" ]; } && [ -n "$(torch_folder python3)" ]; then
    say "setup: using the active Python's LibTorch: $(torch_folder python3)"
    export LIBTORCH_ROOT; LIBTORCH_ROOT=$(torch_folder python3)
    return 0
  fi
  [ -x "$root/.venv/bin/pip" ] || python3 -m venv "$root/.venv"
  local pip=("$root/.venv/bin/pip" install --quiet --disable-pip-version-check)
  say "setup: installing torch==$torch_version into .venv"
  if ! command -v nvidia-smi >/dev/null; then
    "${pip[@]}" --timeout 5 --retries 0 --index-url "$torch_cpu_index" "torch==$torch_version" >/dev/null 2>&1 && return 0
  fi
  "${pip[@]}" "torch==$torch_version" >&2
}

build() {  # build TARGET… : into build/
  local configure=(cmake --preset release -S "$root")
  # From nothing, files are compiled in groups, since LibTorch's headers are most of a file's time; a folder that is
  # there keeps its way, so that who edits has single files.
  [ -e "$root/build/CMakeCache.txt" ] || configure+=(-DCMAKE_UNITY_BUILD=ON)
  [ -n "${LIBTORCH_ROOT:-}" ] && configure+=("-DLIBTORCH_ROOT=$LIBTORCH_ROOT")
  (cd "$root" && "${configure[@]}" >/dev/null && cmake --build build --target "$@")
}

install_packages "${packages[@]}"
install_torch
