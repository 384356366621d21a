#!/usr/bin/env python3
"""For who changes a file that we write: makes one of every kind with the program and runs the Python of docs/formats.md on them.

    scripts/check_formats.py [PROGRAM=build/nextscale]     ends with 0 if every snippet ran, 1 if one failed, 2 if it cannot run
"""
import importlib.util
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
NEEDED = {"numpy", "safetensors"}


def has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def make_files(program: str, folder: pathlib.Path) -> None:
    def run(*words: str) -> None:
        done = subprocess.run([program, *words, "--threads", "1", "--quiet"], cwd=folder, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"check_formats: nextscale {' '.join(words)}: ended with {done.returncode}: {done.stderr.strip()}")

    subprocess.run([sys.executable, ROOT / "scripts/tiny_data.py", folder / "data"], check=True)
    run("train-tokenizer", "--data", "data", "--run", "runs/tokenizer", "--ch", "8", "--norm-groups", "4", "--codes", "16",
        "--code-width", "4", "--batch", "8", "--steps", "20", "--keep", "0")
    run("cache-tokens", "--data", "data", "--tokenizer", "runs/tokenizer", "--out", "tokens.safetensors")
    run("train", "--tokens", "tokens.safetensors", "--run", "runs/transformer", "--preset", "fast", "--width", "32", "--heads", "2",
        "--depth", "2", "--steps", "10")
    run("sample", "--model", "runs/transformer", "--tokenizer", "runs/tokenizer", "--classes", "all", "--per-class", "4",
        "--out", "pictures", "--tokens-out", "samples.safetensors", "--npz", "samples.npz")
    run("encode", "--tokenizer", "runs/tokenizer", "--images", "pictures", "--tokens-out", "encoded.safetensors")
    run("decode", "--tokens", "encoded.safetensors", "--tokenizer", "runs/tokenizer", "--out", "decoded")
    run("train-classifier", "--data", "data", "--run", "runs/classifier", "--preset", "fast", "--steps", "5", "--batch", "8")
    run("classify", "--classifier", "runs/classifier", "--images", "pictures", "--json", "score.json")
    # a tokenizer as the reference can express it: colour, 32 norm groups, attention
    run("train-tokenizer", "--data", "pictures", "--unconditional", "--run", "runs/colour", "--channels", "3", "--ch", "32",
        "--ch-mult", "1,1,1", "--space-to-depth", "1", "--norm-groups", "32", "--attention", "--res-blocks", "1",
        "--decoder-res-blocks", "2", "--codes", "16", "--code-width", "4", "--batch", "4", "--steps", "1")
    done = subprocess.run([program, "convert", "runs/colour", "tokenizer.pth"], cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"check_formats: nextscale convert: {done.stderr.strip()}")


def snippets(text: str):
    heading = ""
    for found in re.finditer(r"^#+ ([^\n]*)$|^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if found.group(2) is None:
            heading = found.group(1)
        else:
            yield heading, found.group(2)


def main() -> int:
    program = str(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build/nextscale").resolve())
    missing = sorted(module for module in NEEDED if not has(module))
    if missing:
        print(f"check_formats: {sys.executable} lacks {', '.join(missing)}: pip install {' '.join(missing)}", file=sys.stderr)
        return 2
    if not pathlib.Path(program).exists():
        print(f"check_formats: {program} is not there; build it first", file=sys.stderr)
        return 2
    failed = ran = 0
    with tempfile.TemporaryDirectory(prefix="nextscale_formats_") as name:
        folder = pathlib.Path(name)
        make_files(program, folder)
        for heading, code in snippets((ROOT / "docs/formats.md").read_text(encoding="utf-8")):
            if "import torch" in code and not has("torch"):
                print(f"passed over, no torch: {heading}")
                continue
            done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
            ran += 1
            failed += done.returncode != 0
            print(f"{'ok' if done.returncode == 0 else 'FAILED'}: {heading}")
            if done.returncode != 0:
                print(done.stderr, file=sys.stderr)
    print(f"check_formats: {ran - failed} of {ran} snippets ran")
    return 1 if failed or ran == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
