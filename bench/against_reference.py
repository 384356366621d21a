#!/usr/bin/env python3
"""Times nextscale against the Python reference: whole jobs at the size of the published d16 with the same weights and
inputs, in turn, in one run. Medians, the ratio of each pair, and the peak of memory of each side.

    bench/against_reference.py --reference VAR [--jobs train,sample,encode,decode,tokenizer] [--dtypes float32,bfloat16]
                               [--batch N] [--rounds 3] [--threads 2] [--build build]

VAR is a checkout of the reference (its folder `models` is imported, nothing of it is copied); run with a Python that has
torch. Needs `cmake --preset bench && cmake --build build`.
"""
import argparse
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import types

SIDES = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
CODES, PICTURES = 4096, 8


def build_models(reference):
    """The reference's modules; its hub client is only a base class and is stood in for."""
    hub = types.ModuleType("huggingface_hub")
    hub.PyTorchModelHubMixin = type("PyTorchModelHubMixin", (), {})
    sys.modules.setdefault("huggingface_hub", hub)
    sys.path.insert(0, reference)
    import torch
    from models import build_vae_var

    torch.manual_seed(0)
    stdout, sys.stdout = sys.stdout, sys.stderr
    vae, var = build_vae_var("cpu", patch_nums=SIDES)
    sys.stdout = stdout
    return torch, vae, var


def prepare(reference, folder):
    """Weights and inputs that both sides load."""
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
    length = sum(side * side for side in SIDES)
    torch.save({"tokens": torch.randint(CODES, (PICTURES, length)), "labels": torch.randint(1000, (PICTURES,)),
                "pictures": torch.rand(PICTURES, 3, 256, 256) * 2 - 1}, f"{folder}/inputs.pth")


def reference_job(arguments):
    torch, vae, var = build_models(arguments.reference)
    torch.set_num_threads(arguments.threads)
    folder, batch = arguments.peer_folder, arguments.batch
    vae.load_state_dict(torch.load(f"{folder}/vae.pth"))
    var.load_state_dict(torch.load(f"{folder}/var.pth"))
    inputs = {name: value[:batch] for name, value in torch.load(f"{folder}/inputs.pth").items()}

    def autocast():
        return torch.autocast("cpu", torch.bfloat16, enabled=arguments.dtypes == "bfloat16")

    def split(tokens):
        return torch.split(tokens, [side * side for side in SIDES], dim=1)

    def train():
        tokens = inputs["tokens"]
        teacher = vae.quantize.idxBl_to_var_input(split(tokens))
        with autocast():
            logits = var(inputs["labels"], teacher)
            loss = torch.nn.functional.cross_entropy(logits.view(-1, CODES), tokens.reshape(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 2.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def sample():
        with torch.inference_mode(), autocast():
            pictures = var.autoregressive_infer_cfg(batch, inputs["labels"], g_seed=0, cfg=1.5, top_k=900, top_p=0.96)
        return pictures.mean().item()

    def encode():
        with torch.inference_mode(), autocast():
            return sum(part.sum().item() for part in vae.img_to_idxBl(inputs["pictures"]))

    def decode():
        with torch.inference_mode(), autocast():
            return vae.idxBl_to_img(split(inputs["tokens"]), same_shape=True, last_one=True).float().mean().item()

    def tokenizer():
        with autocast():
            made, _, vq = vae(inputs["pictures"])
        made = made.float()
        loss = (torch.nn.functional.mse_loss(made, inputs["pictures"]) + vq
                + 0.2 * torch.nn.functional.l1_loss(made, inputs["pictures"]))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 10.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    if arguments.jobs == "tokenizer":
        vae.train().requires_grad_(True)
    parameters = list((vae if arguments.jobs == "tokenizer" else var).parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-5, betas=(0.9, 0.95), fused=True)
    training = arguments.jobs.startswith("train")
    if not training:
        var.eval()
    else:
        del vae.encoder, vae.decoder
    if training:  # the reference has no checkpointing: both compare with the same
        return train
    return {"sample": sample, "encode": encode, "decode": decode, "tokenizer": tokenizer}[arguments.jobs]


def serve(job):
    print("ready", flush=True)
    for _ in sys.stdin:
        begin = time.monotonic()
        check = job()
        print(f"{time.monotonic() - begin:.4f} {check:.6f}", flush=True)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, flush=True)


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
    reference = Side([sys.executable, __file__, "--reference", arguments.reference, "--jobs", job, "--dtypes", dtype,
                      "--batch", str(batch), "--threads", str(arguments.threads), "--peer-folder", folder])
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
    parser.add_argument("--build", default=str(pathlib.Path(__file__).resolve().parent.parent / "build"))
    parser.add_argument("--peer-folder", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer_folder:
        return serve(reference_job(arguments))
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", f"import sys; sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r}); "
                        f"import against_reference as a; a.prepare({arguments.reference!r}, {folder!r})"], check=True)
        print("| job | arithmetic | batch | reference | nextscale | times faster (median, least and most) "
              "| reference's peak | nextscale's peak | ratio |\n|---|---|---|---|---|---|---|---|---|", flush=True)
        for job in arguments.jobs.split(","):
            for dtype in arguments.dtypes.split(","):
                compare(arguments, folder, job, dtype, arguments.batch)


if __name__ == "__main__":
    main()
