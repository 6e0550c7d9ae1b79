"""Does the small world sound as it was told?  Figures for issue 5, of what audioldm.py exported.

    python evaluate_sounds.py [--work DIR] [--each 2] [--told 100] [--steps 20] [--guidance 2.5]

Sounds are made from texts that training never saw in that wording, then judged by two who do not
share a weight: CLAP (clap.py), which hears the waveform, and a small classifier of mels that is
trained here on rendered clips and kept in WORLD/judge.
    right       the sound asked for comes first among the 16 of sounds.MAIN
    recall@5    the text a sound was made from is among CLAP's first 5 of 100
    levels      how far "doux" lies below "fort", in dB, and how often it does
The same is measured on rendered clips, as the most that can be had.  A sheet of mels, rendered above
made, is written to WORLD/evaluate/sheet.png, and the sounds beside it."""
import os

import numpy as np
import torch
import torch.nn.functional as F
from transformers import ClapModel

import audioldm
import clap
import mel
import sounds
import tokens
from common import arguments, generator, sheet, work

ASKED = {"en": ["you hear just the sound of {}", "field recording: {}"],
         "fr": ["on entend juste {}", "écoutez, voici {}"]}


# ---- a second opinion --------------------------------------------------------------------------

def classifier():
    """Mels [n,1,256,64] -> which of sounds.KEYS."""
    layers, last = [], 1
    for width in 16, 32, 64, 64:
        layers += [torch.nn.Conv2d(last, width, 3, 2, 1), torch.nn.BatchNorm2d(width), torch.nn.ReLU()]
        last = width
    return torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool2d((1, 4)), torch.nn.Flatten(),
                               torch.nn.Linear(4 * last, len(sounds.KEYS)))


def scaled(mels):
    return (torch.from_numpy(np.ascontiguousarray(mels)).float()[:, None] - mel.MIDDLE) / 3


def second_opinion(steps=400):
    path, net = work("judge", "state.pt"), classifier()
    if os.path.exists(path):
        net.load_state_dict(torch.load(path))
        return net.eval()
    torch.manual_seed(0)
    seen, scenes = mel.load("mels")
    single = np.array([i for i, s in enumerate(scenes) if len(s["layers"]) == 1])
    truth = [sounds.KEYS.index(s["layers"][0]["key"]) for s in scenes]
    learns = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.05)
    for step in range(steps):
        at = np.sort(generator(8, step).choice(single, 32, replace=False))
        x = scaled(seen[at])
        x = x + 0.3 * torch.randn_like(x)              # do not lean on the finest grain
        for group in learns.param_groups:
            group["lr"] = 2e-3 * (1 - step / steps)
        loss = F.cross_entropy(net(x), torch.tensor([truth[i] for i in at]), label_smoothing=0.05)
        learns.zero_grad()
        loss.backward()
        learns.step()
        if step % 50 == 49:
            print(f"judge: step {step + 1}/{steps} loss {loss.item():.3f}", flush=True)
    torch.save(net.state_dict(), path)
    return net.eval()


# ---- what is measured --------------------------------------------------------------------------

def features(waves):
    """Waveforms -> (mels of the pipeline, decibels of CLAP) as mel.render keeps them."""
    size, bank = mel.magnitudes(waves), mel.filters()
    return ((size[:, :-1] @ bank).clamp_min(1e-5).log().numpy(),
            (10 * (size ** 2 @ bank).clamp_min(1e-10).log10()).numpy())


def first_of(scores, truth):
    return 100 * (scores.argmax(1) == truth).float().mean().item()


