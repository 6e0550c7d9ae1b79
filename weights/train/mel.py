"""The sounds of the small world as mels, and the autoencoder of mels: 256x64 to 32x8 latents and back.

    python mel.py [--work DIR] --render 10000      render clips to WORLD/clips.npy and their mels, once
    python mel.py --held 400                       clips of held-out scenes, WORLD/held_clips.npy
    python mel.py [--minutes 15]                   train, going on from where it stands
    python mel.py --decay 500                      let the rate fall over 500 steps, and end
    python mel.py --latents 10000                  encode the first mels: WORLD/mel_latents.npy

A clip is 65536 samples at 16 kHz.  Two mels lie beside it, of the same slaney filters: "mels", as
AudioLDM has them, [256,64] natural logarithms of magnitudes, and "decibels", as CLAP has them,
[257,64] of powers.  The autoencoder is diffusers' AutoencoderKL, narrow, f = 8, 8 latent channels,
without attention.  Measured at the end: the absolute error on held-out clips."""
import json
import os
import time

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from common import Training, arguments, generator, sheet, work

RATE, SAMPLES, HOP, FFT, BINS = 16000, 65536, 256, 1024, 64
FRAMES, CROP, CHANNELS = SAMPLES // HOP, 64, 8
FLOOR, MIDDLE = float(np.log(1e-5)), -5.0


