#!/usr/bin/env python3
"""The Python reference's side of bench_whole_jobs: the same jobs by its modules, called as its trainer and its demo call
them, in the same manner (says "ready", does the job once for each line on stdin, answers "seconds check", at the end the
peak of memory in bytes).

    bench/reference_jobs.py --reference VAR --folder FOLDER --job JOB --dtype float32 --batch 2 [--threads 2]
                            [--device cpu] [--preset d16]

VAR is a checkout of the reference: its folder `models` is imported, nothing of it is copied.
"""
import argparse
import resource
import sys
import time
import types

SIDES = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
CODES = 4096


def build_models(reference, device="cpu", depth=16):
    """(torch, tokenizer, transformer). The hub client is only a base class there and is stood in for."""
    hub = types.ModuleType("huggingface_hub")
    hub.PyTorchModelHubMixin = type("PyTorchModelHubMixin", (), {})
    sys.modules.setdefault("huggingface_hub", hub)
    sys.path.insert(0, reference)
    import torch
    from models import build_vae_var

    torch.manual_seed(0)
    stdout, sys.stdout = sys.stdout, sys.stderr
    vae, var = build_vae_var(device, patch_nums=SIDES, depth=depth, shared_aln=False)
    sys.stdout = stdout
    return torch, vae, var


VGG16_SHAPES = {}
for index, before, after in ((0, 3, 64), (2, 64, 64), (5, 64, 128), (7, 128, 128), (10, 128, 256), (12, 256, 256),
                             (14, 256, 256), (17, 256, 512), (19, 512, 512), (21, 512, 512), (24, 512, 512),
                             (26, 512, 512), (28, 512, 512)):
    VGG16_SHAPES[f"features.{index}.weight"] = (after, before, 3, 3)
    VGG16_SHAPES[f"features.{index}.bias"] = (after,)


def judges(torch, folder):
    """(LPIPS over VGG16, PatchGAN of three layers) as plain modules, with the weights that both sides load."""
    nn = torch.nn
    layers, width = [], 3
    for channels in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512):
        layers += [nn.Conv2d(width, channels, 3, padding=1), nn.ReLU()] if channels else [nn.MaxPool2d(2)]
        width = channels or width
    trunk = nn.Sequential(*layers)
    stored = torch.load(f"{folder}/vgg16-397923af.pth")
    trunk.load_state_dict({name.removeprefix("features."): value for name, value in stored.items()})
    heads = list(torch.load(f"{folder}/lpips-vgg.pth").values())
    trunk.eval().requires_grad_(False)
    shift = torch.tensor([-.030, -.088, -.188]).view(1, 3, 1, 1)
    scale = torch.tensor([.458, .448, .450]).view(1, 3, 1, 1)

    def features(x):
        x = (x - shift) / scale
        for index, layer in enumerate(trunk):
            x = layer(x)
            if index in (3, 8, 15, 22, 29):
                kept = x.float()
                yield kept / ((kept.square().sum(1, keepdim=True) + 1e-9).sqrt() + 1e-10)

    def distance(wanted, made):
        with torch.no_grad():
            targets = list(features(wanted))
        return sum(((a - b).square() * head).sum(1).mean() for a, b, head in zip(targets, features(made), heads))

    def block(before, after, stride):
        return [nn.Conv2d(before, after, 4, stride, 1, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU(0.2)]

    patches = nn.Sequential(nn.Conv2d(3, 64, 4, 2, 1), nn.LeakyReLU(0.2), *block(64, 128, 2), *block(128, 256, 2),
                            *block(256, 512, 1), nn.Conv2d(512, 1, 4, 1, 1))
    # The reference's builder switches the modules' own initial values off.
    for module in patches.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, 0, 0.02)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.02)
        if getattr(module, "bias", None) is not None:
            nn.init.zeros_(module.bias)
    return distance, patches


