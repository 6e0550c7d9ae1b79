"""What the shipped weights understand and draw: held-out scenes of the small world, by the C program.

    python tests/meaning.py [-n 96] [--fusion ./fusion] [--model weights/tiny] [--keep DIR]
                            [--judge judge.pt] [--guidance 4] [--steps 20] [--sampler ddim]

Prints: for pictures drawn from held-out captions in French and in English, how often the prompt's
subject comes first by CLIP among all subjects, and by the independent classifier of
weights/train/evaluate_pictures.py (with --judge); for the painter's own pictures of held-out scenes,
zero-shot subjects, and recall of pictures by texts among 100.  --keep leaves the pictures and a
contact sheet there.  Needs numpy and Pillow; --judge needs torch."""
import argparse
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
from PIL import Image

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "weights", "train"))
import painter
import world

SUBJECTS = list(world.SUBJECTS)
TEMPLATES = {"en": ["a picture of a {}", "a photo of a {}", "{}"],
             "fr": ["une image de {}", "une photo de {}", "{}"]}


def run(args, *words):
    done = subprocess.run([args.fusion, *map(str, words), "-m", args.model, "-q"],
                          capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, words[:6]))}: {done.stderr.strip()}")
    return done.stdout


def subjects(args, files, lang):
    """The subject that CLIP ranks first, for each file."""
    names = {world.SUBJECTS[s][lang][0]: s for s in SUBJECTS}
    forms = [word for form in TEMPLATES[lang] for word in ("--template", form)]
    rows = run(args, "classify", *files, "--labels", ",".join(names), *forms, "--top", 1, "--json")
    found = {row["file"]: names[row["label"]] for row in map(json.loads, rows.splitlines())}
    return [found[f] for f in files]


def judged(args, files):
    """The subject that the classifier names, for each file."""
    import torch
    import evaluate_pictures
    net = evaluate_pictures.judge()
    net.load_state_dict(torch.load(args.judge))
    net.eval()
    small = evaluate_pictures.shrink([np.asarray(Image.open(f).convert("RGB")) for f in files])
    with torch.no_grad():
        best = net(evaluate_pictures.clip.pixels(small)).argmax(1)
    return [SUBJECTS[i] for i in best]


def share(found, truth):
    return 100 * np.mean([a == b for a, b in zip(found, truth)])


def row(what, args, files, truth, lang):
    line = f"{what:36} CLIP {share(subjects(args, files, lang), truth):5.1f} %"
    if args.judge:
        line += f"   classifier {share(judged(args, files), truth):5.1f} %"
    print(line, flush=True)


def recall(args, files, texts, folder):
    """Shares of texts whose picture is first, and among the first five, among 100."""
    prompts = [word for text in texts for word in ("-p", text)]
    path = os.path.join(folder, "vectors.json")
    run(args, "embed", *prompts, *files, "--normalize", "-o", path)
    with open(path, encoding="utf-8") as f:
        vectors = json.load(f)
    scores = np.array(vectors["text_embeds"]) @ np.array(vectors["image_embeds"]).T
    ranks = (scores > np.diag(scores)[:, None]).sum(1)
    return 100 * np.mean(ranks < 1), 100 * np.mean(ranks < 5)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("-n", type=int, default=96)
    p.add_argument("--fusion", default=os.path.join(ROOT, "fusion"))
    p.add_argument("--model", default=os.path.join(ROOT, "weights", "tiny"))
    p.add_argument("--keep")
    p.add_argument("--judge")
    p.add_argument("--guidance", type=float, default=4)
    p.add_argument("--steps", type=int, default=20)
    p.add_argument("--sampler", default="ddim")
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or temporary
        os.makedirs(folder, exist_ok=True)
        scenes, painted = [], []
        for i in range(max(args.n, 100)):
            rng = np.random.default_rng([41, i])
            scenes.append(world.sample(rng, True))
            painted.append(os.path.join(folder, f"painted-{i:03d}.png"))
            Image.fromarray(painter.paint(scenes[-1], rng)).save(painted[-1])
        truth = [s["subject"] for s in scenes]
        for lang in "en", "fr":
            texts = [world.caption(s, np.random.default_rng([42, i]), lang, True)
                     for i, s in enumerate(scenes)]
            row(f"painted, {lang}", args, painted, truth, lang)
            first, five = recall(args, painted[:100], texts[:100], folder)
            print(f"{'recall among 100, ' + lang:36} @1   {first:5.1f} %   @5 {five:5.1f} %")
            drawn = [os.path.join(folder, f"drawn-{lang}-{i:03d}.png") for i in range(args.n)]
            for i, path in enumerate(drawn):
                run(args, "image", "-p", texts[i], "--seed", i, "--steps", args.steps, "--cfg-scale",
                    args.guidance, "--sampling-method", args.sampler, "-o", path)
            row(f"drawn, {lang}, guidance {args.guidance:g}", args, drawn, truth, lang)
            sheet = [np.asarray(Image.open(f)) for f in drawn[:24]]
            if len(sheet) == 24:
                lines = [np.concatenate(sheet[i:i + 6], 1) for i in range(0, 24, 6)]
                Image.fromarray(np.concatenate(lines)).save(os.path.join(folder, f"sheet-{lang}.png"))
            for text, path in zip(texts[:24], drawn):
                print(f"    {os.path.basename(path)}  {text}")


if __name__ == "__main__":
    main()
