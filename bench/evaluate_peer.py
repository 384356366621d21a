#!/usr/bin/env python3
"""Scores the same pictures with torch-fidelity, pytorch-fid and nextscale, in turn, in one run: agreement and speed.

    bench/evaluate_peer.py [--pictures 256] [--side 256] [--rounds 3] [--threads 2] [--build build] [--frechet-only]

Run with a Python that has torch, torch-fidelity 0.4.0, pytorch-fid 0.3.0, scipy below 1.18 and Pillow. Needs
`cmake --preset bench && cmake --build build`. The network's weights are random: agreement does not depend on them, and
nothing is downloaded.
"""
import argparse
import json
import math
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import tempfile
import time


def write_weights(torch, path):
    """Random weights of a healthy scale under the published names."""
    from pytorch_fid import inception

    inception.load_state_dict_from_url = lambda *_, **__: None
    skeleton = inception._inception_v3(num_classes=1008, aux_logits=False, weights=None)
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, value in skeleton.state_dict().items():
        if name.endswith("num_batches_tracked") or name.startswith("AuxLogits"):
            continue
        if name.endswith("conv.weight"):
            scale, offset = math.sqrt(2 / value[0].numel()), 0.0
        elif name.endswith("bn.weight"):
            scale, offset = 0.5, 1.0
        elif name.endswith("running_var"):
            scale, offset = 0.55, 0.6
        else:
            scale, offset = 0.3, 0.0
        weights[name] = (torch.rand(value.shape, generator=generator) * 2 - 1) * scale + offset
    torch.save(weights, path)


def write_pictures(folder, count, side, seed, noise=20):
    import numpy
    from PIL import Image

    folder.mkdir()
    random = numpy.random.RandomState(seed)
    for i in range(count):
        small = Image.fromarray(random.randint(0, 256, (8, 8, 3), dtype=numpy.uint8))
        grain = random.randint(-noise, noise + 1, (side, side, 3))
        smooth = numpy.asarray(small.resize((side, side), Image.BICUBIC), dtype=numpy.int64)
        Image.fromarray((smooth + grain).clip(0, 255).astype(numpy.uint8)).save(folder / f"{i:06}.png")


class Nextscale:
    def __init__(self, build, weights, folder, threads):
        self.program, self.weights, self.folder, self.threads = build / "nextscale", weights, folder, threads

    def __call__(self, generated, reference, *words):
        out = self.folder / "numbers.json"
        command = [self.program, "evaluate", "--generated", generated, "--reference", reference, "--weights", self.weights,
                   "--json", out, "--device", "cpu", "--threads", self.threads, "--quiet", *words]
        begin = time.monotonic()
        subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
        return json.loads(out.read_text()), time.monotonic() - begin


def pytorch_fid_statistics(torch, weights, folder, batch):
    from pytorch_fid import fid_score, inception

    inception.load_state_dict_from_url = lambda *_, **__: torch.load(weights, weights_only=True)
    network = inception.InceptionV3([inception.InceptionV3.BLOCK_INDEX_BY_DIM[2048]])
    files = sorted(folder.glob("*.png"))
    begin = time.monotonic()
    mean, covariance = fid_score.calculate_activation_statistics(files, network, batch, 2048, "cpu", num_workers=1)
    return mean, covariance, time.monotonic() - begin


def features_apart(torch, numpy, weights, ours, folder, number):
    """The mean over two copies of a picture is its features."""
    pair = folder / f"pair{number}"
    write_pictures(pair, 1, 200, 10 + number)
    shutil.copy(pair / "000000.png", pair / "000001.png")
    saved = folder / "pair.npz"
    theirs, _, _ = pytorch_fid_statistics(torch, weights, pair, 2)
    ours(pair, pair, "--protocol", "pytorch-fid", "--metrics", "fid", "--save-statistics", saved)
    return numpy.abs(numpy.load(saved)["mu"] - theirs).max() / numpy.abs(theirs).max()


def fidelity(weights, generated, reference, subset):
    import torch_fidelity

    begin = time.monotonic()
    values = torch_fidelity.calculate_metrics(
        input1=str(generated), input2=str(reference), cuda=False, isc=True, fid=True, kid=True, prc=True, verbose=False,
        kid_subset_size=subset, feature_extractor="inception-v3-compat", feature_layer_prc="2048",
        feature_extractor_weights_path=str(weights), batch_size=32, cache=False)
    return values, time.monotonic() - begin


def row(what, theirs, ours):
    print(f"| {what} | {theirs:.9g} | {ours:.9g} | {abs(ours - theirs) / max(abs(theirs), 1e-12):.1e} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=256)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--build", default=str(pathlib.Path(__file__).resolve().parent.parent / "build"))
    parser.add_argument("--frechet-only", action="store_true")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    import numpy
    import scipy.linalg
    import torch

    torch.set_num_threads(arguments.threads)
    build = pathlib.Path(arguments.build)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        if not arguments.frechet_only:
            compare_pictures(torch, numpy, arguments, build, folder)
        compare_frechet(numpy, scipy.linalg, arguments, build, folder)


