"""What fusion's captions, soundscapes and check are worth with the shipped weights: held-out scenes
of the small world, by the C program alone.

    python tests/joins.py [-n 100] [--fusion ./fusion] [--model weights/tiny] [--keep DIR]

Prints: how many texts find their picture first and among five, how sums and differences of texts
behave, how many captions name the picture's true subject and place, how many sounds' captions name
what is heard, how many soundscapes hold a sound that belongs to the scene, how many matched triples
(text, picture, sound) `check` accepts and how many shuffled ones it refuses, per language and per
pair.  Needs numpy and Pillow; pictures and sounds are made by weights/train."""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import wave

import numpy as np
from PIL import Image

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "weights", "train"))
import painter
import sounds
import synth
import world

ALIAS = {"crowd": "market", "traffic": "engine", "bells": "bell"}      # world's names of sounds
PAIRS = ("text-picture", "text-sound", "picture-sound")


def keys_of(scene):
    return [ALIAS.get(k, k) for k in world.SOUNDS_OF(scene)]


def bank(name, section):
    """The first wordings of a section and its words, from the bank of the small world."""
    rows, here = [], None
    for line in open(os.path.join(ROOT, "weights/phrases/small-world", name), encoding="utf-8"):
        line = line.strip()
        if line.startswith("["):
            here = line.strip("[]")
        elif line and not line.startswith("#") and here == section:
            rows.append([field.strip() for field in line.split("|")])
    return rows


def sound_words():
    """sound key -> the words of its phrase; the bank stands in the order of sounds.KEYS."""
    words = {}
    for row in bank("sounds.txt", "sound"):
        names = [n.strip() for n in row[0].split(" / ")]
        for key, said in sounds.SOUNDS.items():
            if names[0] in said["en"] or any(n in said["en"] + said["fr"] for n in names):
                words.setdefault(key, row[1])
    assert len(words) == len(sounds.SOUNDS), sorted(set(sounds.SOUNDS) - set(words))
    return words