def filters():
    from transformers.audio_utils import mel_filter_bank
    bank = mel_filter_bank(FFT // 2 + 1, BINS, 0, RATE / 2, RATE, norm="slaney", mel_scale="slaney")
    return torch.from_numpy(bank).float()


def magnitudes(wave):
    """[n, samples] -> [n, frames, 513], as torch.stft centres frames."""
    return torch.stft(wave, FFT, HOP, window=torch.hann_window(FFT), pad_mode="reflect",
                      return_complex=True).abs().transpose(1, 2)


def drawn(rng, held_out=False):
    """A scene and its waveform; now and then the synthesiser finds no room for a beat: another."""
    import sounds
    import synth
    while True:
        scene = sounds.sample(rng, held_out)
        try:
            return scene, synth.render(scene, rng)
        except ValueError:
            pass


def render(kind, count, held_out=False):
    """count scenes to WORLD/KIND.npy, KIND_mels.npy, KIND_decibels.npy and KIND.jsonl: number i is
    drawn by its own generator; goes on where it stopped."""
    shapes = {"": (np.int16, (count, SAMPLES)), "_mels": (np.float16, (count, FRAMES, BINS)),
              "_decibels": (np.float16, (count, FRAMES + 1, BINS))}
    if not os.path.exists(work(kind + ".npy")):
        for name, (type_, shape) in shapes.items():
            np.lib.format.open_memmap(work(f"{kind}{name}.npy"), "w+", type_, shape).flush()
        open(work(kind + ".jsonl"), "w").close()
    waves, mels, decibels = (np.lib.format.open_memmap(work(f"{kind}{name}.npy"), "r+")
                             for name in shapes)
    bank, first, start = filters(), len(scenes_of(kind)), time.time()
    with open(work(kind + ".jsonl"), "a", encoding="utf-8") as f:
        for i in range(first, count):
            scene, wave = drawn(generator(17 + held_out, i), held_out)
            waves[i] = np.round(32767 * wave)
            size = magnitudes(torch.from_numpy(wave)[None])[0]
            mels[i] = (size[:-1] @ bank).clamp_min(1e-5).log().numpy()
            decibels[i] = (10 * (size ** 2 @ bank).clamp_min(1e-10).log10()).numpy()
            f.write(json.dumps(scene) + "\n")
            if i % 500 == 499:
                f.flush()
                each = (time.time() - start) / (i + 1 - first)
                print(f"{kind}: {i + 1}/{count} {1000 * each:.1f} ms each, "
                      f"left {each * (count - i) / 60:.1f} min", flush=True)


def scenes_of(kind="clips"):
    with open(work(kind + ".jsonl"), encoding="utf-8") as f:
        return [json.loads(line) for line in f if line.endswith("\n")]


def load(part, kind="clips"):
    """(memmap of "mels", "decibels" or "", scenes), as far as they are rendered."""
    scenes = scenes_of(kind)
    return np.load(work(f"{kind}{'_' + part if part else ''}.npy"), mmap_mode="r")[:len(scenes)], scenes


def model():
    vae = AutoencoderKL(
        in_channels=1, out_channels=1, down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4, block_out_channels=[16, 32, 32, 64],
        layers_per_block=1, latent_channels=CHANNELS, norm_num_groups=4, sample_size=FRAMES,
        mid_block_add_attention=False)
    for name, module in vae.named_modules():
        if name.endswith("conv2"):                     # residual branches start as nothing
            torch.nn.init.zeros_(module.weight)
            torch.nn.init.zeros_(module.bias)
    with torch.no_grad():
        vae.quant_conv.weight[CHANNELS:] *= 0.1        # logarithms of the latents' variances
        vae.quant_conv.bias[CHANNELS:] = -6
        vae.decoder.conv_out.bias.fill_(MIDDLE)
    return vae.to(memory_format=torch.channels_last)


def trained():
    """The autoencoder as it was last exported."""
    return AutoencoderKL.from_pretrained(work("mel", "export")).eval().requires_grad_(False)


def tensor(batch):
    """[n, frames, 64] -> [n, 1, frames, 64]"""
    x = torch.from_numpy(np.ascontiguousarray(batch)).float()[:, None]
    return x.contiguous(memory_format=torch.channels_last)


def edges(x):
    return torch.cat([(x[:, :, 1:, :-1] - x[:, :, :-1, :-1]), (x[:, :, :-1, 1:] - x[:, :, :-1, :-1])])


def errors_of(vae, x, noise):
    """Of values, of edges, squared, and the latents' divergence from a normal."""
    mean, logvar = vae.quant_conv(vae.encoder(x)).chunk(2, 1)
    logvar = logvar.clamp(-30, 20)
    back = vae.decoder(vae.post_quant_conv(mean + (0.5 * logvar).exp() * noise))
    kl = 0.5 * (mean ** 2 + logvar.exp() - 1 - logvar).mean()
    return F.l1_loss(back, x), F.l1_loss(edges(back), edges(x)), F.mse_loss(back, x), kl


def save(vae, folder):
    with torch.no_grad():
        seen = load("mels")[0]
        means = torch.cat([vae.encode(tensor(seen[i:i + 16])).latent_dist.mean
                           for i in range(0, 128, 16)])
    vae.register_to_config(scaling_factor=round(1 / means.std().item(), 5))
    vae.save_pretrained(folder, safe_serialization=True)


def grey(x):
    """A mel [frames, 64] as a picture, time to the right."""
    x = (np.asarray(x, np.float32).T[::-1] - FLOOR) / (4 - FLOOR)
    return np.repeat(np.repeat(np.clip(255 * x, 0, 255).astype(np.uint8), 2, 0)[..., None], 3, 2)


@torch.no_grad()
def measure(vae):
    seen, _ = load("mels", "held_clips")
    x = tensor(seen[:128])
    back = torch.cat([vae(x[i:i + 16]).sample for i in range(0, 128, 16)])
    print(f"mel: absolute error {F.l1_loss(back, x):.3f}, of means over a clip "
          f"{(back - x).mean((1, 2, 3)).abs().mean():.3f}, on held-out clips", flush=True)
    sheet([[grey(v[0]) for v in part] for i in range(0, 12, 4)
           for part in (x[i:i + 4].numpy(), back[i:i + 4].numpy())], work("mel", "sheet.png"))


@torch.no_grad()
def encode(count):
    """Means and deviations side by side, scaled, half precision: [n,2C,32,8]."""
    vae = trained().to(memory_format=torch.channels_last)
    seen = load("mels")[0][:count]
    out = np.lib.format.open_memmap(work("mel_latents.npy"), "w+", np.float16,
                                    (len(seen), 2 * CHANNELS, FRAMES // 8, BINS // 8))
    for i in range(0, len(seen), 16):
        d = vae.encode(tensor(seen[i:i + 16])).latent_dist
        both = torch.cat([d.mean, d.std], 1) * vae.config.scaling_factor
        out[i:i + 16] = both.contiguous().half().numpy()
        if i % 1600 == 0:
            print(f"mel: latents {i}/{len(seen)}", flush=True)
    out.flush()


def main():
    args = arguments(__doc__, steps=100000, batch=8, rate=2e-3, latents=0, render=0, held=0)
    if args.render or args.held:
        kind = "held_clips" if args.held else "clips"
        return render(kind, args.render or args.held, held_out=args.held > 0)
    if args.latents:
        return encode(args.latents)
    torch.manual_seed(0)
    vae = model()
    seen, _ = load("mels")
    run = Training("mel", vae, args, keep=0.998, weight_decay=1e-4, export=save, warm=50)
    for step in run.steps():
        rng = generator(4, step)
        batch = np.empty((args.batch, CROP, BINS), np.float16)
        for i in range(args.batch):
            at = rng.integers(FRAMES - CROP + 1)
            batch[i] = seen[rng.integers(len(seen)), at:at + CROP]
        pixel, edge, square, kl = errors_of(
            vae, tensor(batch), torch.randn(args.batch, CHANNELS, CROP // 8, BINS // 8))
        run.learn(pixel + edge + 0.2 * square + 1e-3 * kl, f"value {pixel.item():.3f}")
    measure(run.average)


if __name__ == "__main__":
    main()
