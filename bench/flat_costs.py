#!/usr/bin/env python3
"""Shows that cost does not grow where it should not, with the built program on data of its own: steps a second over a
run, memory over steps, memory over pictures of a data set, time over pictures that are sampled.

    bench/flat_costs.py [--program build/nextscale] [--threads 2]
"""
import argparse
import json
import os
import pathlib
import statistics
import struct
import subprocess
import tempfile
import time

SIDE = 16


def write_pictures(folder: pathlib.Path, count: int) -> None:
    """MNIST's format, one shade a picture; 256 held-out ones."""
    folder.mkdir()
    for part, pictures in (("train", count), ("t10k", 256)):
        with open(folder / f"{part}-images-idx3-ubyte", "wb") as file:
            file.write(struct.pack(">4I", 0x803, pictures, SIDE, SIDE))
            for i in range(pictures):
                file.write(bytes([i * 7 % 256]) * (SIDE * SIDE))
        labels = bytes(i % 2 for i in range(pictures))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, pictures) + labels)


class Program:
    def __init__(self, program, threads, folder):
        self.words, self.threads, self.folder = [program], ["--threads", str(threads), "--quiet"], folder

    def __call__(self, *words):
        """(seconds, peak memory in MB) of one call."""
        begin = time.monotonic()
        process = subprocess.Popen(self.words + [str(word) for word in words] + self.threads, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status != 0:
            raise SystemExit(f"{' '.join(map(str, words))} ended with {status}")
        return time.monotonic() - begin, usage.ru_maxrss / 1e3

    def train(self, data, run, steps):
        return self("train-tokenizer", "--data", self.folder / data, "--run", self.folder / run, "--ch", 16, "--norm-groups", 8,
                    "--codes", 32, "--code-width", 8, "--batch", 16, "--steps", steps, "--validate-every", steps)


def speeds(run: pathlib.Path):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["pictures_per_s"] for line in lines if "pictures_per_s" in line]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=str(pathlib.Path(__file__).resolve().parent.parent / "build/nextscale"))
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        program = Program(arguments.program, arguments.threads, folder)
        write_pictures(folder / "small", 2_000)
        write_pictures(folder / "large", 200_000)
        print("| what | less | more | ratio |\n|---|---|---|---|")

        _, short = program.train("small", "short", 200)
        _, long = program.train("small", "long", 2000)
        print(f"| peak memory, 200 and 2,000 steps | {short:.0f} MB | {long:.0f} MB | {long / short:.2f} |")
        # Other programs come and go while a run lasts: the middle of several.
        runs = []
        for name in ("long", "again", "once-more"):
            if name != "long":
                program.train("small", name, 2000)
            rates = speeds(folder / name)
            tenth = len(rates) // 10
            runs.append((statistics.median(rates[tenth:3 * tenth]), statistics.median(rates[-2 * tenth:])))
        first, last = sorted(runs, key=lambda run: run[1] / run[0])[1]
        print(f"| pictures a second, early and late in those 2,000 steps | {first:.0f} | {last:.0f} | {last / first:.2f} |")

        _, large = program.train("large", "of-large", 200)
        print(f"| peak memory, 2,000 and 200,000 pictures | {short:.0f} MB | {large:.0f} MB | {large / short:.2f} |")

        program("cache-tokens", "--data", folder / "small", "--tokenizer", folder / "long", "--out", folder / "tokens")
        program("train", "--tokens", folder / "tokens", "--run", folder / "model", "--preset", "fast", "--width", 64,
                "--heads", 2, "--depth", 2, "--steps", 50)
        few, many = (program("sample", "--model", folder / "model", "--tokenizer", folder / "long", "--per-class", count,
                             "--out", folder / f"set{count}") for count in (256, 2048))
        print(f"| seconds for 512 and 4,096 sampled pictures | {few[0]:.2f} | {many[0]:.2f} | {many[0] / few[0]:.2f} |")
        print(f"| peak memory for them | {few[1]:.0f} MB | {many[1]:.0f} MB | {many[1] / few[1]:.2f} |")


if __name__ == "__main__":
    main()
