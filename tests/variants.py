"""Models beside SD 1.5 and 2.1, and other ways to store them, beside diffusers: TAESD, another VAE,
tiny UNets, LCM, SD-Turbo, variants and shards.  For developers; the product and `make test` need
neither this file nor Python.

    python tests/variants.py                  writes tests/models/variants
    python tests/variants.py check [FUSION]   every model, random weights in its true structure

    taesd/                 an AutoencoderTiny, 8 wide
    unet/, scheduler/, model_index.json
                           a latent consistency model: a UNet without a middle, told the guidance;
                           its other parts are sd1's
    latents-NAME, picture-NAME
                           diffusers' final latents of RUNS, and two of their pictures"""
import os
import shlex
import subprocess
import sys
import tempfile

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import diffusers
import transformers
import reference
from reference import MODELS, SD1_SCHEDULER, random_weights, read_json, seeded, write_json

FOLDER = f"{MODELS}/variants"
PICTURE, MASK = f"{MODELS}/inpaint/picture.png", f"{MODELS}/inpaint/mask.png"
PROMPT, NEGATIVE = "a photo of a cat", "dark"
# the published files of SimianLuo/LCM_Dreamshaper_v7 and stabilityai/sd-turbo
LCM_SCHEDULER = {
    "_class_name": "LCMScheduler", "_diffusers_version": "0.22.0.dev0", "beta_start": 0.00085,
    "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False,
    "clip_sample_range": 1.0, "dynamic_thresholding_ratio": 0.995, "num_train_timesteps": 1000,
    "original_inference_steps": 50, "prediction_type": "epsilon", "rescale_betas_zero_snr": False,
    "sample_max_value": 1.0, "set_alpha_to_one": True, "steps_offset": 0, "thresholding": False,
    "timestep_scaling": 10.0, "timestep_spacing": "leading", "trained_betas": None}
TURBO_SCHEDULER = {
    "_class_name": "EulerDiscreteScheduler", "_diffusers_version": "0.24.0.dev0",
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "clip_sample": False, "interpolation_type": "linear", "num_train_timesteps": 1000,
    "prediction_type": "epsilon", "sample_max_value": 1.0, "set_alpha_to_one": False,
    "skip_prk_steps": True, "steps_offset": 1, "timestep_spacing": "trailing",
    "timestep_type": "discrete", "trained_betas": None, "use_karras_sigmas": False}
LCM_INDEX = {"_class_name": "LatentConsistencyModelPipeline",
             "scheduler": ["diffusers", "LCMScheduler"]}


# ---- the models --------------------------------------------------------------------------------

def attending(levels):
    return {"down_block_types": ["CrossAttnDownBlock2D"] * levels,
            "up_block_types": ["CrossAttnUpBlock2D"] * levels}


# name: config.json of a UNet, narrow, of the structure of
UNETS = {
    # nota-ai/bk-sdm-base, -small, -tiny and segmind/tiny-sd, nota-ai/bk-sdm-v2-tiny
    "bk-base": reference.unet_config([8, 12, 16, 16], 1, 2, 32, groups=4, sample=8),
    "bk-small": reference.unet_config([8, 12, 16, 16], 1, 2, 32, groups=4, sample=8,
                                      mid_block_type=None),
    "bk-tiny": reference.unet_config([8, 12, 16], 1, 2, 32, groups=4, sample=8,
                                     mid_block_type=None) | attending(3),
    "bk-v2-tiny": reference.unet_config([8, 12, 16], 1, [1, 2, 4], 40, groups=4, sample=8,
                                        mid_block_type=None, use_linear_projection=True)
    | attending(3),
    # SimianLuo/LCM_Dreamshaper_v7
    "lcm": reference.unet_config([8, 12, 16, 16], 2, 2, 32, groups=4, sample=8,
                                 time_cond_proj_dim=256),
    # stabilityai/sd-turbo
    "turbo": reference.unet_config([8, 12, 16, 16], 2, [1, 2, 4, 4], 40, groups=4, sample=8,
                                   use_linear_projection=True),
}