def level(waves):
    """dB of the louder fifth of a clip, as synth.strength."""
    power = waves[:, :waves.shape[1] // 512 * 512].reshape(len(waves), -1, 512).square().mean(2)
    return 10 * power.topk(power.shape[1] // 5, 1).values.mean(1).clamp_min(1e-9).log10()


class Ears:
    def __init__(self):
        self.clap = ClapModel.from_pretrained(work("clap", "export")).eval()
        self.tokenizer, self.judge = tokens.load("roberta"), second_opinion()

    def names(self, lang):
        """An embedding for each of the 16: the mean over its names."""
        all_ = [clap.embed_texts(self.clap, self.tokenizer, sounds.SOUNDS[key][lang]).mean(0)
                for key in sounds.MAIN]
        return F.normalize(torch.stack(all_), dim=-1)

    def report(self, what, waves, truth, lang):
        mels, decibels = features(waves)
        heard = clap.embed_sounds(self.clap, decibels)
        judged = self.judge(scaled(mels))[:, [sounds.KEYS.index(key) for key in sounds.MAIN]]
        print(f"{what}: right first of 16 in {len(waves)}: CLAP {first_of(heard @ self.names(lang).T, truth):.1f} %,"
              f" classifier {first_of(judged, truth):.1f} %", flush=True)
        wrong = [f"{sounds.MAIN[t]}: {sounds.MAIN[j]}" for t, j in zip(truth, judged.argmax(1)) if t != j]
        if wrong:
            print("    heard otherwise by the classifier:", "; ".join(wrong), flush=True)

    def recall(self, what, waves, texts):
        heard = clap.embed_sounds(self.clap, features(waves)[1])
        scores = heard @ clap.embed_texts(self.clap, self.tokenizer, texts).T
        rank = (scores > scores.diag()[:, None]).sum(1)
        print(f"{what}: recall@1 {100 * (rank < 1).float().mean():.1f} %, "
              f"@5 {100 * (rank < 5).float().mean():.1f} % among {len(texts)}", flush=True)


def made(pipe, texts, args, seed):
    mels = torch.cat([audioldm.mels_of(pipe, texts[i:i + 32], seed + i, args.steps, args.guidance)
                      for i in range(0, len(texts), 32)])
    return mels, audioldm.waves_of(pipe, mels)


@torch.no_grad()
def main():
    args = arguments(__doc__, each=2, told=100, steps=20, guidance=2.5)
    with torch.enable_grad():
        ears = Ears()
    pipe = audioldm.pipeline()
    truth = torch.arange(len(sounds.MAIN)).repeat(args.each)
    # rendered clips, of held-out draws
    seen, scenes = mel.load("", "held_clips")
    real = torch.from_numpy(np.asarray(seen)).float() / 32768
    at = [i for i, s in enumerate(scenes) if len(s["layers"]) == 1 and s["layers"][0]["key"] in sounds.MAIN]
    known = torch.tensor([sounds.MAIN.index(scenes[i]["layers"][0]["key"]) for i in at])
    ears.report("rendered", real[at], known, "en")
    # made from texts
    for lang in "en", "fr":
        texts = [ASKED[lang][n % 2].format(sounds.SOUNDS[key][lang][n % len(sounds.SOUNDS[key][lang])])
                 for n in range(args.each) for key in sounds.MAIN]
        mels, waves = made(pipe, texts, args, 100)
        ears.report(f"made, {lang}", waves, truth, lang)
        if lang == "fr":
            look(ears, mels, waves)
    count = min(args.told, len(scenes))
    told = [sounds.caption(s, generator(9, i), ("en", "fr")[i % 2], True)
            for i, s in enumerate(scenes[:count])]
    ears.recall("rendered", real[:count], told)
    ears.recall("made", made(pipe, told, args, 500)[1], told)
    # soft and loud
    pairs = [(f"{name}, doucement", f"{name}, très fort") for key in sounds.MAIN
             for name in sounds.SOUNDS[key]["fr"][:1]]
    soft, loud = (level(made(pipe, list(texts), args, 900)[1]) for texts in zip(*pairs))
    print(f"made: doux {(loud - soft).mean():.1f} dB below fort (rendered 17), below in "
          f"{(loud > soft).sum().item()} of {len(pairs)}", flush=True)


def look(ears, mels, waves):
    """Each of the 16: rendered, made, and the mel of the made sound's waveform."""
    seen, scenes = mel.load("mels")
    again, rows = features(waves)[0], []
    for k, key in enumerate(sounds.MAIN):
        real = next(i for i, s in enumerate(scenes) if len(s["layers"]) == 1
                    and s["layers"][0]["key"] == key and sounds.loudness(s["layers"][0]) == "medium")
        rows.append([mel.grey(x) for x in (seen[real], mels[k], again[k])])
        audioldm.write_wave(waves[k], work("evaluate", key + ".wav"))
    sheet([rows[k] + rows[k + 1] for k in range(0, len(rows), 2)], work("evaluate", "sheet.png"))


if __name__ == "__main__":
    main()
