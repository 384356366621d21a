#!/usr/bin/env bash
# For everybody before a commit: clang-format (one version everywhere) over our sources; --check only reports.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x .venv/bin/pip ] || python3 -m venv .venv
[ -x .venv/bin/clang-format ] || .venv/bin/pip install --quiet clang-format==18.1.8
mode=(-i)
[ "${1:-}" = "--check" ] && mode=(--dry-run -Werror)
git ls-files -z '*.h' '*.cpp' | xargs -0 .venv/bin/clang-format "${mode[@]}"