def write_unet(folder, config, seed, dtype=torch.float32):
    model = reference.on_meta(diffusers.UNet2DConditionModel.from_config, config)
    reference.save_model(f"{folder}/unet", "diffusion_pytorch_model", config,
                         random_weights(model, seed, dtype))


def write_vae(folder, kind, config, seed, dtype=torch.float32):
    model = reference.on_meta(kind.from_config, config)
    weights = random_weights(model, seed, dtype)
    for name in weights:                              # ten blocks that add up stay of order one
        if name.endswith(".conv.4.weight"):
            weights[name] *= 0.5
    if kind is diffusers.AutoencoderTiny:
        last = max(int(name.split(".")[2]) for name in weights if name.startswith("decoder"))
        weights[f"decoder.layers.{last}.weight"] *= 0.15
        weights[f"decoder.layers.{last}.bias"] += 0.5
    reference.save_model(folder, "diffusion_pytorch_model", config, weights)


def tiny_config(width, **more):
    return {"_class_name": "AutoencoderTiny", "_diffusers_version": "0.21.0.dev0",
            "act_fn": "relu", "in_channels": 3, "out_channels": 3, "latent_channels": 4,
            "encoder_block_out_channels": [width] * 4, "decoder_block_out_channels": [width] * 4,
            "num_encoder_blocks": [1, 3, 3, 3], "num_decoder_blocks": [3, 3, 3, 1],
            "latent_magnitude": 3, "latent_shift": 0.5, "force_upcast": False,
            "scaling_factor": 1.0, "upsampling_scaling_factor": 2, **more}


def link(folder, source, *names):
    for name in names:
        os.symlink(f"{source}/{name}", f"{folder}/{name}")


def base_of(name):
    return f"{MODELS}/sd2" if name in ("turbo", "bk-v2-tiny") else f"{MODELS}/sd1"


def model_folder(name):
    """UNETS[name] with the parts of sd1 or sd2."""
    folder, base = tempfile.mkdtemp(), base_of(name)
    link(folder, base, "text_encoder", "tokenizer", "vae")
    write_unet(folder, UNETS[name], len(name))
    scheduler = {"lcm": LCM_SCHEDULER, "turbo": TURBO_SCHEDULER}.get(name, SD1_SCHEDULER)
    write_scheduler(folder, scheduler, LCM_INDEX if name == "lcm" else
                    {"scheduler": ["diffusers", scheduler["_class_name"]]})
    return folder


def write_scheduler(folder, scheduler, index):
    os.makedirs(f"{folder}/scheduler", exist_ok=True)
    write_json(f"{folder}/scheduler/scheduler_config.json", scheduler)
    write_json(f"{folder}/model_index.json",
               read_json(f"{MODELS}/sd1/model_index.json") | index)


# ---- diffusers ---------------------------------------------------------------------------------

def pipe_of(folder, kind, vae=None):
    more = {"vae": vae} if vae else {}
    pipe = kind.from_pretrained(folder, dtype=torch.float32, **more)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def open_vae(folder):
    kind = getattr(diffusers, read_json(f"{folder}/config.json")["_class_name"])
    return kind.from_pretrained(folder, dtype=torch.float32)


@torch.no_grad()
def run(folder, kind="StableDiffusionPipeline", vae=None, steps=4, cfg=5.0, strength=None,
        mask=False, seed=7):
    """Final latents [1,C,h,w] and their picture."""
    pipe = pipe_of(folder, getattr(diffusers, kind), open_vae(vae) if vae else None)
    more = {"width": 64, "height": 64}
    if strength:
        more = {"image": Image.open(PICTURE).convert("RGB"), "strength": strength}
    if mask:
        more |= {"mask_image": Image.open(MASK).convert("RGB"), "width": 64, "height": 64}
    if kind != "LatentConsistencyModelPipeline":
        more["negative_prompt"] = NEGATIVE
    z = pipe(PROMPT, num_inference_steps=steps, guidance_scale=cfg, generator=seeded(seed),
             output_type="latent", **more).images
    pixels = pipe.vae.decode(z / pipe.vae.config.scaling_factor).sample
    return z, pipe.image_processor.postprocess(pixels, output_type="pil")[0]


