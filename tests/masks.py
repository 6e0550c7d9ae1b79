"""Repainting, tiles, variations and maps beside diffusers.  For developers; the product and
`make test` need neither this file nor Python.

    python tests/masks.py                  writes tests/models/inpaint
    python tests/masks.py check [FUSION]   every sampler, strengths, tiles, variations, maps

    unet, model_index.json                 a small UNet of 9 channels; its other parts are sd1's
    picture.png, mask.png, wide-mask.png   64x64; the last is of another size
    latents-NAME, picture-NAME             diffusers' final latents and picture of RUNS"""
import functools
import os
import subprocess
import sys
import tempfile

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import diffusers
import reference
from reference import MODELS, SAMPLERS, load_pipe, random_weights, seeded

FOLDER = f"{MODELS}/inpaint"
PROMPT, NEGATIVE = "a photo of a cat", "dark"
# name: model, method, strength, steps
RUNS = {"ddim": ("sd1", "ddim", 0.75, 4), "whole": ("sd1", "euler_a", 1.0, 4),
        "nine": ("inpaint", "ddim", 0.75, 4), "nine-whole": ("inpaint", "euler_a", 1.0, 4)}


def make_model():
    """Two levels, cross attention in the first and in the middle."""
    config = reference.unet_config([8, 12], 1, 2, 32, groups=4, sample=8, in_channels=9)
    model = reference.on_meta(diffusers.UNet2DConditionModel.from_config, config)
    reference.save_model(f"{FOLDER}/unet", "diffusion_pytorch_model", config,
                         random_weights(model, 31, torch.float16))
    index = reference.read_json(f"{MODELS}/sd1/model_index.json")
    reference.write_json(f"{FOLDER}/model_index.json",
                         index | {"_class_name": "StableDiffusionInpaintPipeline"})


def make_pictures():
    Image.fromarray(reference.draw(64, 64, 5)).save(f"{FOLDER}/picture.png")
    y, x = np.mgrid[0:64, 0:64]
    white = ((x - 30) ** 2 + (y - 36) ** 2 < 20 ** 2) * 255
    mask = Image.fromarray(white.astype(np.uint8))
    mask.save(f"{FOLDER}/mask.png")
    Image.fromarray(((x + y) % 64 * 4).astype(np.uint8)).resize((50, 40)).save(
        f"{FOLDER}/wide-mask.png")


def folder_of(model):
    """inpaint's missing parts are sd1's."""
    if model != "inpaint":
        return f"{MODELS}/{model}"
    folder = tempfile.mkdtemp()
    for name in "unet", "model_index.json":
        os.symlink(f"{FOLDER}/{name}", f"{folder}/{name}")
    for name in "scheduler", "text_encoder", "tokenizer", "vae":
        os.symlink(f"{MODELS}/sd1/{name}", f"{folder}/{name}")
    return folder


@torch.no_grad()
def repaint(folder, method, schedule, strength, steps, mask="mask", cfg=5, seed=7):
    """Final latents [1,C,h,w] and their picture."""
    pipe = load_pipe(folder, diffusers.StableDiffusionInpaintPipeline, method, schedule)
    z = pipe(PROMPT, image=Image.open(f"{FOLDER}/picture.png").convert("RGB"),
             mask_image=Image.open(f"{FOLDER}/{mask}.png").convert("RGB"),
             negative_prompt=NEGATIVE, num_inference_steps=steps, strength=strength, width=64,
             height=64, guidance_scale=cfg, generator=seeded(seed), output_type="latent").images
    pixels = pipe.vae.decode(z / pipe.vae.config.scaling_factor).sample
    return z, pipe.image_processor.postprocess(pixels, output_type="pil")[0]


def make():
    os.makedirs(FOLDER, exist_ok=True)
    make_model()
    make_pictures()
    for name, (model, method, strength, steps) in RUNS.items():
        z, picture = repaint(folder_of(model), method, "discrete", strength, steps)
        save_file({"latents": z.contiguous()}, f"{FOLDER}/latents-{name}.safetensors")
        picture.save(f"{FOLDER}/picture-{name}.png")
    z, _ = repaint(folder_of("sd1"), "ddim", "discrete", 0.75, 4, mask="wide-mask")
    save_file({"latents": z.contiguous()}, f"{FOLDER}/latents-wide.safetensors")
    save_file({"latents": tiled("ddim", 4)}, f"{FOLDER}/latents-tiles.safetensors")
    save_file({"latents": varied("ddim", 4, 0.3)}, f"{FOLDER}/latents-varied.safetensors")
    save_file({"latents": varied("ddim", 4, 0.3, 5, 11)}, f"{FOLDER}/latents-placed.safetensors")
    shares = word_shares(4)
    save_file({"shares": shares}, f"{FOLDER}/shares.safetensors")
    print("shares of the words:", [f"{s:.4f}" for s in shares.mean((1, 2))])


# ---- the other options -------------------------------------------------------------------------

def plain(pipe, method, steps, **more):
    return pipe(PROMPT, negative_prompt=NEGATIVE, num_inference_steps=steps, guidance_scale=5,
                width=64, height=64, output_type="latent", **({"generator": seeded(7)} | more))


@torch.no_grad()
def tiled(method, steps):
    """Every convolution with padding goes around the edges."""
    pipe = load_pipe(f"{MODELS}/sd1", diffusers.StableDiffusionPipeline, method)
    for module in [*pipe.unet.modules(), *pipe.vae.modules()]:
        if isinstance(module, torch.nn.Conv2d) and module.padding != (0, 0):
            module.padding_mode = "circular"
            module._reversed_padding_repeated_twice = [p for p in module.padding[::-1] for _ in "ab"]
    return plain(pipe, method, steps).images


