#!/usr/bin/env python3
"""How long it takes to start, against an empty program that links LibTorch, and to load a model, against reading its
file: in turn, medians. The model is the published d16, 1.2 GB as .pth; "cold" is with the file dropped from memory.

    bench/start_and_load.py [--build build] [--rounds 15] [--folder FOLDER]

Needs `cmake --preset bench && cmake --build build` and 1.3 GB for FOLDER (a temporary one).
"""
import argparse
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

BLOCK = 1 << 23


def seconds(job):
    begin = time.monotonic()
    job()
    return time.monotonic() - begin


def call(*words):
    return lambda: subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def read(path):
    buffer = bytearray(BLOCK)
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def drop(path):
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def row(what, plain, ours, rounds):
    pairs = [(plain(), ours()) for _ in range(rounds)]
    ratios = [second / first for first, second in pairs]
    first, second = (statistics.median(column) for column in zip(*pairs))
    print(f"| {what} | {first:.3f} s | {second:.3f} s | {statistics.median(ratios):.2f} "
          f"({min(ratios):.2f} to {max(ratios):.2f}) |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=str(pathlib.Path(__file__).resolve().parent.parent / "build"))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--folder", default=None)
    arguments = parser.parse_args()
    build = pathlib.Path(arguments.build)
    print("| what | plain | nextscale | ratio |\n|---|---|---|---|", flush=True)

    empty, version = call(build / "bench_empty"), call(build / "nextscale", "--version")
    row("start: an empty program with LibTorch, `nextscale --version`", lambda: seconds(empty), lambda: seconds(version),
        arguments.rounds)

    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        call(build / "bench_published_inputs", folder, "1")()
        path = f"{folder}/var.pth"
        program = subprocess.Popen([build / "bench_whole_jobs", "load", folder, "float32", "1", "2"],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert program.stdout.readline() == "ready\n"

        def load():
            program.stdin.write("load\n")
            program.stdin.flush()
            return float(program.stdout.readline().split()[0])

        def cold(job):
            drop(path)
            return job()

        rounds = max(3, arguments.rounds // 3)
        row("file in memory: reading it, loading the model", lambda: seconds(lambda: read(path)), load, rounds)
        row("file on disk: reading it, loading the model", lambda: cold(lambda: seconds(lambda: read(path))),
            lambda: cold(load), rounds)
        program.stdin.close()
        print(f"peak memory of loading: {int(program.stdout.readline()) / 1e9:.2f} GB "
              f"(file {os.path.getsize(path) / 1e9:.2f} GB)")


if __name__ == "__main__":
    main()
