"""The AudioLDM of the small world: the UNet over the latents of mel.py, led by the embedding of a
text by clap.py, whose text tower stays as it is.

    python audioldm.py [--work DIR] [--minutes 25]     train, going on from where it stands
    python audioldm.py --decay 300                     let the rate fall over 300 steps, and end
    python audioldm.py --prompt "a dog"                four sounds, audioldm/prompt.wav and .png
    python audioldm.py --pipeline 1                    write audioldm/export again, of newest parts

diffusers' UNet2DConditionModel, narrow: latents of 32x8, self-attention at 16x4 and in the middle, the
text's embedding, of length 1, beside that of the time; v-prediction (Salimans & Ho 2022), loss weights
of min-SNR-5 (Hang et al. 2023), text dropped once in ten.  Loudness is part of the mel: nothing here
divides it out.  The figures that count are those of evaluate_sounds.py."""
import json
import os
import wave

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AudioLDMPipeline, DDIMScheduler, UNet2DConditionModel
from transformers import (ClapModel, ClapTextModelWithProjection, RobertaTokenizer, SpeechT5HifiGan)

import clap
import hifigan
import mel
import sounds
from common import Training, arguments, generator, sheet, work

WIDTHS = [32, 64, 96]
SCHEDULE = {"num_train_timesteps": 1000, "beta_start": 0.0015, "beta_end": 0.0195,
            "beta_schedule": "scaled_linear", "clip_sample": False, "set_alpha_to_one": False,
            "steps_offset": 1, "prediction_type": "v_prediction"}


