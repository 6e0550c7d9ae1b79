"""The picture autoencoder of the small world: 128x128 pixels to 16x16 latents and back.

    python vae.py [--work DIR] [--minutes 20]      train, going on from where it stands
    python vae.py --decay 500                      let the rate fall over 500 steps, and end
    python vae.py --latents 20000                  encode the first pictures: WORLD/latents.npy
    python vae.py --decoder 1                      from here, learn the decoder alone: latents stay

diffusers' AutoencoderKL, narrow, f = 8, 8 latent channels, without attention (it learns on crops of
64x64 and must serve 128).  Few groups in the norms: with a group for each channel a picture's mean
colour cannot pass, and nothing is learnt.  For the same reason the latents start nearly without
noise.  The loss: absolute error of pixels and of their differences (edges), squares, a little
divergence.  Measured at the end: PSNR on held-out scenes.  scaling_factor is 1 over the latents'
deviation, written into config.json."""
import os

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from common import Training, arguments, generator, pictures, sheet, work

CHANNELS = 8


def model():
    vae = AutoencoderKL(
        in_channels=3, out_channels=3, down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4, block_out_channels=[16, 16, 32, 64],
        layers_per_block=1, latent_channels=CHANNELS, norm_num_groups=4, sample_size=128,
        mid_block_add_attention=False)
    for name, module in vae.named_modules():
        if name.endswith("conv2"):                     # residual branches start as nothing
            torch.nn.init.zeros_(module.weight)
            torch.nn.init.zeros_(module.bias)
    with torch.no_grad():
        vae.quant_conv.weight[CHANNELS:] *= 0.1        # logarithms of the latents' variances
        vae.quant_conv.bias[CHANNELS:] = -6
    return vae.to(memory_format=torch.channels_last)


def pixels(batch):
    x = torch.from_numpy(np.ascontiguousarray(batch)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return x.contiguous(memory_format=torch.channels_last)


def edges(x):
    return torch.cat([(x[:, :, 1:, :-1] - x[:, :, :-1, :-1]), (x[:, :, :-1, 1:] - x[:, :, :-1, :-1])])


def errors_of(vae, x, noise):
    """Of pixels, of edges, squared, and the latents' divergence from a normal."""
    mean, logvar = vae.quant_conv(vae.encoder(x)).chunk(2, 1)
    logvar = logvar.clamp(-30, 20)
    back = vae.decoder(vae.post_quant_conv(mean + (0.5 * logvar).exp() * noise))
    kl = 0.5 * (mean ** 2 + logvar.exp() - 1 - logvar).mean()
    return F.l1_loss(back, x), F.l1_loss(edges(back), edges(x)), F.mse_loss(back, x), kl


def crops(seen, rng, count, side):
    """From few pictures, several crops each: reading is slow, cropping is not."""
    out = np.empty((count, side, side, 3), np.uint8)
    for i in range(count):
        if i % 2 == 0:
            whole = seen[rng.integers(len(seen))]
        y, x = rng.integers(0, whole.shape[0] - side + 1, 2)
        out[i] = whole[y:y + side, x:x + side]
        if rng.random() < 0.5:
            out[i] = out[i][:, ::-1]
    return out


def scaling(vae, seen):
    with torch.no_grad():
        means = torch.cat([vae.encode(pixels(seen[i:i + 16])).latent_dist.mean
                           for i in range(0, 256, 16)])
    return 1 / means.std().item()


def save(vae, folder):
    vae.register_to_config(scaling_factor=round(scaling(vae, pictures()[0]), 5))
    vae.save_pretrained(folder, safe_serialization=True)


@torch.no_grad()
def measure(vae):
    seen, _ = pictures("held_out")
    x = pixels(seen[:128])
    back = torch.cat([vae(x[i:i + 16]).sample for i in range(0, 128, 16)]).clamp(-1, 1)
    error = F.mse_loss(back, x, reduction="none").mean((1, 2, 3)) / 4
    print(f"vae: PSNR {(-10 * error.log10()).mean():.1f} dB on held-out scenes", flush=True)
    rows = [list(seen[:8]), list(((back[:8] + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())]
    sheet(rows, work("vae", "sheet.png"))


@torch.no_grad()
def encode(count):
    """Means and deviations side by side, scaled, half precision: [n,2C,16,16].  What is there
    already stays; a larger count goes on from it."""
    vae = AutoencoderKL.from_pretrained(work("vae", "export")).eval()
    vae.to(memory_format=torch.channels_last)
    seen, _ = pictures()
    old = np.load(work("latents.npy")) if os.path.exists(work("latents.npy")) else []
    parts = [old] if len(old) else []
    for i in range(len(old), count, 32):
        d = vae.encode(pixels(seen[i:i + 32])).latent_dist
        both = torch.cat([d.mean, d.std], 1) * vae.config.scaling_factor
        parts.append(both.contiguous().half().numpy())
        if i % 1600 == 0:
            print(f"vae: latents {i}/{count}", flush=True)
    np.save(work("latents.new.npy"), np.concatenate(parts))
    os.replace(work("latents.new.npy"), work("latents.npy"))


def main():
    args = arguments(__doc__, steps=100000, batch=8, rate=2e-3, crop=64, latents=0, decoder=0,
                     muon=1)
    if args.latents:
        return encode(args.latents)
    torch.manual_seed(0)
    vae = model()
    seen, _ = pictures()
    if args.decoder:
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)
    run = Training("vae", vae, args, keep=0.998, weight_decay=1e-4, export=save,
                   muon=args.muon)
    if args.decoder:                                   # the latents in use are the average's
        vae.load_state_dict(run.average.state_dict())
    side = args.crop
    for step in run.steps():
        x = pixels(crops(seen, generator(2, step), args.batch, side))
        noise = torch.randn(len(x), CHANNELS, side // 8, side // 8)
        pixel, edge, square, kl = errors_of(vae, x, noise)
        run.learn(pixel + edge + square + 2e-4 * kl, f"pixel {pixel.item():.4f}")
    measure(run.average)


if __name__ == "__main__":
    main()