# name: options of run(), of the program
RUNS = {
    "taesd": ({}, ""),
    "taesd-from": ({"kind": "StableDiffusionImg2ImgPipeline", "strength": 0.6},
                   f"-i {PICTURE} --strength 0.6"),
    "taesd-mask": ({"kind": "StableDiffusionInpaintPipeline", "strength": 0.75, "mask": True},
                   f"-i {PICTURE} --mask {MASK} --strength 0.75"),
    "lcm": ({"kind": "LatentConsistencyModelPipeline", "cfg": 8.5}, "--cfg-scale 8.5"),
}


def consistency_folder():
    folder = tempfile.mkdtemp()
    link(folder, FOLDER, "unet", "scheduler", "model_index.json")
    link(folder, f"{MODELS}/sd1", "text_encoder", "tokenizer", "vae")
    return folder


def run_named(name):
    options, _ = RUNS[name]
    if name == "lcm":
        return run(consistency_folder(), **options)
    return run(f"{MODELS}/sd1", vae=f"{FOLDER}/taesd", **options)


def make():
    blocks = {f"num_{half}_blocks": [1, 1, 1, 1] for half in ("encoder", "decoder")}
    write_vae(f"{FOLDER}/taesd", diffusers.AutoencoderTiny, tiny_config(8, **blocks), 41,
              torch.float16)
    write_unet(FOLDER, reference.unet_config([4, 8], 1, 2, 32, groups=4, sample=8,
                                             mid_block_type=None, time_cond_proj_dim=16)
               | attending(2), 42, torch.float16)
    write_scheduler(FOLDER, LCM_SCHEDULER, LCM_INDEX)
    for name in RUNS:
        z, picture = run_named(name)
        save_file({"latents": z.contiguous()}, f"{FOLDER}/latents-{name}.safetensors")
        if name in ("taesd", "taesd-from"):
            picture.save(f"{FOLDER}/picture-{name}.png")
        pixels = np.asarray(picture)
        print(name, f"latents {z.std():.2f}, pixels {pixels.mean():.0f} +- {pixels.std():.0f}, "
              f"{((pixels == 0) | (pixels == 255)).mean():.0%} at the ends")


# ---- beside the program ------------------------------------------------------------------------