def model():
    unet = UNet2DConditionModel(
        sample_size=32, in_channels=mel.CHANNELS, out_channels=mel.CHANNELS,
        down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
        up_block_types=["UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        block_out_channels=WIDTHS, layers_per_block=1, norm_num_groups=8,
        cross_attention_dim=WIDTHS, attention_head_dim=4, class_embed_type="simple_projection",
        projection_class_embeddings_input_dim=clap.WIDTH, class_embeddings_concat=True)
    for name, module in unet.named_modules():
        if name.endswith(("conv2", "conv_out", "to_out.0", "proj_out")):
            torch.nn.init.zeros_(module.weight)        # every branch starts as nothing
            torch.nn.init.zeros_(module.bias)
    with torch.no_grad():                              # an embedding of length 1, heard as if of order 1
        unet.class_embedding.weight *= clap.WIDTH ** 0.5
    return unet.to(memory_format=torch.channels_last)


def text_tower():
    """CLAP's text half as a folder of its own.  It is copied once: CLAP may learn on, the UNet has
    learnt to read this one."""
    folder = work("audioldm", "text_encoder", "x")[:-2]
    if not os.path.exists(folder + "/config.json"):
        whole = ClapModel.from_pretrained(work("clap", "export"))
        tower = ClapTextModelWithProjection(whole.config.text_config)
        tower.text_model.load_state_dict(whole.text_model.state_dict())
        tower.text_projection.load_state_dict(whole.text_projection.state_dict())
        tower.save_pretrained(folder, safe_serialization=True)
    return ClapTextModelWithProjection.from_pretrained(folder).eval().requires_grad_(False)


@torch.no_grad()
def embed(tower, tokenizer, texts):
    ids = tokenizer(texts, padding=True, truncation=True, max_length=clap.LENGTH, return_tensors="pt")
    return F.normalize(tower(**ids).text_embeds, dim=-1)


def tokenizer_of(folder):
    clap.write_tokenizer(folder)
    return RobertaTokenizer.from_pretrained(folder)


def save(unet, folder):
    """The whole pipeline, as diffusers does; before hifigan.py has run, with a vocoder that knows
    nothing."""
    known = os.path.exists(work("hifigan", "export", "config.json"))
    pipe = AudioLDMPipeline(
        vae=mel.trained(), text_encoder=text_tower(), unet=unet, scheduler=DDIMScheduler(**SCHEDULE),
        tokenizer=tokenizer_of(work("audioldm", "tokenizer", "x")[:-2]),
        vocoder=SpeechT5HifiGan.from_pretrained(work("hifigan", "export")) if known else hifigan.model())
    pipe.save_pretrained(folder, safe_serialization=True)
    clap.write_tokenizer(folder + "/tokenizer")
    path = folder + "/vocoder/config.json"             # newer versions of transformers rename the type
    with open(path, encoding="utf-8") as f:
        told = json.load(f) | {"model_type": "hifigan"}
    with open(path, "w", encoding="utf-8") as f:
        json.dump(told, f, indent=2)


def pipeline():
    pipe = AudioLDMPipeline.from_pretrained(work("audioldm", "export"))
    pipe.set_progress_bar_config(disable=True)
    return pipe


@torch.no_grad()
def mels_of(pipe, prompts, seed=1, steps=20, guidance=2.5):
    """Generated mels [n, 256, 64] by the pipeline's own parts, all prompts at once; the latents of
    number i come from seed + i."""
    label = embed(pipe.text_encoder, pipe.tokenizer, [*prompts, ""])
    label = torch.cat([label[-1:].expand(len(prompts), -1), label[:-1]])
    pipe.scheduler.set_timesteps(steps)
    x = torch.cat([torch.randn(1, mel.CHANNELS, mel.FRAMES // 8, mel.BINS // 8,
                               generator=torch.Generator().manual_seed(seed + i))
                   for i in range(len(prompts))])
    for t in pipe.scheduler.timesteps:
        without, led = pipe.unet(torch.cat([x, x]), t, None, class_labels=label).sample.chunk(2)
        x = pipe.scheduler.step(without + guidance * (led - without), t, x).prev_sample
    return torch.cat([pipe.vae.decode(part / pipe.vae.config.scaling_factor).sample[:, 0]
                      for part in x.split(16)])


def waves_of(pipe, mels):
    with torch.no_grad():
        return torch.cat([pipe.vocoder(part) for part in mels.split(8)])[:, :mel.SAMPLES]


def write_wave(samples, path):
    with wave.open(path, "wb") as f:
        f.setnchannels(1)
        f.setsampwidth(2)
        f.setframerate(mel.RATE)
        f.writeframes((samples.clamp(-1, 1) * 32767).short().numpy().tobytes())


class Noise:
    """x_t = alpha x_0 + sigma n;  v = alpha n - sigma x_0."""

    def __init__(self):
        scheduler = DDIMScheduler(**SCHEDULE)
        self.alpha = scheduler.alphas_cumprod.sqrt()[:, None, None, None]
        self.sigma = (1 - scheduler.alphas_cumprod).sqrt()[:, None, None, None]

    def loss(self, unet, x, t, noise, label):
        a, s = self.alpha[t], self.sigma[t]
        v = unet(a * x + s * noise, t, None, class_labels=label, return_dict=False)[0]
        snr = (a / s).flatten() ** 2
        weight = snr.clamp(max=5) / (snr + 1)
        return (weight * (v - (a * noise - s * x)).square().mean((1, 2, 3))).mean()


def main():
    args = arguments(__doc__, steps=1000000, batch=32, rate=1e-3, prompt="", pipeline=0, muon=1)
    if args.prompt:
        pipe = pipeline()
        made = mels_of(pipe, [args.prompt] * 4)
        sheet([[mel.grey(m) for m in made]], work("audioldm", "prompt.png"))
        return write_wave(waves_of(pipe, made).flatten(), work("audioldm", "prompt.wav"))
    torch.manual_seed(0)
    tower, noise = text_tower(), Noise()
    tokenizer = tokenizer_of(work("audioldm", "tokenizer", "x")[:-2])
    latents, scenes = np.load(work("mel_latents.npy"), mmap_mode="r"), mel.scenes_of()
    run = Training("audioldm", model(), args, weight_decay=0.01, export=save, warm=100, every=240,
                   muon=args.muon)
    if args.pipeline:
        return save(run.average, work("audioldm", "export"))
    for step in run.steps():
        rng = generator(6, step)
        at = np.sort(rng.choice(len(latents), args.batch, replace=False))
        mean, deviation = torch.from_numpy(latents[at]).float().chunk(2, 1)
        texts = ["" if rng.random() < 0.1 else
                 sounds.caption(scenes[i], rng, ("en", "fr")[rng.integers(2)]) for i in at]
        x = mean + deviation * torch.randn_like(mean)
        t = torch.from_numpy((rng.random() + np.arange(args.batch) / args.batch) % 1 * 1000).long()
        run.learn(noise.loss(run.model, x, t, torch.randn_like(x), embed(tower, tokenizer, texts)))


if __name__ == "__main__":
    main()
