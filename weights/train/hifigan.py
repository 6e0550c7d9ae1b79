"""HiFi-GAN of the small world: from mels to samples.

    python hifigan.py [--work DIR] [--minutes 20]      train, going on from where it stands
    python hifigan.py --judged 1                       with discriminators beside the spectra
    python hifigan.py --worn 600                       half of the mels went through the mel VAE
    python hifigan.py --decay 300                      let the rate fall over 300 steps, and end

transformers' SpeechT5HifiGan, narrow: 256 samples a frame in four steps of 4.  First it learns from
spectra alone, at three resolutions and the mel's own: the shortest window, 4 ms, hears a buzz at the
frame rate.  No window is longer than 32 ms: what resolves pitch finer than the mel does punishes
every tone that the generator cannot place, and teaches it to be silent instead (measured: birds and
sirens 20 dB too low).  Then three small discriminators, each looking at a spectrogram of its own
resolution, teach it that noise is rough.  The generator has no noise of its own: roughness comes from
the mel's.  Measured at the end on held-out clips: the error of the mel of what it made, its level
against the true one, and spectral flatness of both.  Needs the clips of `mel.py --render`."""
import os

import numpy as np
import torch
import torch.nn.functional as F
from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

import mel
from common import Training, arguments, generator, work

SEGMENT, EDGE = 32, 2                          # frames; so many at either end are not judged
WINDOWS = [64, 256, 512]
RATES = [4, 4, 4, 4]
MEL = 3                                        # weight of the mel's error


def model():
    g = SpeechT5HifiGan(SpeechT5HifiGanConfig(
        model_in_dim=mel.BINS, sampling_rate=mel.RATE, upsample_initial_channel=128,
        upsample_rates=RATES, upsample_kernel_sizes=[2 * r for r in RATES],
        resblock_kernel_sizes=[3, 7], resblock_dilation_sizes=[[1, 3]] * 2, normalize_before=True))
    for name, p in g.named_parameters():       # a signal of order one all the way through
        if p.dim() < 3:
            torch.nn.init.zeros_(p)
        elif "upsampler" in name:              # [in,out,k], two taps meet at each sample
            torch.nn.init.normal_(p, 0, (2 / (2 * p.shape[0])) ** 0.5)
        else:
            gain = 0.3 if "convs2" in name else 0.1 if "conv_post" in name else 1.4
            torch.nn.init.normal_(p, 0, gain / p[0].numel() ** 0.5)
    return g


# ---- what it is measured by --------------------------------------------------------------------

def spectrum(x, n):
    """[b, samples] -> magnitudes [b, frames, n/2+1], of unit noise about 1."""
    window = torch.hann_window(n)
    z = torch.stft(x, n, n // 4, window=window, center=False, return_complex=True)
    return (z.real ** 2 + z.imag ** 2 + 1e-9).sqrt().transpose(1, 2) / window.square().sum().sqrt()


def inside(x):
    return x[:, EDGE * mel.HOP:x.shape[1] - EDGE * mel.HOP]


def spectral_loss(made, true, bank):
    loss = 0
    for n in WINDOWS:
        a, b = spectrum(made, n), spectrum(true, n)
        far = (a - b).square().sum((1, 2)).sqrt() / (b.square().sum((1, 2)).sqrt() + 0.02)
        near = ((a + 1e-4).log() - (b + 1e-4).log()).abs().mean()
        loss = loss + near + 0.5 * far.clamp(max=3).mean()
    a, b = ((mel.magnitudes(x) @ bank).clamp_min(1e-5).log() for x in (made, true))
    return loss / len(WINDOWS) + MEL * (a - b).abs().mean()


class Judge(torch.nn.Module):
    """Sees a spectrogram, says for each of its regions whether it is real; gives its features too."""

    def __init__(self, window, width=16):
        super().__init__()
        self.window = window
        sizes = [1, width, width, 2 * width, 2 * width]
        self.convs = torch.nn.ModuleList(
            torch.nn.utils.parametrizations.weight_norm(torch.nn.Conv2d(a, b, (3, 5), (1 if i % 2
                else 2, 2), (1, 2))) for i, (a, b) in enumerate(zip(sizes, sizes[1:])))
        self.last = torch.nn.Conv2d(sizes[-1], 1, 3, padding=1)

    def forward(self, x):
        x = 0.5 * (spectrum(x, self.window) + 1e-4).log()[:, None] + 1.5
        features = []
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.1)
            features.append(x)
        return self.last(x), features