def write_wav(path, x, rate=16000):
    with wave.open(path, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes((np.clip(x, -1, 1) * 32767).astype("<i2").tobytes())


def make(folder, n, seed):
    """n held-out scenes that have a sound: pictures, sounds and texts in both languages."""
    rng, made = np.random.default_rng(seed), []
    while len(made) < n:
        scene = world.sample(rng, True)
        keys = [k for k in keys_of(scene) if k in sounds.SOUNDS]
        if not keys:
            continue
        i = len(made)
        item = {"scene": scene, "keys": keys, "picture": f"{folder}/{i:03d}.png",
                "sound": f"{folder}/{i:03d}.wav",
                "text": {l: world.caption(scene, rng, l, True) for l in ("en", "fr")}}
        Image.fromarray(painter.paint(scene, rng)).save(item["picture"])
        heard = {"layers": [{"key": keys[0], "level": "medium", "far": False, "pace": None}]}
        write_wav(item["sound"], synth.render(heard, rng))
        made.append(item)
    return made


def run(args, *words):
    r = subprocess.run([args.fusion, words[0], "-m", args.model, *words[1:]], capture_output=True,
                       text=True)
    if r.returncode not in (0, 3):
        sys.exit(r.stderr)
    return r.returncode, [json.loads(line) for line in r.stdout.splitlines()]


def percent(hits):
    return "%5.1f %%" % (100 * np.mean(hits)) if len(hits) else "    -"


def captions(args, made):
    subjects = [row[1] for row in bank("captions.txt", "subject")]
    by_key = dict(zip(world.SUBJECTS, subjects))           # the bank stands in the world's order
    places = dict(zip(world.SETTINGS, [row[1] for row in bank("captions.txt", "place")]))
    words = sound_words()
    _, seen = run(args, "caption", "--json", *[m["picture"] for m in made])
    named = [s["slots"]["subject"][0]["words"] == by_key[m["scene"]["subject"]]
             for s, m in zip(seen, made)]
    placed = [s["slots"]["place"][0]["words"] == places[m["scene"]["setting"]]
              for s, m in zip(seen, made) if m["scene"]["setting"]]
    print("captions that name the true subject      ", percent(named))
    print("best place phrase is the true one        ", percent(placed))
    for slot in ("place", "weather", "light", "mood", "style"):
        said = [s["slots"][slot][0]["said"] for s in seen]
        print("  %-8s said in                        " % slot, percent(said))
    _, heard = run(args, "caption", "--json", *[m["sound"] for m in made])
    print("sound captions that name what is heard   ",
          percent([words[m["keys"][0]] in [h["words"] for h in s["heard"] if h["said"]]
                   for s, m in zip(heard, made)]))
    print("  things said for one sound              ",
          " %.2f" % np.mean([sum(h["said"] for h in s["heard"]) for s in heard]))


def searches(args, made):
    """Texts against an index of the pictures; a sum and a difference of two subjects."""
    folder = os.path.dirname(made[0]["picture"])
    index = os.path.join(folder, "index.safetensors")
    pictures = os.path.join(folder, "pictures")
    os.makedirs(pictures, exist_ok=True)
    for i, m in enumerate(made):
        link = os.path.join(pictures, f"{i:03d}.png")
        if not os.path.exists(link):
            os.link(m["picture"], link)
    run(args, "index", pictures, "-o", index, "-q", "--json")

    def found(*query):
        _, out = run(args, "search", index, *query, "--top", "5", "--json")
        return [int(os.path.basename(hit["path"])[:3]) for hit in out]

    for lang in ("en", "fr"):
        ranks = [found("-p", m["text"][lang]) for m in made]
        print(f"search among {len(made)}, {lang}: first, in five  ",
              percent([r[0] == i for i, r in enumerate(ranks)]),
              percent([i in r for i, r in enumerate(ranks)]))
    kinds = [m["scene"]["subject"] for m in made]
    names = {k: world.SUBJECTS[k]["en"][0] for k in set(kinds)}
    both, less, rng = [], [], np.random.default_rng(args.seed)
    for _ in range(60):
        k, other = rng.choice(sorted(names), 2, replace=False)
        a, b = f"a {names[k]}", f"a {names[other]}"
        with_, without = found("-p", a, "-p", b), found("-p", a, "--minus", b)
        both.append(any(kinds[i] == k for i in with_) and any(kinds[i] == other for i in with_))
        less.append(kinds[without[0]] == k)
    print("search a + b: both among the first five  ", percent(both))
    print("search a - b: a first                    ", percent(less))


def soundscapes(args, made):
    words, hits, layers = sound_words(), [], []
    for m in made:
        _, out = run(args, "soundscape", m["picture"], "--json", "--seed", "1", "--steps", "1",
                     "--seconds", "1", "-q", "-o", os.path.join(os.path.dirname(m["picture"]),
                                                                "scape.wav"))
        chosen = [layer["sound"] for layer in out[0]["layers"]]
        layers.append(len(chosen))
        hits.append(any(words[k] in chosen for k in m["keys"]))
    print("soundscapes with a sound that belongs    ", percent(hits), " layers %.1f" % np.mean(layers))


def checks(args, made):
    n = len(made)
    for name, shift in (("matched", 0), ("shuffled", 1)):
        for lang in ("en", "fr"):
            agree, pairs = [], {p: [] for p in PAIRS}
            for i, m in enumerate(made):
                text, sound = m["text"][lang], m["sound"]
                if shift:           # the next scenes of another subject, with another sound
                    order = [made[(i + k) % n] for k in range(1, n)]
                    other = [o for o in order if o["scene"]["subject"] != m["scene"]["subject"]]
                    text = other[0]["text"][lang]
                    far = [o for o in other[1:] if o["keys"][0] not in m["keys"]
                           and o["keys"][0] not in other[0]["keys"]]
                    sound = (far or other)[0]["sound"]
                _, out = run(args, "check", "-p", text, "--image", m["picture"], "--audio", sound,
                             "--json")
                agree.append(out[0]["agree"])
                for p in out[0]["pairs"]:
                    pairs[p["pair"]].append(p["percentile"])
            line = "accepted" if not shift else "refused"
            print("%-8s triples %s %s             " % (name, line, lang),
                  percent([a != bool(shift) for a in agree]))
            for p in PAIRS:
                q = np.percentile(pairs[p], [5, 10, 15, 25, 50, 75, 90])
                print("  %-14s percentiles at 5 10 15 25 50 75 90 %%: " % p
                      + " ".join("%.0f" % x for x in q))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("-n", type=int, default=100)
    p.add_argument("--seed", type=int, default=7)
    p.add_argument("--fusion", default=os.path.join(ROOT, "fusion"))
    p.add_argument("--model", default=os.path.join(ROOT, "weights", "tiny"))
    p.add_argument("--keep", help="leave the files here")
    p.add_argument("--only", default="captions,searches,soundscapes,checks")
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.keep:
            os.makedirs(args.keep, exist_ok=True)
        made = make(args.keep or folder, args.n, args.seed)
        for part in args.only.split(","):
            {"captions": captions, "searches": searches, "soundscapes": soundscapes, "checks": checks}[part](args, made)


if __name__ == "__main__":
    main()