def fusion(program, folder, words, vae=None):
    scratch = tempfile.mkdtemp()
    command = [program, "image", "-m", folder, "-q", "-t", "1", "-p", PROMPT, "-n", NEGATIVE,
               "--seed", "7", "-W", "64", "-H", "64", "-o", f"{scratch}/p.png", "--save-latents",
               f"{scratch}/z.safetensors", *(["--vae", vae] if vae else []), *shlex.split(words)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(shlex.join(command) + "\n" + done.stderr)
    return load_file(f"{scratch}/z.safetensors")["latents"], Image.open(f"{scratch}/p.png")


worst = {}


def compare(row, name, got, want, white=None):
    (z, p), (z0, p0) = got, want
    off = ((z - z0).abs().max() / z0.abs().max()).item()
    gap = abs(np.asarray(p).astype(int) - np.asarray(p0).astype(int))
    step = int((gap if white is None else gap[white]).max())
    print(f"{off:.1e} {step} {name}")
    old = worst.get(row, (0, 0))
    worst[row] = max(old[0], off), max(old[1], step)


def check_vaes(program):
    white = np.asarray(Image.open(MASK).convert("L")) >= 128
    scratch = tempfile.mkdtemp()
    write_vae(f"{scratch}/wide", diffusers.AutoencoderTiny, tiny_config(64), 43)
    write_vae(f"{scratch}/other", diffusers.AutoencoderTiny,
              tiny_config(16, scaling_factor=0.7, num_encoder_blocks=[2, 1, 2, 1],
                          num_decoder_blocks=[1, 2, 1, 2]), 44)
    write_vae(f"{scratch}/kl", diffusers.AutoencoderKL,
              reference.vae_config([8, 16, 16, 16], 2, groups=8, sample=64, scaling_factor=0.13025,
                                   force_upcast=False), 45)
    for name in RUNS:
        for vae in [f"{FOLDER}/taesd"] + [f"{scratch}/{v}" for v in ("wide", "other", "kl")]:
            if not name.startswith("taesd"):
                continue
            options, words = RUNS[name]
            row = "another VAE" if vae.endswith("kl") else "TAESD"
            compare(row, f"{os.path.basename(vae)} {name}",
                    fusion(program, f"{MODELS}/sd1", f"--steps 4 --cfg-scale 5 {words}", vae),
                    run(f"{MODELS}/sd1", vae=vae, **options),
                    white if "mask" in name else None)


def check_unets(program):
    rows = {"lcm": "LCM", "turbo": "SD-Turbo"}
    for name in UNETS:
        folder = model_folder(name)
        cases = [(4, 5.0), (7, 1.0)]
        if name == "turbo":
            cases = [(1, 0.0), (2, 1.0), (4, 0.0), (4, 2.0)]
        if name == "lcm":
            cases = [(1, 1.0), (4, 8.5), (8, 2.0)]
        kind = "LatentConsistencyModelPipeline" if name == "lcm" else "StableDiffusionPipeline"
        for steps, cfg in cases:
            compare(rows.get(name, "tiny UNets"), f"{name} {steps} steps, guidance {cfg}",
                    fusion(program, folder, f"--steps {steps} --cfg-scale {cfg}"),
                    run(folder, kind, steps=steps, cfg=cfg))
        if name == "lcm":
            # as every picture to picture: the last int(steps * strength) steps; the pipeline of
            # its own, LatentConsistencyModelImg2ImgPipeline, spreads all steps below the strength
            compare("LCM", "lcm from a picture",
                    fusion(program, folder, f"--steps 4 --cfg-scale 8.5 -i {PICTURE} --strength 0.6"),
                    run(folder, "StableDiffusionImg2ImgPipeline", steps=4, cfg=8.5, strength=0.6))


# ---- other ways to store one model --------------------------------------------------------------

def stored_folder(way):
    """sd1 again: as a variant fp16, in shards, or with the text encoder's names bare."""
    folder, base = tempfile.mkdtemp(), f"{MODELS}/sd1"
    link(folder, base, "tokenizer", "scheduler", "model_index.json")
    parts = {"unet": diffusers.UNet2DConditionModel, "vae": diffusers.AutoencoderKL,
             "text_encoder": transformers.CLIPTextModel}
    for part, kind in parts.items():
        if way == "bare":
            link(folder, base, *([part] if part != "text_encoder" else []))
            continue
        model = kind.from_pretrained(f"{base}/{part}", dtype=torch.float16)
        more = {"variant": "fp16"} if way != "shards" else {}
        size = "40KB" if way != "fp16" else "1GB"
        model.save_pretrained(f"{folder}/{part}", max_shard_size=size, **more)
    if way == "bare":
        os.makedirs(f"{folder}/text_encoder")
        os.symlink(f"{base}/text_encoder/config.json", f"{folder}/text_encoder/config.json")
        weights = load_file(f"{base}/text_encoder/model.safetensors")
        save_file({name.removeprefix("text_model."): t for name, t in weights.items()},
                  f"{folder}/text_encoder/model.safetensors")
    return folder


def check_layouts(program):
    want = run(f"{MODELS}/sd1")
    for way in "fp16", "shards", "fp16 shards", "bare":
        folder = stored_folder(way)
        files = sorted(f for _, _, names in os.walk(folder) for f in names if "safetensors" in f)
        print("   ", ", ".join(dict.fromkeys(files))[:150])
        compare("layouts of folders", way, fusion(program, folder, "--steps 4 --cfg-scale 5"), want)


def check(program):
    for part in check_vaes, check_unets, check_layouts:
        part(program)
    for row, (off, step) in worst.items():
        print(f"{row}: {off:.1e} of the largest latent, {step} of 255")
    return any(off > 1e-4 or step > 1 for off, step in worst.values())


if __name__ == "__main__":
    if sys.argv[1:2] == ["check"]:
        sys.exit(int(check((sys.argv[2:] or ["./fusion"])[0])))
    make()