class Judges(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.judges = torch.nn.ModuleList(Judge(n) for n in (128, 512, 1024))

    def forward(self, x):
        return [judge(x) for judge in self.judges]


def against(judged_true, judged_made):
    """The judges' loss: 1 for the true, 0 for the made."""
    return sum((1 - t).square().mean() + m.square().mean()
               for (t, _), (m, _) in zip(judged_true, judged_made)) / len(judged_true)


def in_favour(judged_true, judged_made):
    """The generator's loss: to pass for true, with features like the true sound's."""
    passed = alike = 0
    for (_, true), (said, made) in zip(judged_true, judged_made):
        passed = passed + (1 - said).square().mean()
        alike = alike + sum((t.detach() - m).abs().mean() / (t.detach().abs().mean() + 0.01)
                            for t, m in zip(true, made)) / len(true)
    return (passed + 2 * alike) / len(judged_true)


# ---- data --------------------------------------------------------------------------------------

def worn_mels(count):
    """The first mels as the autoencoder gives them back: what the generator will meet."""
    path = work(f"worn_mels_{count}.npy")
    if not os.path.exists(path):
        vae, (mels, _) = mel.trained(), mel.load("mels")
        torch.manual_seed(5)
        with torch.no_grad():
            worn = [vae.decode(vae.encode(torch.from_numpy(np.asarray(mels[i:i + 8])).float()[:, None])
                               .latent_dist.sample()).sample[:, 0].half().numpy()
                    for i in range(0, count, 8)]
        np.save(path, np.concatenate(worn)[:count])
    return np.load(path)


def batch_of(rng, count, mels, waves, worn):
    """Segments; of those that fall into worn clips the mel is the worn one."""
    x, y = [], []
    for k in range(count):
        last = len(worn) if worn is not None and k % 2 else len(waves)
        clip, start = int(rng.integers(last)), int(rng.integers(mel.FRAMES - SEGMENT + 1))
        from_ = worn if last != len(waves) else mels
        x.append(from_[clip, start:start + SEGMENT].astype(np.float32))
        y.append(waves[clip, start * mel.HOP:(start + SEGMENT) * mel.HOP].astype(np.float32) / 32768)
    return torch.from_numpy(np.stack(x)), torch.from_numpy(np.stack(y))


@torch.no_grad()
def measure(g):
    bank, (mels, _), (waves, _) = mel.filters(), mel.load("mels", "held_clips"), mel.load("", "held_clips")
    error, level, flat = [], [], []
    for i in range(0, 96, 8):
        x = torch.from_numpy(np.asarray(mels[i:i + 8])).float()
        true = torch.from_numpy(np.asarray(waves[i:i + 8])).float() / 32768
        made = g(x)
        again = (mel.magnitudes(made)[:, :-1] @ bank).clamp_min(1e-5).log()
        error.append((again - x).abs().mean().item())
        rms = [w.square().mean(1).sqrt() for w in (made, true)]
        level.append((20 * (rms[0] / rms[1]).log10()).abs().mean().item())
        power = [spectrum(w, 1024).square() for w in (made, true)]
        flatness = [(p.log().mean((1, 2)).exp() / p.mean((1, 2))) for p in power]
        flat.append([10 * f.log10().mean().item() for f in flatness])
    made, true = np.mean(flat, 0)
    print(f"hifigan: mel error {np.mean(error):.3f}, level off by {np.mean(level):.2f} dB, flatness "
          f"{made:.1f} dB, true {true:.1f} dB", flush=True)


def main():
    args = arguments(__doc__, steps=100000, batch=8, rate=5e-3, judged=0, worn=0, muon=1, keep=0.97)
    torch.manual_seed(0)
    (mels, _), (waves, _), bank = mel.load("mels"), mel.load(""), mel.filters()
    g, judges = model(), Judges()
    some = torch.from_numpy(np.asarray(mels[:400])).float()
    g.mean.copy_(some.mean((0, 1)))
    g.scale.copy_(some.std((0, 1)))
    learns = torch.optim.AdamW(judges.parameters(), lr=5e-4, betas=(0.8, 0.98))

    def save(average, folder):
        average.save_pretrained(folder, safe_serialization=True)
        torch.save({"judges": judges.state_dict(), "learns": learns.state_dict()},
                   work("hifigan", "judges.pt"))

    run = Training("hifigan", g, args, export=save, weight_decay=0.0, keep=args.keep, warm=20,
                   muon=args.muon)
    if os.path.exists(work("hifigan", "judges.pt")):
        kept = torch.load(work("hifigan", "judges.pt"))
        judges.load_state_dict(kept["judges"])
        learns.load_state_dict(kept["learns"])
    worn = worn_mels(args.worn) if args.worn else None
    for step in run.steps():
        x, true = batch_of(generator(5, step), args.batch, mels, waves, worn)
        made, true = inside(g(x)), inside(true)
        loss = spectral_loss(made, true, bank)
        note = f"spectra {loss.item():.3f}"
        if args.judged:
            of_true, of_made = judges(true), judges(made.detach())
            theirs = against(of_true, of_made)
            learns.zero_grad(set_to_none=True)
            theirs.backward()
            learns.step()
            judges.requires_grad_(False)
            with torch.no_grad():
                of_true = judges(true)
            ours = in_favour(of_true, judges(made))
            judges.requires_grad_(True)
            loss = loss + 0.5 * ours
            note += f" judges {theirs.item():.3f} against them {ours.item():.3f}"
        run.learn(loss, note)
    measure(run.average)


if __name__ == "__main__":
    main()
