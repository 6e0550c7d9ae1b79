"""Parity: ./fusion beside transformers and diffusers, number by number.  For developers.

    python tests/parity.py                      the tiny models of tests/models
    python tests/parity.py --big DIR            the real sizes (python tests/reference.py big DIR)
    python tests/parity.py --only "picture sd2" what has these words in its name
    python tests/parity.py --fusion PATH -v     another program; the commands that are run

Each line is a check, the bound that the design promises, and what was measured: token texts that differ,
the largest error over the largest value, or the largest step between two pixels (of 255).  Exit 1 if any
is beyond its bound."""
import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import reference
from reference import MODELS, TEXTS

EMBEDDING, LAYER, PIXEL = 1e-5, 1e-4, 1                # the design's bounds
PICTURES = os.path.join(MODELS, "pictures")
options = None                                         # the command line, set by main
scratch = None                                         # a temporary folder, set by main


# ---- running and measuring ----------------------------------------------------------------------------

class Refused(Exception):
    """The program failed, or its output is not what the contract says."""


def fusion(*words):
    """Standard output of the program."""
    words = [options.fusion, *map(str, words)]
    if options.verbose:
        print("   ", *map(repr, words))
    done = subprocess.run(words, capture_output=True, timeout=options.timeout)
    if done.returncode:
        raise Refused(f"exit {done.returncode}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.decode()


def temporary(name):
    return os.path.join(scratch, name)


def relative(got, want):
    """Largest error of each row over the row's largest value; rows are the first dimension."""
    got, want = (torch.as_tensor(x, dtype=torch.float64) for x in (got, want))
    if got.shape != want.shape:
        raise Refused(f"shape {list(got.shape)}, wanted {list(want.shape)}")
    if not got.isfinite().all():
        return float("inf")
    got, want = got.reshape(len(got), -1), want.reshape(len(want), -1)
    return ((got - want).abs().amax(1) / want.abs().amax(1).clamp_min(1e-30)).max().item()


def pixel_step(got, want):
    """Largest difference of two pictures: a file of the program's and one of Pillow's."""
    got, want = np.array(Image.open(got)).astype(int), np.array(want).astype(int)
    if got.shape != want.shape:
        raise Refused(f"picture {got.shape}, wanted {want.shape}")
    return int(abs(got - want).max())


# ---- text ---------------------------------------------------------------------------------------------

def tokens(folder, tokenizer):
    """How many texts have other ids."""
    tokenizer = reference.transformers.CLIPTokenizer.from_pretrained(tokenizer)
    wrong = []
    for text in TEXTS:
        got = [int(i) for i in fusion("tokenize", "-m", folder, "-p", text).split()]
        if got != tokenizer(text, truncation=True, max_length=77).input_ids:
            wrong.append(text)
    if wrong:
        print(f"    first text: {wrong[0]!r}")
    return len(wrong)


# ---- CLIP ---------------------------------------------------------------------------------------------

def stored_as(folder, kind):
    """A copy of a CLIP folder with its weights as F16, BF16, or in shards."""
    copy, skip = temporary(f"{os.path.basename(folder)}-{kind}"), ("model.safetensors", "reference.safetensors")
    os.makedirs(copy, exist_ok=True)
    for name in os.listdir(folder):
        if name not in skip:
            os.path.exists(f"{copy}/{name}") or os.symlink(f"{folder}/{name}", f"{copy}/{name}")
    if kind == "shards":
        os.remove(f"{copy}/config.json")
        reference.Clip(folder).model.save_pretrained(copy, max_shard_size="80KB")
    else:
        dtype = {"F16": torch.float16, "BF16": torch.bfloat16}[kind]
        weights = load_file(f"{folder}/model.safetensors")
        save_file({name: w.to(dtype) if w.is_floating_point() else w for name, w in weights.items()},
                  f"{copy}/model.safetensors")
    return copy


def embed_texts(folder, texts=TEXTS):
    fusion("embed", "-m", folder, *[word for t in texts for word in ("-p", t)], "-o", temporary("e.safetensors"))
    return relative(load_file(temporary("e.safetensors"))["text_embeds"], reference.Clip(folder).texts(texts))


def embed_pictures(folder, files):
    fusion("embed", "-m", folder, *files, "-o", temporary("e.safetensors"))
    clip = reference.Clip(folder)
    want = torch.cat([clip.images([f]) for f in files])
    got = load_file(temporary("e.safetensors"))["image_embeds"]
    if options.verbose:
        for file, a, b in zip(files, got, want):
            print(f"    {os.path.basename(file)}: {relative(a[None], b[None]):.1e}")
    return relative(got, want)


def drawn(*sizes):
    """Pictures of these sizes."""
    files = [temporary(f"{w}x{h}.png") for w, h in sizes]
    for file, (w, h) in zip(files, sizes):
        Image.fromarray(reference.draw(w, h, w + h)).save(file)
    return files


def agreement(folder, texts, files):
    """cosine, logit and probability [files, texts] of the reference."""
    clip = reference.Clip(folder)
    a, b = clip.images(files), clip.texts(texts)
    cosine = (a / a.norm(dim=1, keepdim=True)) @ (b / b.norm(dim=1, keepdim=True)).T
    logit = cosine * clip.model.logit_scale.exp().item()
    return {"cosine": cosine, "logit": logit, "probability": logit.softmax(1)}


def json_lines(text):
    return [json.loads(line) for line in text.splitlines()]


def score(folder, key):
    texts, files = TEXTS[:4], reference.picture_files(PICTURES)[:3]
    rows = json_lines(fusion("score", "-m", folder, *[w for t in texts for w in ("-p", t)], *files, "--json"))
    by_pair = {(row["file"], row["text"]): row[key] for row in rows}
    got = torch.tensor([[by_pair[file, text] for text in texts] for file in files])
    return relative(got, agreement(folder, texts, files)[key])


def classify(folder, templates):
    """Probabilities against the mean of the templates' normalised vectors; the order must be best first."""
    labels, files, clip = ["a cat", "lighthouse", "1234"], reference.picture_files(PICTURES)[:3], reference.Clip(folder)
    rows = json_lines(fusion("classify", "-m", folder, *files, "--labels", ",".join(labels), "--json",
                             *[w for t in templates for w in ("--template", t)]))
    unit = functools.partial(torch.nn.functional.normalize, dim=-1)
    means = unit(torch.stack([unit(clip.texts([t.replace("{}", label) for t in templates])).mean(0) for label in labels]))
    want = (unit(clip.images(files)) @ means.T * clip.model.logit_scale.exp().item()).softmax(1).detach()
    by_pair = {(row["file"], row["label"]): row["probability"] for row in rows}
    for file in files:
        mine = [row["probability"] for row in rows if row["file"] == file]
        if mine != sorted(mine, reverse=True):
            raise Refused(f"{file}: not best first: {mine}")
    return relative(torch.tensor([[by_pair[file, label] for label in labels] for file in files]), want)


# ---- pictures -----------------------------------------------------------------------------------------

def picture(folder, words):
    """The program's picture for this command line, and diffusers'."""
    fusion("image", "-m", folder, *words, "-o", temporary("p.png"))
    return pixel_step(temporary("p.png"), reference.run_pipe(folder, words))


def latents(folder, words):
    fusion("image", "-m", folder, *words, "--save-latents", temporary("z.safetensors"), "-o", temporary("p.png"))
    return relative(load_file(temporary("z.safetensors"))["latents"], reference.run_pipe(folder, words, "latent")[None])


def batch(folder, words, seed, count):
    """-b: picture i is the single run with seed + i."""
    fusion("image", "-m", folder, *words, "--seed", seed, "-b", count, "-o", temporary("batch-%d.png"))
    files = sorted(f for f in os.listdir(scratch) if f.startswith("batch-"))
    if len(files) != count:
        raise Refused(f"{len(files)} pictures, wanted {count}")
    return max(pixel_step(temporary(file), reference.run_pipe(folder, [*words, "--seed", str(seed + i)]))
               for i, file in enumerate(files))


# ---- layers -------------------------------------------------------------------------------------------

def layers(trace, run, needed):
    """Largest error of all activations in a trace file; run(sink) makes the reference's.  Values are compared as
    they come, so that a trace of many gigabytes needs no memory.  Of a module that runs often the last call counts."""
    errors = {}
    with safe_open(trace, "pt") as file:
        names = set(file.keys())

        def sink(name, value):
            if name in names:
                got, want = file.get_tensor(name), value.float()
                if got.shape != want.shape:
                    raise Refused(f"{name}: shape {list(got.shape)}, wanted {list(want.shape)}")
                errors[name] = relative(got[None], want[None])

        run(sink)
    unknown = sorted(names - errors.keys()) + [f"{name} missing" for name in needed if name not in names]
    if unknown:
        raise Refused(f"{len(unknown)} names differ: {', '.join(unknown[:4])}")
    if options.verbose:
        for name, error in errors.items():
            print(f"    {error:.1e} {name}")
    worst = max(errors, key=errors.get)
    print(f"    {len(errors)} activations, the worst: {worst}")
    return errors[worst]


def clip_layers(folder, texts, files):
    fusion("embed", "-m", folder, *[w for t in texts for w in ("-p", t)], *files, "-o", temporary("e.safetensors"),
           "--trace", temporary("t.safetensors"))
    words = [w for t in texts for w in ("-p", t)] + files
    return layers(temporary("t.safetensors"), functools.partial(reference.trace_clip, folder, words),
                  ["text_model.final_layer_norm", "vision_model.post_layernorm"])


def sd_layers(folder, words, needed=()):
    fusion("image", "-m", folder, *words, "-o", temporary("p.png"), "--trace", temporary("t.safetensors"))
    return layers(temporary("t.safetensors"), lambda sink: reference.run_pipe(folder, words, sink=sink),
                  ["text_encoder.text_model.final_layer_norm", "step0.unet.conv_in", "step0.unet.conv_out",
                   "vae.decoder.conv_out", *needed])


# ---- the list -----------------------------------------------------------------------------------------

def tiny_checks():
    """(name, bound, function) of every check on the committed models."""
    at = functools.partial
    for name in "clip", "clip-gelu", "sd1", "sd2":
        folder = f"{MODELS}/{name}"
        yield f"tokens {name}", 0, at(tokens, folder, f"{folder}/tokenizer" if name.startswith("sd") else folder)
    for name in "clip", "clip-gelu":
        for kind in "F32", "F16", "BF16", "shards":
            folder = f"{MODELS}/{name}"
            yield f"texts {name} {kind}", EMBEDDING, lambda f=folder, k=kind: embed_texts(as_kind(f, k))
            yield f"pictures {name} {kind}", EMBEDDING, lambda f=folder, k=kind: embed_pictures(
                as_kind(f, k), reference.picture_files(PICTURES))
        yield f"pictures {name} sizes", EMBEDDING, lambda f=folder: embed_pictures(f, drawn(
            (1, 1), (1, 50), (50, 1), (500, 3), (31, 33), (32, 32), (28, 28), (224, 224), (640, 480), (17, 1000)))
        for key in "cosine", "logit", "probability":
            yield f"score {name} {key}", EMBEDDING, at(score, folder, key)
        yield f"classify {name}", EMBEDDING, at(classify, folder, ["a photo of a {}"])
        yield f"classify {name} templates", EMBEDDING, at(classify, folder, ["a photo of a {}", "{}, an oil painting"])
    yield "layers clip", LAYER, at(clip_layers, f"{MODELS}/clip", TEXTS[:1], reference.picture_files(PICTURES)[:1])
    for name in "sd1", "sd2":
        yield from sd_checks(name, f"{MODELS}/{name}")


def as_kind(folder, kind):
    return folder if kind == "F32" else stored_as(folder, kind)


def sd_checks(name, folder):
    at = functools.partial
    texts = ["-p", TEXTS[0], "-n", TEXTS[2]]
    small, steps = ["-W", "64", "-H", "48"], ["--steps", "7"]
    usual = [*texts, *small, *steps, "--seed", "3"]
    start, odd = drawn((64, 48), (75, 61))
    save_file({"latents": torch.randn(1, 4, 6, 8, generator=reference.seeded(5))}, temporary("latents.safetensors"))
    width = reference.read_json(f"{folder}/text_encoder/config.json")["hidden_size"]
    save_file({f"{sign}prompt_embeds": torch.randn(1, 77, width, generator=reference.seeded(6 + len(sign)))
               for sign in ("", "negative_")}, temporary(f"embeds-{name}.safetensors"))

    def case(what, *words):
        return f"picture {name} {what}", PIXEL, at(picture, folder, list(words))

    for method, schedule in reference.EVERY_SAMPLER:
        yield case(f"{method} {schedule}", *usual, "--sampling-method", method, "--schedule", schedule)
    yield case("sampler of the file", *usual)
    yield case("guidance 1", *usual, "--cfg-scale", "1")
    yield case("guidance 3.3", *usual, "--cfg-scale", "3.3")
    yield case("no negative", "-p", TEXTS[1], *small, *steps)
    for size in "64x64", "96x72", "72x96", "24x40", "16x16", "8x8", "8x16", "128x8":
        w, h = size.split("x")
        yield case(size, *texts, *steps, "-W", w, "-H", h, "--sampling-method", "euler_a")
    for count in "1", "2", "3", "25":
        for method in "pndm", "dpm++2m", "heun":
            yield case(f"{method} {count} steps", *texts, *small, "--steps", count, "--sampling-method", method)
    yield case("ddim eta 0.7", *usual, "--sampling-method", "ddim", "--eta", "0.7")
    for seed in 0, 2**32 + 3, 2**63 + 1, 2**64 - 1:
        yield case(f"seed {seed}", *texts, *small, *steps, "--seed", str(seed))
    for what, text in ("long prompt", "a lighthouse in a storm " * 12), ("scripts", "猫 кот قط 🐱"), ("!", "hello! world!!"):
        yield case(what, "-p", text, *small, *steps)
    yield case("clip-skip 1", *usual, "--clip-skip", "1")
    yield case("latents", *usual, "--latents", temporary("latents.safetensors"))
    yield case("prompt embeds", *small, *steps, "--prompt-embeds", temporary(f"embeds-{name}.safetensors"))
    for strength in "0.3", "0.8", "1.0":
        for method in "pndm", "ddim", "euler", "dpm++2m", "heun", "lcm":
            yield case(f"from picture {method} {strength}", *texts, *steps, "-i", start, "--strength", strength,
                       "--sampling-method", method)
    yield case("from picture of another size", *texts, *steps, "-i", odd, "--strength", "0.6")
    yield f"batch {name}", PIXEL, at(batch, folder, [*texts, *small, *steps, "--sampling-method", "euler_a"], 40, 3)
    for method in "pndm", "euler", "dpm++2m":
        yield f"latents {name} {method}", LAYER, at(latents, folder, [*usual, "--sampling-method", method])
    yield f"layers {name}", LAYER, at(sd_layers, folder, [*texts, *small, "--steps", "2", "--sampling-method", "euler"])
    yield f"layers {name} odd", LAYER, at(sd_layers, folder, [*texts, "-W", "40", "-H", "72", "--steps", "1"])
    yield f"layers {name} from picture", LAYER, at(
        sd_layers, folder, [*texts, "-i", start, "--strength", "0.5", "--steps", "2"], ["vae.encoder.conv_out"])


def big_checks(big):
    at = functools.partial
    files = drawn((640, 480), (224, 224), (1000, 333)) + reference.picture_files(PICTURES)[:4]
    for name in "clip-b32", "clip-l14":
        yield f"tokens {name}", 0, at(tokens, f"{big}/{name}", f"{big}/{name}")
        yield f"texts {name}", EMBEDDING, at(embed_texts, f"{big}/{name}", TEXTS[:12])
        yield f"pictures {name}", EMBEDDING, at(embed_pictures, f"{big}/{name}", files)
        yield f"layers {name}", LAYER, at(clip_layers, f"{big}/{name}", TEXTS[:1], files[:1])
    words = ["-p", TEXTS[3], "-n", TEXTS[2], "--seed", "3", "--sampling-method", "ddim", "-W", "512", "-H", "512"]
    yield "layers sd15 512x512", LAYER, at(sd_layers, f"{big}/sd15", [*words, "--steps", "1"])
    yield "picture sd15 512x512", PIXEL, at(picture, f"{big}/sd15", [*words, "--steps", "2"])


def main():
    global options, scratch
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fusion", default=os.path.join(reference.HERE, "..", "fusion"), metavar="PATH")
    parser.add_argument("--only", default="", metavar="WORDS")
    parser.add_argument("--big", metavar="DIR")
    parser.add_argument("--timeout", type=float, default=1200, metavar="SECONDS")
    parser.add_argument("-v", "--verbose", action="store_true")
    options = parser.parse_args()
    passed = failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        for name, bound, measure in big_checks(options.big) if options.big else tiny_checks():
            if options.only not in name:
                continue
            try:
                value, why = measure(), ""
            except (Refused, subprocess.TimeoutExpired, OSError, KeyError, ValueError) as error:
                value, why = float("inf"), f"  {type(error).__name__} {error}"
            ok = value <= bound
            passed, failed = passed + ok, failed + (not ok)
            print(f"{name:45} {bound:8.0e} {value:8.1e}  {'PASS' if ok else 'FAIL'}{why}", flush=True)
    print(f"{passed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
