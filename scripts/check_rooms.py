#!/usr/bin/env python3
"""For everybody who changes an include: fails if a room includes a room that is not below it (docs/architecture.md)."""
import pathlib
import re
import sys

FLOORS = {
    "base": 1,
    "io": 2,
    "data": 3, "vqvae": 3, "var": 3, "networks": 3,
    "sample": 4, "evaluate": 4, "train": 4,
    "cli": 5,
}
INCLUDE = re.compile(r'^\s*#\s*include\s+[<"]nextscale/(\w+)/')


def wrong_arrows(root: pathlib.Path) -> list[str]:
    wrong = []
    for room, floor in FLOORS.items():
        for file in sorted((root / room).rglob("*")):
            if file.suffix not in {".h", ".cpp", ".cu", ".cuh"}:
                continue
            for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
                found = INCLUDE.match(line)
                if not found:
                    continue
                other = found.group(1)
                if other not in FLOORS:
                    wrong.append(f"{file.relative_to(root)}:{number}: no such room: {other}")
                elif other != room and FLOORS[other] >= floor:
                    wrong.append(f"{file.relative_to(root)}:{number}: {room} (floor {floor}) may not include {other} (floor {FLOORS[other]})")
    return wrong


if __name__ == "__main__":
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent.parent
    lines = wrong_arrows(root.resolve())
    print("\n".join(lines) or "rooms: every include goes down")
    sys.exit(1 if lines else 0)
