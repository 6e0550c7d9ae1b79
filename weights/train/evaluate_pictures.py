"""How good are the pictures?  Held-out scenes, held-out wordings, French and English.

    python evaluate_pictures.py [--work DIR] [--count 96] [--guidance 4]

Draws with the diffusers pipeline of WORLD/sd/export and prints, in French and in English, how often
the prompt's subject comes first among all 24 by CLIP (WORLD/clip/export, texts "a picture of a
cabin") and by an independent small classifier, which has seen only the painter's pictures and
labels (WORLD/judge.pt, trained here when it is not there).  The same for the painter's own pictures
of these scenes, as they are and once through the autoencoder: nothing drawn can be better."""
import os

import numpy as np
import torch
import torch.nn.functional as F
from transformers import CLIPModel

import clip
import sd
import tokens
import world
from common import arguments, generator, pictures, sheet, work
from PIL import Image

SUBJECTS = list(world.SUBJECTS)
FORMS = {"en": ["a picture of a {}", "{}", "a drawing of a {}"],
         "fr": ["une image de {}", "{}", "un dessin de {}"]}


def judge():
    widths = [3, 24, 48, 96, 128]
    layers = []
    for a, b in zip(widths, widths[1:]):
        layers += [torch.nn.Conv2d(a, b, 3, stride=2, padding=1), torch.nn.BatchNorm2d(b),
                   torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, torch.nn.AdaptiveMaxPool2d(1), torch.nn.Flatten(),
                               torch.nn.Linear(widths[-1], len(SUBJECTS)))


def train_judge(steps=1500, batch=64):
    """On 64x64 pictures, some of them blurred, so that it looks at shapes."""
    seen, scenes = clip.small("pictures")
    truth = torch.tensor([SUBJECTS.index(s["subject"]) for s in scenes])
    torch.manual_seed(5)
    net = judge()
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.02)
    plan = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, steps)
    for step in range(steps):
        rng = generator(21, step)
        at = np.sort(rng.choice(len(seen), batch, replace=False))
        x = clip.pixels(seen[at] if rng.random() < 0.5 else seen[at][:, :, ::-1])
        if rng.random() < 0.4:
            side = int(rng.integers(20, 48))
            x = F.interpolate(F.interpolate(x, size=side, mode="area"), size=clip.SIDE,
                              mode="bilinear")
        x = torch.roll(x, tuple(rng.integers(-6, 7, 2).tolist()), (2, 3))
        loss = F.cross_entropy(net(x), truth[at])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        plan.step()
        if step % 100 == 99:
            print(f"judge: step {step + 1}/{steps} loss {loss.item():.3f}", flush=True)
    torch.save(net.state_dict(), work("judge.pt"))


def shrink(drawn):
    return np.stack([np.asarray(Image.fromarray(p).resize((clip.SIDE, clip.SIDE), Image.BICUBIC))
                     for p in drawn])


@torch.no_grad()
def names(model, tokenizer, lang):
    """One vector for each subject: the mean over forms."""
    texts = [[form.format(world.SUBJECTS[s][lang][0]) for s in SUBJECTS] for form in FORMS[lang]]
    return F.normalize(sum(clip.embed_texts(model, tokenizer, t) for t in texts), dim=-1)


@torch.no_grad()
def report(what, drawn, truth, model, named, net):
    small = shrink(drawn)
    ours = (clip.embed_pictures(model, small)[1] @ named.T).argmax(1)
    theirs = net(clip.pixels(small)).argmax(1)
    a, b = ((guess == truth).float().mean().item() * 100 for guess in (ours, theirs))
    print(f"{what:34} {a:6.1f} % by CLIP {b:6.1f} % by the classifier", flush=True)


@torch.no_grad()
def main():
    args = arguments(__doc__, count=96, guidance=4.0, inference=20)
    if not os.path.exists(work("judge.pt")):
        with torch.enable_grad():
            train_judge()
    net = judge()
    net.load_state_dict(torch.load(work("judge.pt")))
    net.eval()
    model = CLIPModel.from_pretrained(work("clip", "export")).eval()
    tokenizer, pipe = tokens.load("clip"), sd.pipeline()
    seen, scenes = pictures("held_out")
    seen, scenes = seen[:args.count], scenes[:args.count]
    truth = torch.tensor([SUBJECTS.index(s["subject"]) for s in scenes])
    means = {lang: names(model, tokenizer, lang) for lang in FORMS}
    report("the painter's", seen, truth, model, means["en"], net)
    x = torch.from_numpy(np.array(seen)).permute(0, 3, 1, 2).float() / 127.5 - 1
    back = torch.cat([pipe.vae(part).sample for part in x.split(16)]).clamp(-1, 1)
    back = ((back + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    report("the painter's, autoencoded", back, truth, model, means["en"], net)
    for lang in FORMS:
        texts = [world.caption(s, generator(31, i), lang, True) for i, s in enumerate(scenes)]
        drawn = sum((sd.draw(pipe, texts[i:i + 16], 100 + i, args.inference, args.guidance)
                     for i in range(0, len(texts), 16)), [])
        report(f"drawn, {lang}, guidance {args.guidance:g}", drawn, truth, model, means[lang], net)
        sheet([drawn[i:i + 12] for i in range(0, len(drawn) - 11, 12)],
              work("sd", f"evaluated-{lang}.png"))


if __name__ == "__main__":
    main()