def job_of(arguments):
    torch, vae, var = build_models(arguments.reference, arguments.device, int(arguments.preset[1:]))
    torch.set_num_threads(arguments.threads)
    vae.load_state_dict(torch.load(f"{arguments.folder}/vae.pth"))
    var.load_state_dict(torch.load(f"{arguments.folder}/var.pth"))
    inputs = {name: value[:arguments.batch].to(arguments.device)
              for name, value in torch.load(f"{arguments.folder}/inputs.pth").items()}
    tokens, pictures = inputs["tokens"], inputs["pictures"]

    def autocast():
        return torch.autocast(arguments.device.split(":")[0], torch.bfloat16, enabled=arguments.dtype == "bfloat16")

    def maps():
        return torch.split(tokens, [side * side for side in SIDES], dim=1)

    def step(loss, clip):
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def train():
        teacher = vae.quantize.idxBl_to_var_input(maps())
        with autocast():
            logits = var(inputs["labels"], teacher)
            loss = torch.nn.functional.cross_entropy(logits.view(-1, CODES), tokens.reshape(-1))
        return step(loss, 2.0)

    def tokenizer():
        with autocast():
            made, _, vq = vae(pictures)
        made = made.float()
        functional = torch.nn.functional
        return step(functional.mse_loss(made, pictures) + 0.2 * functional.l1_loss(made, pictures) + vq, 10.0)

    def tokenizer_against():
        functional = torch.nn.functional
        with autocast():
            made, _, vq = vae(pictures)
            made = made.float()
            nll = (functional.mse_loss(made, pictures) + 0.2 * functional.l1_loss(made, pictures)
                   + distance(pictures, made))
            push = -patches(made).float().mean()
        last = vae.decoder.conv_out.weight
        of_nll, of_push = (torch.autograd.grad(part, last, retain_graph=True)[0] for part in (nll, push))
        weight = (of_nll.norm() / (of_push.norm() + 1e-6)).clamp(0.015, 1e4).detach()
        value = step(nll + 0.4 * weight * push + vq, 10.0)
        against.zero_grad(set_to_none=True)
        with autocast():
            real, fake = patches(pictures).float(), patches(made.detach()).float()
        functional.relu(1 - real).mean().add(functional.relu(1 + fake).mean()).backward()
        torch.nn.utils.clip_grad_norm_(patches.parameters(), 10.0)
        against.step()
        return value

    def sample():
        with torch.inference_mode(), autocast():
            made = var.autoregressive_infer_cfg(arguments.batch, inputs["labels"], g_seed=0, cfg=1.5, top_k=900,
                                                top_p=0.96)
        return made.float().mean().item()

    def encode():
        with torch.inference_mode(), autocast():
            return sum(part.sum().item() for part in vae.img_to_idxBl(pictures))

    def decode():
        with torch.inference_mode(), autocast():
            return vae.idxBl_to_img(maps(), same_shape=True, last_one=True).float().mean().item()

    # The reference has no checkpointing of activations: ours is compared with its plain step.
    training = arguments.job.startswith("train")
    var.train(training)
    if training:
        del vae.encoder, vae.decoder
    trains_tokenizer = arguments.job.startswith("tokenizer")
    if trains_tokenizer:
        vae.train().requires_grad_(True)
        # Its statistics ask for the number of processes.
        torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
        # Its quantizer does not run under autocast on a CPU: in float32, as ours.
        quantize = vae.quantize.forward

        def in_float32(f, *more, **named):
            with torch.autocast(arguments.device.split(":")[0], enabled=False):
                return quantize(f.float(), *more, **named)

        vae.quantize.forward = in_float32
    parameters = list((vae if trains_tokenizer else var).parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-5, betas=(0.9, 0.95), fused=True)
    if arguments.job == "tokenizer-against":
        del var
        distance, patches = judges(torch, arguments.folder)
        against = torch.optim.AdamW(patches.parameters(), lr=1e-5, betas=(0.9, 0.95), fused=True)
    jobs = {"sample": sample, "encode": encode, "decode": decode, "tokenizer": tokenizer,
            "tokenizer-against": tokenizer_against}
    return train if training else jobs[arguments.job]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--reference", "--folder", "--job", "--dtype"):
        parser.add_argument(name, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--preset", default="d16")
    job = job_of(parser.parse_args())
    print("ready", flush=True)
    for _ in sys.stdin:
        begin = time.monotonic()
        check = job()
        print(f"{time.monotonic() - begin:.5f} {check:.6f}", flush=True)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, flush=True)


if __name__ == "__main__":
    main()