def compare_pictures(torch, numpy, arguments, build, folder):
    weights = folder / "pt_inception.pth"
    write_weights(torch, weights)
    generated, reference = folder / "generated", folder / "reference"
    write_pictures(generated, arguments.pictures, arguments.side, 1)
    write_pictures(reference, arguments.pictures, arguments.side, 2, noise=60)
    ours = Nextscale(build, weights, folder, arguments.threads)
    subset = arguments.pictures // 2

    their_times, our_times = [], []
    for _ in range(arguments.rounds):
        mean, covariance, seconds = pytorch_fid_statistics(torch, weights, generated, 32)
        their_times.append(seconds)
        saved = folder / "statistics.npz"
        _, seconds = ours(generated, generated, "--protocol", "pytorch-fid", "--metrics", "fid", "--save-statistics", saved)
        our_times.append(seconds / 2)  # it looks at two sets
    stored = numpy.load(saved)
    print("| what | theirs | ours | relative difference |\n|---|---|---|---|")
    apart = numpy.linalg.norm(stored["mu"] - mean) / numpy.linalg.norm(mean)
    print(f"| pytorch-fid: mean of the features | | | {apart:.1e} |")
    worst = max(features_apart(torch, numpy, weights, ours, folder, number) for number in range(4))
    print(f"| pytorch-fid: features of one picture, worst of 4, of their scale | | | {worst:.1e} |")

    values, their_all = fidelity(weights, generated, reference, subset)
    metrics, our_all = ours(generated, reference, "--protocol", "torch-fidelity", "--metrics", "fid,is,kid,pr",
                            "--kid-subset-size", subset)
    metrics = metrics["metrics"]
    row("torch-fidelity: FID", values["frechet_inception_distance"], metrics["fid"]["value"])
    row("torch-fidelity: Inception Score", values["inception_score_mean"], metrics["inception_score"]["value"])
    row("torch-fidelity: its deviation", values["inception_score_std"], metrics["inception_score"]["deviation"])
    row("torch-fidelity: KID", values["kernel_inception_distance_mean"], metrics["kid"]["value"])
    row("torch-fidelity: precision", values["precision"], metrics["precision"]["value"])
    row("torch-fidelity: recall", values["recall"], metrics["recall"]["value"])

    theirs = arguments.pictures / statistics.median(their_times)
    mine = arguments.pictures / statistics.median(our_times)
    ratios = [a / b for a, b in zip(their_times, our_times)]
    print("\n| pictures a second | pytorch-fid | nextscale | times faster (median, least and most) |\n|---|---|---|---|")
    print(f"| {arguments.side} pixels, {arguments.threads} threads | {theirs:.2f} | {mine:.2f} | "
          f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |")
    print(f"| all of torch-fidelity's metrics, seconds | {their_all:.1f} | {our_all:.1f} | {their_all / our_all:.2f} |")


def compare_frechet(numpy, linalg, arguments, build, folder):
    """scipy's matrix root, as pytorch-fid, clean-fid and ADM's script take it, against ours on the same files."""
    random = numpy.random.RandomState(0)
    files = []
    for i in range(2):
        rows = random.standard_normal((4000, 2048)) * (numpy.arange(2048) + 1.0) ** -0.5 + 0.1 * i
        files.append(folder / f"statistics{i}.npz")
        numpy.savez(files[-1], mu=rows.mean(0), sigma=numpy.cov(rows, rowvar=False))
    stored = [numpy.load(file) for file in files]
    theirs, ours = [], []
    for _ in range(arguments.rounds):
        begin = time.monotonic()
        root = linalg.sqrtm(stored[0]["sigma"] @ stored[1]["sigma"])
        value = (((stored[0]["mu"] - stored[1]["mu"]) ** 2).sum() + numpy.trace(stored[0]["sigma"]) +
                 numpy.trace(stored[1]["sigma"]) - 2 * numpy.trace(root.real))
        theirs.append(time.monotonic() - begin)
        environment = dict(os.environ, OMP_NUM_THREADS=str(arguments.threads))
        out = subprocess.run([str(build / "bench_evaluator"), "frechet", *map(str, files)], check=True, text=True,
                             capture_output=True, env=environment).stdout
        seconds, mine = re.search(r"frechet: ([\d.]+) s, value ([\d.e+-]+)", out).groups()
        ours.append(float(seconds))
    ratios = [a / b for a, b in zip(theirs, ours)]
    print("\n| Fréchet distance at 2,048 dimensions | scipy's sqrtm | nextscale | times faster (median, least and most) |")
    print("|---|---|---|---|")
    print(f"| seconds | {statistics.median(theirs):.1f} | {statistics.median(ours):.2f} | {statistics.median(ratios):.2f} "
          f"({min(ratios):.2f} to {max(ratios):.2f}) |")
    print(f"| value | {value:.9f} | {float(mine):.9f} | relative difference {abs(value - float(mine)) / value:.1e} |")


if __name__ == "__main__":
    main()
