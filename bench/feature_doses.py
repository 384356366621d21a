#!/usr/bin/env python3
"""Does a feature distance order what eyes order? Scores held-out pictures against training pictures as they are, with noise
and blur in growing doses, and with other classes only.

    bench/feature_doses.py --data IMAGENETTE --class-index FILE [--weights FILE] [--build build] [--features efficientnet-lite0]

IMAGENETTE holds train/WNID/ and val/WNID/; FILE has index, folder and name of ImageNet's classes. Needs numpy and Pillow.
"""
import argparse
import json
import pathlib
import subprocess
import tempfile

import numpy
from PIL import Image, ImageFilter


def noise(sigma):
    random = numpy.random.RandomState(0)

    def change(picture):
        values = numpy.asarray(picture, dtype=numpy.float64)
        return Image.fromarray((values + random.normal(0, sigma, values.shape)).clip(0, 255).astype(numpy.uint8))

    return change


def blur(radius):
    return lambda picture: picture.filter(ImageFilter.GaussianBlur(radius))


def write_changed(source, target, change):
    for path in sorted(source.rglob("*.JPEG")):
        out = target / path.parent.name / (path.stem + ".png")
        out.parent.mkdir(parents=True, exist_ok=True)
        change(Image.open(path).convert("RGB")).save(out)


def link_classes(source, target, classes):
    target.mkdir()
    for name in classes:
        (target / name).symlink_to(source / name)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--class-index", required=True)
    parser.add_argument("--weights")
    parser.add_argument("--features", default="efficientnet-lite0")
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent / "build")
    arguments = parser.parse_args()
    train, val = (arguments.data / part for part in ("train", "val"))
    classes = sorted(path.name for path in train.iterdir())
    half = len(classes) // 2
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)

        def score(generated, reference, metrics="fid"):
            out = folder / "numbers.json"
            command = [arguments.build / "nextscale", "evaluate", "--generated", generated, "--reference", reference,
                       "--features", arguments.features, "--metrics", metrics, "--json", out, "--quiet",
                       "--class-index", arguments.class_index]
            if arguments.weights:
                command += ["--weights", arguments.weights]
            subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
            return json.loads(out.read_text())["metrics"]

        statistics = folder / "train.npz"
        whole = score(val, train, "fid,accuracy")
        subprocess.run([str(word) for word in (
            arguments.build / "nextscale", "evaluate", "--generated", train, "--features", arguments.features, "--quiet",
            "--save-statistics", statistics, *(["--weights", arguments.weights] if arguments.weights else []))],
            check=True, stdout=subprocess.DEVNULL)
        print("| held-out pictures | distance to the training pictures | 95 % | top-1 |\n|---|---|---|---|")

        def row(what, metrics):
            distance = metrics["frechet_distance"]
            top = f"{100 * metrics['accuracy']['value']:.1f} %" if "accuracy" in metrics else ""
            print(f"| {what} | {distance['value']:.1f} | {distance['low']:.1f} to {distance['high']:.1f} | {top} |", flush=True)
            return distance["value"]

        row("as they are", whole)
        plain = row("as they are, against saved statistics", score(val, statistics, "fid,accuracy"))
        for label, make, doses in (("noise of", noise, (10, 25, 50, 100)), ("blur of radius", blur, (1, 2, 4, 8))):
            before = plain
            for dose in doses:
                changed = folder / f"{label} {dose}"
                write_changed(val, changed, make(dose))
                value = row(f"{label} {dose}", score(changed, statistics, "fid,accuracy"))
                if value <= before:
                    raise SystemExit(f"{label} {dose}: a larger dose is nearer")
                before = value
        link_classes(train, folder / "first", classes[:half])
        link_classes(val, folder / "same", classes[:half])
        link_classes(val, folder / "other", classes[half:])
        same = row(f"{half} classes against the same classes", score(folder / "same", folder / "first"))
        other = row(f"{half} classes against the other classes", score(folder / "other", folder / "first"))
        if other <= same:
            raise SystemExit("other classes are nearer than the same ones")


if __name__ == "__main__":
    main()
