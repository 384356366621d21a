#!/usr/bin/env python3
"""For scripts/gpu/bench.sh: the machine's matrix rate, then whole jobs by build/bench_whole_jobs and, with --reference, by the
Python reference on the same weights and inputs, in turn. A table: medians, pictures a second, share of the matrix rate.

bench_whole_jobs JOB FOLDER DTYPE BATCH THREADS DEVICE says "ready", does the job once for each line it reads and answers
"seconds check".
"""
import argparse
import pathlib
import statistics
import subprocess
import sys
import time

SIDES = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
LENGTH = sum(side * side for side in SIDES)
CODES, CODE_WIDTH = 4096, 32
REFERENCE_JOBS = pathlib.Path(__file__).resolve().parents[2] / "bench/reference_jobs.py"
# Operations of one 256 px picture through the published tokenizer, 2 a multiply-add; counted once with
# torch.utils.flop_counter over the reference's encoder and decoder, 1x1 convolutions around the codes included.
ENCODER, DECODER = 215.1e9, 393.7e9


def transformer_operations(depth):
    """One picture forward, 2 a multiply-add: blocks, attention of each scale over those before it, head."""
    width = 64 * depth
    pairs = end = 0
    for side in SIDES:
        end += side * side
        pairs += side * side * end
    matrices = 24 * width * width * LENGTH * depth + 12 * width * width * depth
    return matrices + 4 * width * pairs * depth + 2 * width * (CODES + CODE_WIDTH) * LENGTH


def operations(job, depth):
    forward = transformer_operations(depth)
    quantizer = 2 * CODES * CODE_WIDTH * LENGTH
    sampling = 2 * forward + DECODER
    return {"train": 3 * forward, "sample": sampling, "sample-graphs": sampling, "encode": ENCODER + quantizer, "decode": DECODER}[job]


def matrix_rate(torch, device, dtype, tf32=False):
    """Operations a second of the best of several products of two square matrices."""
    side = 8192 if device.startswith("cuda") else 1024
    torch.backends.cuda.matmul.allow_tf32 = tf32
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    best = float("inf")
    for _ in range(8):
        wait()
        begin = time.perf_counter()
        for _ in range(4):
            a @ b
        wait()
        best = min(best, (time.perf_counter() - begin) / 4)
    return 2 * side**3 / best


def seconds_of(words, rounds):
    """Median and least of several rounds after two that warm up; nothing if the program fails."""
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        if process.stdout.readline() != "ready\n":
            return None
        seconds = []
        for turn in range(rounds + 2):
            process.stdin.write("run\n")
            process.stdin.flush()
            answer = process.stdout.readline().split()
            if not answer:
                return None
            if turn >= 2:
                seconds.append(float(answer[0]))
        return statistics.median(seconds), min(seconds)
    except BrokenPipeError:
        return None
    finally:
        process.stdin.close()
        process.stdout.read()
        process.wait()


def measured(words, rounds, operations_of_all, batch, rate):
    found = seconds_of(words, rounds)
    if found is None:
        return None, "failed | | |"
    median, least = found
    speed = operations_of_all / median
    return median, (f"{median * 1e3:.1f} ms ({least * 1e3:.1f}) | {batch / median:.1f} | "
                    f"{speed / 1e12:.1f} TFLOP/s, {100 * speed / rate:.0f} % |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--preset", default="d16")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--jobs", default="train,sample,sample-graphs,encode,decode", help="graphs need a GPU")
    parser.add_argument("--dtypes", default="bfloat16,float32")
    parser.add_argument("--reference", default="")
    arguments = parser.parse_args()
    import torch

    rates = {"bfloat16": matrix_rate(torch, arguments.device, torch.bfloat16),
             "float32": matrix_rate(torch, arguments.device, torch.float32)}
    print(f"\nMatrix rate: bfloat16 {rates['bfloat16'] / 1e12:.1f} TFLOP/s, float32 {rates['float32'] / 1e12:.1f} TFLOP/s, "
          f"with TF32 {matrix_rate(torch, arguments.device, torch.float32, tf32=True) / 1e12:.1f} TFLOP/s\n")
    del torch
    print(f"{arguments.preset}, batch {arguments.batch}, median of {arguments.rounds} (least); float32 products without TF32, "
          "convolutions as LibTorch's default\n")
    print("| job | arithmetic | who | time | pictures/s | of the matrix rate |\n|---|---|---|---|---|---|", flush=True)
    failed = False
    depth, batch = int(arguments.preset[1:]), arguments.batch
    jobs = [job for job in arguments.jobs.split(",") if arguments.device.startswith("cuda") or job != "sample-graphs"]
    for job in jobs:
        for dtype in arguments.dtypes.split(","):
            work = operations(job, depth) * batch
            ours, row = measured([f"{arguments.build}/bench_whole_jobs", job, arguments.folder, dtype, str(batch),
                                  str(arguments.threads), arguments.device], arguments.rounds, work, batch, rates[dtype])
            failed = failed or ours is None
            print(f"| {job} | {dtype} | nextscale | {row}", flush=True)
            if not arguments.reference:
                continue
            theirs, row = measured([sys.executable, str(REFERENCE_JOBS), "--folder", arguments.folder, "--device",
                                    arguments.device, "--preset", arguments.preset, "--batch", str(batch), "--threads",
                                    str(arguments.threads), "--job", job.removesuffix("-graphs"), "--dtype", dtype, "--reference",
                                    arguments.reference], arguments.rounds, work, batch, rates[dtype])
            times = f" {theirs / ours:.2f} x" if ours and theirs else ""
            print(f"| {job} | {dtype} | reference{times} | {row}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
