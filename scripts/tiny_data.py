#!/usr/bin/env python3
"""For the scripts that try the program: writes a tiny data set in MNIST's format, the same in every call.

    scripts/tiny_data.py FOLDER     96 training and 32 held-out pictures of 16 x 16, bright squares, two classes
"""
import pathlib
import struct
import sys

SIDE = 16


def draws(seed):
    """A plain linear congruential generator: no module's version decides what comes out."""
    state = seed
    while True:
        state = (6364136223846793005 * state + 1442695040888963407) % 2**64
        yield state >> 33


def write_part(folder: pathlib.Path, part: str, count: int) -> None:
    draw = draws(count)
    images, labels = bytearray(struct.pack(">4I", 0x803, count, SIDE, SIDE)), bytearray(struct.pack(">2I", 0x801, count))
    for i in range(count):
        top, left = next(draw) % 8, next(draw) % 4 + i % 2 * 6
        side, bright = 3 + next(draw) % 4, 120 + next(draw) % 130
        picture = bytearray(b"\x14" * SIDE * SIDE)
        for y in range(top, top + side):
            picture[y * SIDE + left:y * SIDE + left + side] = bytes([bright]) * side
        images += picture
        labels.append(i % 2)
    (folder / f"{part}-images-idx3-ubyte").write_bytes(images)
    (folder / f"{part}-labels-idx1-ubyte").write_bytes(labels)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    target = pathlib.Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    write_part(target, "train", 96)
    write_part(target, "t10k", 32)
