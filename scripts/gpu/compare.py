#!/usr/bin/env python3
"""For scripts/gpu/check.sh: compares what two devices made; needs nothing but Python.

    compare.py tokens A.safetensors B.safetensors --least SHARE    share of equal tokens
    compare.py pictures FOLDER FOLDER --levels N                   PNG files of the same names; largest difference of 255
    compare.py numbers A.json B.json --relative SHARE              metrics of two calls of evaluate
"""
import argparse
import json
import pathlib
import struct
import sys
import zlib


def tokens_of(path):
    data = pathlib.Path(path).read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    entry = json.loads(data[8:8 + size])["tokens"]
    if entry["dtype"] != "I64":
        sys.exit(f"{path}: tokens are {entry['dtype']}, expected I64")
    begin, end = entry["data_offsets"]
    return entry["shape"], struct.unpack(f"<{(end - begin) // 8}q", data[8 + size + begin:8 + size + end])


def compare_tokens(first, second, least):
    (shape, a), (other_shape, b) = tokens_of(first), tokens_of(second)
    if shape != other_shape:
        sys.exit(f"shapes differ: {shape} and {other_shape}")
    share = sum(x == y for x, y in zip(a, b)) / len(a)
    print(f"{share:.4f} of {len(a)} tokens are equal, at least {least} expected")
    return share >= least


def pixels_of(path):
    """Of a PNG with 8 bits a channel, not interlaced."""
    data, at, packed = path.read_bytes(), 8, b""
    width = height = channels = 0
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at:at + 8])
        piece = data[at + 8:at + 8 + size]
        if kind == b"IHDR":
            width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", piece)
            channels = {0: 1, 2: 3, 4: 2, 6: 4}.get(colour, 0)
            if depth != 8 or not channels or interlaced:
                sys.exit(f"{path}: a kind of PNG that nextscale does not write")
        if kind == b"IDAT":
            packed += piece
        at += 12 + size
    raw, stride = zlib.decompress(packed), width * channels
    rows, before = [], bytearray(stride)
    for y in range(height):
        method, row = raw[y * (stride + 1)], bytearray(raw[y * (stride + 1) + 1:(y + 1) * (stride + 1)])
        for x in range(stride):
            left = row[x - channels] if x >= channels else 0
            up, corner = before[x], before[x - channels] if x >= channels else 0
            if method == 1:
                row[x] = (row[x] + left) & 255
            elif method == 2:
                row[x] = (row[x] + up) & 255
            elif method == 3:
                row[x] = (row[x] + (left + up) // 2) & 255
            elif method == 4:
                guess = left + up - corner
                row[x] = (row[x] + min((left, up, corner), key=lambda value: abs(guess - value))) & 255
        rows.append(bytes(row))
        before = row
    return b"".join(rows)


def compare_pictures(first, second, levels):
    names = sorted(path.name for path in pathlib.Path(first).glob("*.png"))
    if not names or names != sorted(path.name for path in pathlib.Path(second).glob("*.png")):
        sys.exit(f"{first} and {second} do not hold pictures of the same names")
    worst = 0
    for name in names:
        a, b = (pixels_of(pathlib.Path(folder) / name) for folder in (first, second))
        if len(a) != len(b):
            sys.exit(f"{name}: sizes differ")
        worst = max(worst, max(abs(x - y) for x, y in zip(a, b)))
    print(f"{len(names)} pictures differ by {worst} levels of 255 at most, {levels} allowed")
    return worst <= levels


def compare_numbers(first, second, relative):
    a, b = (json.loads(pathlib.Path(path).read_text())["metrics"] for path in (first, second))
    if not a or a.keys() != b.keys():
        sys.exit(f"other metrics: {sorted(a)} and {sorted(b)}")
    apart = {name: abs(a[name]["value"] - b[name]["value"]) / max(abs(a[name]["value"]), 1e-6) for name in a}
    worst = max(apart, key=apart.get)
    print(f"{len(apart)} metrics differ by {apart[worst]:.1e} at most ({worst}), {relative} allowed")
    return apart[worst] <= relative


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("tokens", "pictures", "numbers"))
    parser.add_argument("first")
    parser.add_argument("second")
    parser.add_argument("--least", type=float, default=1.0)
    parser.add_argument("--levels", type=int, default=0)
    parser.add_argument("--relative", type=float, default=0)
    arguments = parser.parse_args()
    if arguments.kind == "tokens":
        fits = compare_tokens(arguments.first, arguments.second, arguments.least)
    elif arguments.kind == "numbers":
        fits = compare_numbers(arguments.first, arguments.second, arguments.relative)
    else:
        fits = compare_pictures(arguments.first, arguments.second, arguments.levels)
    sys.exit(0 if fits else 1)


if __name__ == "__main__":
    main()
