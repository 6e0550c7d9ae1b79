"""The Stable Diffusion of the small world: the UNet over the latents of vae.py, led by the text
tower of clip.py, which stays as it is.

    python sd.py [--work DIR] [--minutes 60]       train, going on from where it stands
    python sd.py --decay 1500                      let the rate fall over 1500 steps, and end
    python sd.py --sheet 1                         a contact sheet of held-out scenes, sd/sheet.png
    python sd.py --prompt "a cabin"                one picture, sd/prompt.png

diffusers' UNet2DConditionModel, narrow: 16x16 latents, attention at 8x8 and in the middle,
v-prediction (Salimans & Ho 2022) with all times weighted alike: the noisiest decide what is where,
and a short training must not slight them.  Text is dropped once in ten; a third of the captions get
words that mean nothing, or the wordings that were never seen would draw things of their own.  English
needs more of the captions than French to be understood as well.
The figures that count are those of evaluate_pictures.py."""
import os

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import (AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel)
from transformers import CLIPModel, CLIPTextModel

import tokens
import world
from common import Training, arguments, generator, pictures, sheet, work

LENGTH = 32                    # tokens of a prompt; captions have 11, one in a hundred 24
SCHEDULE = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012,
            "beta_schedule": "scaled_linear", "clip_sample": False, "set_alpha_to_one": False,
            "steps_offset": 1, "prediction_type": "v_prediction"}


def model(channels):
    unet = UNet2DConditionModel(
        sample_size=16, in_channels=channels, out_channels=channels,
        down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
        up_block_types=["UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        block_out_channels=[32, 64, 128], layers_per_block=1, norm_num_groups=8,
        cross_attention_dim=128, attention_head_dim=4)
    for name, module in unet.named_modules():
        if name.endswith(("conv2", "conv_out", "to_out.0", "proj_out")):
            torch.nn.init.zeros_(module.weight)        # every branch starts as nothing
            torch.nn.init.zeros_(module.bias)
    return unet.to(memory_format=torch.channels_last)


def text_tower():
    """CLIP's text half as a folder of its own.  It is copied once: CLIP may learn on, the UNet
    has learnt to read this one."""
    folder = work("sd", "text_encoder", "x")[:-2]
    if os.path.exists(folder + "/config.json"):
        return CLIPTextModel.from_pretrained(folder).eval().requires_grad_(False)
    whole = CLIPModel.from_pretrained(work("clip", "export"))
    tower = CLIPTextModel(whole.config.text_config)
    names = {n.removeprefix("text_model."): t for n, t in whole.text_model.state_dict().items()}
    wanted = tower.state_dict()
    tower.load_state_dict({n: names[n.removeprefix("text_model.")] for n in wanted})
    tower.save_pretrained(folder, safe_serialization=True)
    return tower.eval().requires_grad_(False)


def contexts(tower, tokenizer, texts):
    ids = tokenizer(texts, padding="max_length", truncation=True, max_length=LENGTH,
                    return_tensors="pt").input_ids
    with torch.no_grad():
        return tower(ids).last_hidden_state


def save(unet, folder):
    """The whole pipeline, as diffusers does."""
    tokenizer = tokens.load("clip")
    tokenizer.model_max_length = LENGTH
    pipe = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(work("vae", "export")), unet=unet, tokenizer=tokenizer,
        text_encoder=CLIPTextModel.from_pretrained(work("sd", "text_encoder", "x")[:-2]),
        scheduler=DDIMScheduler(**SCHEDULE), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False)
    pipe.save_pretrained(folder, safe_serialization=True)


def pipeline():
    pipe = StableDiffusionPipeline.from_pretrained(work("sd", "export"))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe, prompts, seed=1, steps=20, guidance=5.0):
    out = pipe(prompts, num_inference_steps=steps, guidance_scale=guidance, output_type="np",
               generator=torch.Generator().manual_seed(seed)).images
    return list((out * 255).round().astype(np.uint8))


def held_out_sheet(count=24):
    pipe, rows, said = pipeline(), [], []
    for i in range(count):
        scene = world.sample(generator(11, i), True)
        said.append(world.caption(scene, generator(12, i), ("en", "fr")[i % 2], True))
        rows += draw(pipe, [said[-1]], i)
    sheet([rows[i:i + 6] for i in range(0, count, 6)], work("sd", "sheet.png"))
    for i, text in enumerate(said):
        print(f"{i // 6 + 1}.{i % 6 + 1}  {text}")


class Noise:
    """x_t = alpha x_0 + sigma n;  v = alpha n - sigma x_0."""

    def __init__(self):
        scheduler = DDIMScheduler(**SCHEDULE)
        self.alpha = scheduler.alphas_cumprod.sqrt()[:, None, None, None]
        self.sigma = (1 - scheduler.alphas_cumprod).sqrt()[:, None, None, None]

    def loss(self, unet, x, t, noise, context):
        a, s = self.alpha[t], self.sigma[t]
        v = unet(a * x + s * noise, t, context, return_dict=False)[0]
        return F.mse_loss(v, a * noise - s * x)


def main():
    args = arguments(__doc__, steps=1000000, batch=32, rate=2e-3, sheet=0, prompt="", muon=1,
                     english=0.68)
    if args.sheet:
        return held_out_sheet(24)
    if args.prompt:
        return sheet([draw(pipeline(), [args.prompt] * 4)], work("sd", "prompt.png"))
    torch.manual_seed(0)
    tokenizer, tower, noise = tokens.load("clip"), text_tower(), Noise()
    latents, scenes = np.load(work("latents.npy"), mmap_mode="r"), pictures()[1]
    unet = model(latents.shape[1] // 2)
    run = Training("sd", unet, args, weight_decay=0.01, export=save, warm=100, every=240,
                   muon=args.muon)
    for step in run.steps():
        rng = generator(3, step)
        at = np.sort(rng.choice(len(latents), args.batch, replace=False))
        mean, deviation = torch.from_numpy(latents[at]).float().chunk(2, 1)
        texts = ["" if rng.random() < 0.1 else
                 world.caption(scenes[i], rng, ("en", "fr")[rng.random() > args.english]) for i in at]
        texts = [world.strange(text, rng) if text and rng.random() < 0.35 else text for text in texts]
        x = mean + deviation * torch.randn_like(mean)
        even = (rng.random() + np.arange(args.batch) / args.batch) % 1
        t = torch.from_numpy(1000 * even).long()
        run.learn(noise.loss(unet, x, t, torch.randn_like(x),
                             contexts(tower, tokenizer, texts)))


if __name__ == "__main__":
    main()
