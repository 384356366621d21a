#!/usr/bin/env python3
"""Times nextscale against the Python reference: whole jobs at the size of the published d16 with the same weights and
inputs, in turn, in one run. Medians, the ratio of each pair, and the peak of memory of each side.

    bench/against_reference.py --reference VAR [--jobs train,sample,encode,decode,tokenizer] [--dtypes float32,bfloat16]
                               [--batch N] [--rounds 3] [--threads 2] [--build build]

VAR is a checkout of the reference (bench/reference_jobs.py); run with a Python that has torch. Jobs also:
train-checkpointed; tokenizer-against (LPIPS and PatchGAN with adaptive weight, both sides in the same arithmetic). Needs `cmake --preset bench && cmake --build build`.
"""
import argparse
import multiprocessing
import pathlib
import statistics
import subprocess
import sys
import tempfile

PICTURES = 8
HERE = pathlib.Path(__file__).resolve().parent


def prepare(reference, folder):
    """Weights and inputs that both sides load."""
    from reference_jobs import CODES, SIDES, build_models

    torch, vae, var = build_models(reference)
    for parameter in vae.parameters():
        torch.nn.init.normal_(parameter, 0, 0.02) if parameter.dim() > 1 else None
    for name, parameter in vae.named_parameters():
        if "norm" in name:
            parameter.data.fill_(1.0 if name.endswith("weight") else 0.0)
        elif name.endswith("bias"):
            parameter.data.zero_()
    torch.nn.init.normal_(vae.quantize.embedding.weight, 0, 1.0)
    torch.save(vae.state_dict(), f"{folder}/vae.pth")
    torch.save(var.state_dict(), f"{folder}/var.pth")
    from reference_jobs import VGG16_SHAPES

    torch.save({name: torch.randn(shape) * 0.05 for name, shape in VGG16_SHAPES.items()}, f"{folder}/vgg16-397923af.pth")
    torch.save({f"lin{k}.model.1.weight": torch.rand(1, width, 1, 1)
                for k, width in enumerate((64, 128, 256, 512, 512))}, f"{folder}/lpips-vgg.pth")
    length = sum(side * side for side in SIDES)
    torch.save({"tokens": torch.randint(CODES, (PICTURES, length)), "labels": torch.randint(1000, (PICTURES,)),
                "pictures": torch.rand(PICTURES, 3, 256, 256) * 2 - 1}, f"{folder}/inputs.pth")


class Side:
    """One of the two programs, waiting for its turn."""

    def __init__(self, words):
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "ready\n":
            sys.exit(f"{words[0]} did not start")
        self.seconds, self.check = [], 0.0

    def run(self, counts):
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        seconds, check = map(float, self.process.stdout.readline().split())
        self.check = check
        if counts:
            self.seconds.append(seconds)

    def end(self):
        self.process.stdin.close()
        return int(self.process.stdout.readline())


def compare(arguments, folder, job, dtype, batch):
    ours = Side([f"{arguments.build}/bench_whole_jobs", job, folder, dtype, str(batch), str(arguments.threads)])
    # Encoding, decoding and the plain tokenizer step stand against the reference's float32.
    their_dtype = dtype if job in ("train", "train-checkpointed", "sample", "tokenizer-against") else "float32"
    reference = Side([sys.executable, str(HERE / "reference_jobs.py"), "--reference", arguments.reference, "--folder", folder,
                      "--job", job, "--dtype", their_dtype, "--batch", str(batch), "--threads", str(arguments.threads)])
    for turn in range(arguments.rounds + 1):  # the first warms up
        for side in (reference, ours) if turn % 2 else (ours, reference):
            side.run(turn > 0)
    ratios = [theirs / own for theirs, own in zip(reference.seconds, ours.seconds)]
    own, theirs = statistics.median(ours.seconds), statistics.median(reference.seconds)
    memory, their_memory = ours.end() / 1e9, reference.end() / 1e9
    print(f"| {job} | {dtype} | {batch} | {theirs:.2f} s | {own:.2f} s | {statistics.median(ratios):.2f} "
          f"({min(ratios):.2f} to {max(ratios):.2f}) | {their_memory:.2f} GB | {memory:.2f} GB | "
          f"{memory / their_memory:.2f} |", flush=True)
    print(f"{job} {dtype}: check of the reference {reference.check}, of nextscale {ours.check}", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", required=True)
    parser.add_argument("--jobs", default="train,sample,encode,decode,tokenizer")
    parser.add_argument("--dtypes", default="float32,bfloat16")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--build", default=str(HERE.parent / "build"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        # In a process of its own: this one stays small.
        preparation = multiprocessing.get_context("spawn").Process(target=prepare, args=(arguments.reference, folder))
        preparation.start()
        preparation.join()
        print("| job | arithmetic | batch | reference | nextscale | times faster (median, least and most) "
              "| reference's peak | nextscale's peak | ratio |\n|---|---|---|---|---|---|---|---|---|", flush=True)
        for job in arguments.jobs.split(","):
            for dtype in arguments.dtypes.split(","):
                compare(arguments, folder, job, dtype, arguments.batch)


if __name__ == "__main__":
    main()