def slerp(part, low, high):
    """stable-diffusion-webui's formula on [C,H,W]: angles of columns."""
    dot = (low / low.norm(dim=1, keepdim=True) * (high / high.norm(dim=1, keepdim=True))).sum(1)
    omega = torch.acos(dot)
    so = torch.sin(omega)
    return (torch.sin((1 - part) * omega) / so).unsqueeze(1) * low + (
        torch.sin(part * omega) / so).unsqueeze(1) * high


def placed(noise, around):
    """stable-diffusion-webui's rule: margins are halves rounded down, negative ones are cut from
    both sides."""
    x, (h, w) = around.clone(), noise.shape[1:]
    down, right = (around.shape[1] - h) // 2, (around.shape[2] - w) // 2
    h, w = h + 2 * min(down, 0), w + 2 * min(right, 0)
    to_y, to_x, y0, x0 = max(down, 0), max(right, 0), max(-down, 0), max(-right, 0)
    x[:, to_y:to_y + h, to_x:to_x + w] = noise[:, y0:y0 + h, x0:x0 + w]
    return x


@torch.no_grad()
def varied(method, steps, part, w=8, h=8):
    """From the noise of two seeds, of a picture of w x h latents."""
    pipe = load_pipe(f"{MODELS}/sd1", diffusers.StableDiffusionPipeline, method)
    low, high = (torch.randn(4, h, w, generator=seeded(s)) for s in (7, 11))
    noise = placed(slerp(part, low, high), torch.randn(4, 8, 8, generator=seeded(7)))
    return plain(pipe, method, steps, latents=noise[None]).images


class Recorder:
    """An attention processor that adds up softmax(q k^T / sqrt(d)) of cross attention."""

    def __init__(self, sums):
        self.sums = sums

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, **_):
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        q, k, v = attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context)
        q, k, v = (t.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for t in (q, k, v))
        p = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(-1)
        if encoder_hidden_states is not None:
            side = int(p.shape[2] ** 0.5)
            shares = p[-1].mean(0).T.reshape(-1, side, side)                  # [77,h,w]
            self.sums.append(torch.nn.functional.interpolate(shares[None], size=(8, 8),
                                                             mode="bilinear")[0])
        out = (p @ v).transpose(1, 2).flatten(2)
        return attn.to_out[1](attn.to_out[0](out))


@torch.no_grad()
def word_shares(steps):
    """[words,8,8] of PROMPT: tokens of one word added."""
    pipe = load_pipe(f"{MODELS}/sd1", diffusers.StableDiffusionPipeline, "ddim")
    sums = []
    pipe.unet.set_attn_processor(Recorder(sums))
    plain(pipe, "ddim", steps)
    mean = torch.stack(sums).mean(0)
    pieces = pipe.tokenizer.tokenize(PROMPT)
    words, first = [], 0
    for i, piece in enumerate(pieces):
        if piece.endswith("</w>"):
            words.append(mean[1 + first:2 + i].sum(0))
            first = i + 1
    return torch.stack(words).contiguous()


# ---- beside the program ------------------------------------------------------------------------

def fusion(program, folder, *words):
    scratch = tempfile.mkdtemp()
    command = [program, "image", "-m", folder, "-q", "-t", "1", "-p", PROMPT, "-n", NEGATIVE,
               "--seed", "7", "--cfg-scale", "5", "-W", "64", "-H", "64", "-o", f"{scratch}/p.png",
               "--save-latents", f"{scratch}/z.safetensors", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(" ".join(command) + "\n" + done.stderr)
    return load_file(f"{scratch}/z.safetensors")["latents"], np.array(Image.open(f"{scratch}/p.png"))


def off(got, want):
    return ((got - want).abs().max() / want.abs().max()).item()


def check(program):
    worst, most = 0, 0
    picture = np.array(Image.open(f"{FOLDER}/picture.png").convert("RGB"))
    white = np.array(Image.open(f"{FOLDER}/mask.png").convert("L")) >= 128
    for model in "sd1", "inpaint":
        folder = folder_of(model)
        for method, schedule in reference.EVERY_SAMPLER:
            for strength, steps in (0.6, 7), (1.0, 4):
                z, p = repaint(folder, method, schedule, strength, steps)
                got, pixels = fusion(program, folder, "-i", f"{FOLDER}/picture.png", "--mask",
                                     f"{FOLDER}/mask.png", "--strength", strength, "--steps",
                                     steps, "--sampling-method", method, "--schedule", schedule)
                step = abs(pixels.astype(int) - np.array(p).astype(int))[white].max()
                assert (pixels[~white] == picture[~white]).all(), "outside the mask"
                print(f"{off(got, z):.1e} {step} {model} {method} {schedule} {strength}")
                worst, most = max(worst, off(got, z)), max(most, step)
    ours = ["--sampling-method", "ddim", "--steps", 4]
    for name, more in ("tiles", ["--tiling"]), ("varied", ["--variation-seed", 11,
                                                           "--variation-strength", 0.3]), (
            "placed", ["--variation-seed", 11, "--variation-strength", 0.3, "--noise-size",
                       "40x88"]):
        got, _ = fusion(program, f"{MODELS}/sd1", *ours, *more)
        want = load_file(f"{FOLDER}/latents-{name}.safetensors")["latents"]
        print(f"{off(got, want):.1e} {name}")
        worst = max(worst, off(got, want))
    print(f"worst {worst:.1e} of the largest latent, {most} of 255")
    return worst > 1e-4 or most > 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["check"]:
        sys.exit(int(check((sys.argv[2:] or ["./fusion"])[0])))
    make()
