"""Parity: ./fusion beside transformers and diffusers, number by number.  For developers.

    python tests/parity.py                      the tiny models of tests/models
    python tests/parity.py --big DIR            the real sizes (python tests/reference.py big DIR)
    python tests/parity.py --only "picture sd2" what has these words in its name
    python tests/parity.py --fusion PATH -v     another program; show commands and details

A line is a check, the bound that the design promises, and what was measured: texts with other ids,
the largest error over the largest value, or the largest step between two pixels (of 255).  Exit 1
if one is beyond its bound."""
import argparse
import json
import os
import subprocess
import sys
import tempfile
from functools import partial

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.nn.functional import normalize

import reference
from reference import MODELS, TEXTS

EMBEDDING, LAYER, PIXEL = 1e-5, 1e-4, 1                # the design's bounds
PICTURES = reference.picture_files(os.path.join(MODELS, "pictures"))
options = None                                         # the command line, set by main
scratch = None                                         # a temporary folder, set by main


# ---- running and measuring ---------------------------------------------------------------------

class Refused(Exception):
    """The program failed, or its output is not what the contract says."""


def fusion(*words):
    """Standard output of the program."""
    words = [options.fusion, *map(str, words)]
    if options.verbose:
        print("   ", *map(repr, words))
    done = subprocess.run(words, capture_output=True, timeout=options.timeout)
    if done.returncode:
        talk = done.stderr.decode(errors="replace").strip()
        raise Refused(f"exit {done.returncode}: {talk}")
    return done.stdout.decode()


def each(option, values):
    """-p A -p B ..."""
    return [word for value in values for word in (option, value)]


def temporary(name):
    return os.path.join(scratch, name)


def relative(got, want):
    """Largest error of a row over the row's largest value; rows are the first dimension."""
    got, want = (torch.as_tensor(x, dtype=torch.float64) for x in (got, want))
    if got.shape != want.shape:
        raise Refused(f"shape {list(got.shape)}, wanted {list(want.shape)}")
    if not got.isfinite().all():
        return float("inf")
    got, want = got.reshape(len(got), -1), want.reshape(len(want), -1)
    return ((got - want).abs().amax(1) / want.abs().amax(1).clamp_min(1e-30)).max().item()


def pixel_step(file, want):
    """Largest difference between a picture file of the program's and a picture of Pillow's."""
    got, want = np.array(Image.open(file)).astype(int), np.array(want).astype(int)
    if got.shape != want.shape:
        raise Refused(f"picture {got.shape}, wanted {want.shape}")
    return int(abs(got - want).max())


# ---- CLIP --------------------------------------------------------------------------------------

def tokens(folder, tokenizer_folder):
    """How many texts have other ids; nothing is cut."""
    tokenizer = reference.transformers.CLIPTokenizer.from_pretrained(tokenizer_folder)
    wrong = []
    for text in TEXTS:
        got = [int(i) for i in fusion("tokenize", "-m", folder, "-p", text).split()]
        if got != tokenizer(text).input_ids:
            wrong.append(text)
    if wrong:
        print(f"    other ids: {', '.join(repr(text[:60]) for text in wrong)}")
    return len(wrong)


def stored_as(folder, kind):
    """A copy of a CLIP folder with its weights as F16 or BF16, or in shards."""
    copy = tempfile.mkdtemp(dir=scratch)
    for name in os.listdir(folder):
        if name not in ("model.safetensors", "config.json"):
            os.symlink(f"{folder}/{name}", f"{copy}/{name}")
    if kind == "shards":
        reference.Clip(folder).model.save_pretrained(copy, max_shard_size="80KB")
        return copy
    dtype = {"F16": torch.float16, "BF16": torch.bfloat16}[kind]
    weights = {name: w.to(dtype) if w.is_floating_point() else w
               for name, w in load_file(f"{folder}/model.safetensors").items()}
    reference.save_model(copy, "model", reference.read_json(f"{folder}/config.json"), weights)
    return copy


def embed_texts(folder, texts, kind=None):
    folder = stored_as(folder, kind) if kind else folder
    fusion("embed", "-m", folder, *each("-p", texts), "-o", temporary("e.safetensors"))
    want = reference.Clip(folder).texts(texts)
    return relative(load_file(temporary("e.safetensors"))["text_embeds"], want)


def embed_pictures(folder, files, kind=None):
    folder = stored_as(folder, kind) if kind else folder
    fusion("embed", "-m", folder, *files, "-o", temporary("e.safetensors"))
    clip = reference.Clip(folder)
    want = torch.cat([clip.images([f]) for f in files])
    got = load_file(temporary("e.safetensors"))["image_embeds"]
    if options.verbose:
        for file, a, b in zip(files, got, want):
            print(f"    {relative(a[None], b[None]):.1e} {os.path.basename(file)}")
    return relative(got, want)


def drawn(*sizes):
    """Files of pictures of these sizes."""
    files = [temporary(f"{w}x{h}.png") for w, h in sizes]
    for file, (w, h) in zip(files, sizes):
        Image.fromarray(reference.draw(w, h, w + h)).save(file)
    return files


def table(text, row_key, column_key, value_key, rows, columns):
    """[rows, columns] of one key, from a line of JSON for each pair."""
    found = {}
    for line in text.splitlines():
        line = json.loads(line)
        found[line[row_key], line[column_key]] = line[value_key]
    return torch.tensor([[found[row, column] for column in columns] for row in rows])


def score(folder, key):
    texts, files, clip = TEXTS[:4], PICTURES[:3], reference.Clip(folder)
    out = fusion("score", "-m", folder, *each("-p", texts), *files, "--json")
    cosine = normalize(clip.images(files)) @ normalize(clip.texts(texts)).T
    logit = cosine * clip.model.logit_scale.exp().item()
    want = {"cosine": cosine, "logit": logit, "probability": logit.softmax(1)}[key]
    return relative(table(out, "file", "text", key, files, texts), want)


def classify(folder, templates):
    """Against the normalised mean of the templates' normalised vectors; best first."""
    labels, files, clip = ["a cat", "lighthouse", "1234"], PICTURES[:3], reference.Clip(folder)
    out = fusion("classify", "-m", folder, *files, "--labels", ",".join(labels), "--json",
                 *each("--template", templates))
    texts = [clip.texts([t.replace("{}", label) for t in templates]) for label in labels]
    means = normalize(torch.stack([normalize(t).mean(0) for t in texts]))
    logit = normalize(clip.images(files)) @ means.T * clip.model.logit_scale.exp().item()
    got = table(out, "file", "label", "probability", files, labels)
    order = [line["probability"] for line in map(json.loads, out.splitlines())]
    if any(a < b for i, (a, b) in enumerate(zip(order, order[1:]), 1) if i % len(labels)):
        raise Refused(f"not best first: {order}")
    return relative(got, logit.softmax(1))


# ---- pictures ----------------------------------------------------------------------------------

def picture(folder, words):
    """The program's picture for a command line, and diffusers'."""
    fusion("image", "-m", folder, *words, "-o", temporary("p.png"))
    return pixel_step(temporary("p.png"), reference.run_pipe(folder, words))


def with_scheduler(folder, **change):
    """A copy of a folder of Stable Diffusion with other settings of its scheduler."""
    copy = tempfile.mkdtemp(dir=scratch)
    for name in os.listdir(folder):
        if name != "scheduler":
            os.symlink(f"{folder}/{name}", f"{copy}/{name}")
    os.mkdir(f"{copy}/scheduler")
    path = "scheduler/scheduler_config.json"
    reference.write_json(f"{copy}/{path}", reference.read_json(f"{folder}/{path}") | change)
    return copy


def picture_of_noise(folder, words, rng, seed):
    """--rng: as if its numbers had been given as latents; 64x48."""
    n = 4 * 6 * 8
    noise = (np.random.RandomState(seed).randn(n).astype(np.float32) if rng == "numpy" else
             reference.philox(seed, n))
    given = temporary("noise.safetensors")
    save_file({"latents": torch.from_numpy(noise).reshape(1, 4, 6, 8)}, given)
    words = [*words, "--seed", str(seed)]
    fusion("image", "-m", folder, *words, "--rng", rng, "-o", temporary("p.png"))
    return pixel_step(temporary("p.png"), reference.run_pipe(folder, [*words, "--latents", given]))


def latents(folder, words):
    out = temporary("z.safetensors")
    fusion("image", "-m", folder, *words, "--save-latents", out, "-o", temporary("p.png"))
    return relative(load_file(out)["latents"], reference.run_pipe(folder, words, "latent")[None])


def batch(folder, words, seed, count):
    """-b: picture i is the single run with seed + i."""
    out = temporary("batch-%d.png")
    fusion("image", "-m", folder, *words, "--seed", seed, "-b", count, "-o", out)
    files = sorted(f for f in os.listdir(scratch) if f.startswith("batch-"))
    if len(files) != count:
        raise Refused(f"{len(files)} pictures, wanted {count}")
    singles = [reference.run_pipe(folder, [*words, "--seed", str(seed + i)]) for i in range(count)]
    return max(pixel_step(temporary(file), single) for file, single in zip(files, singles))


# ---- layers ------------------------------------------------------------------------------------

def layers(trace, run, needed):
    """Largest error of all activations in a trace file; run(sink) makes the reference's.  Values
    are compared as they come, so that a trace of gigabytes needs no memory; of a module that runs
    more than once the last call counts.  Dimensions of one do not: the program keeps them."""
    errors = {}
    with safe_open(trace, "pt") as file:
        names = set(file.keys())

        def sink(name, want):
            if name in names:
                got = file.get_tensor(name)
                if got.squeeze().shape != want.squeeze().shape:
                    raise Refused(f"{name}: shape {list(got.shape)}, wanted {list(want.shape)}")
                errors[name] = relative(got.reshape(1, -1), want.reshape(1, -1))

        run(sink)
    strange = sorted(names - errors.keys()) + [f"no {name}" for name in needed if name not in names]
    if strange:
        raise Refused(f"{len(strange)} names: {', '.join(strange[:4])}")
    if options.verbose:
        for name, error in errors.items():
            print(f"    {error:.1e} {name}")
    worst = max(errors, key=errors.get)
    print(f"    {len(errors)} activations, the worst {worst}")
    return errors[worst]


def clip_layers(folder, text, file):
    words, trace = ["-p", text, file], temporary("t.safetensors")
    fusion("embed", "-m", folder, *words, "-o", temporary("e.safetensors"), "--trace", trace)
    return layers(trace, partial(reference.trace_clip, folder, words),
                  ["text_model.final_layer_norm", "vision_model.post_layernorm"])


def sd_layers(folder, words, *needed):
    trace = temporary("t.safetensors")
    fusion("image", "-m", folder, *words, "-o", temporary("p.png"), "--trace", trace)
    return layers(trace, lambda sink: reference.run_pipe(folder, words, sink=sink),
                  ["text_encoder.text_model.final_layer_norm", "step0.unet.conv_in",
                   "step0.unet.conv_out", "vae.decoder.conv_out", *needed])


# ---- the list ----------------------------------------------------------------------------------

def tiny_checks():
    """(name, bound, function) of every check on the committed models."""
    for name in "clip", "clip-gelu", "sd1", "sd2":
        folder = f"{MODELS}/{name}"
        tokenizer = f"{folder}/tokenizer" if name.startswith("sd") else folder
        yield f"tokens {name}", 0, partial(tokens, folder, tokenizer)
    for name in "clip", "clip-gelu":
        folder = f"{MODELS}/{name}"
        for kind in None, "F16", "BF16", "shards":
            title = f"{name} {kind or 'F32'}"
            yield f"texts {title}", EMBEDDING, partial(embed_texts, folder, TEXTS, kind)
            yield f"pictures {title}", EMBEDDING, partial(embed_pictures, folder, PICTURES, kind)
        sizes = drawn((1, 1), (1, 50), (50, 1), (500, 3), (31, 33), (32, 32), (28, 28), (224, 224),
                      (640, 480), (17, 1000))
        yield f"pictures {name} sizes", EMBEDDING, partial(embed_pictures, folder, sizes)
        for key in "cosine", "logit", "probability":
            yield f"score {name} {key}", EMBEDDING, partial(score, folder, key)
        for count, plural in (1, ""), (2, "s"):
            templates = ["a photo of a {}", "{}, an oil painting"][:count]
            yield (f"classify {name} {count} template{plural}", EMBEDDING,
                   partial(classify, folder, templates))
        yield f"layers {name}", LAYER, partial(clip_layers, folder, TEXTS[0], PICTURES[0])
    for name in "sd1", "sd2":
        yield from sd_checks(name, f"{MODELS}/{name}")


def sd_checks(name, folder):
    texts, small = ["-p", TEXTS[0], "-n", TEXTS[2]], ["-W", "64", "-H", "48"]
    steps = ["--steps", "7", "--seed", "3"]
    usual = [*texts, *small, *steps]
    start, odd = drawn((64, 48), (75, 61))
    noise, embeds = temporary("latents.safetensors"), temporary(f"embeds-{name}.safetensors")
    width = reference.read_json(f"{folder}/text_encoder/config.json")["hidden_size"]
    save_file({"latents": torch.randn(1, 4, 6, 8, generator=reference.seeded(5))}, noise)
    save_file({key: torch.randn(1, 77, width, generator=reference.seeded(len(key)))
               for key in ("prompt_embeds", "negative_prompt_embeds")}, embeds)

    def case(what, *words):
        return f"picture {name} {what}", PIXEL, partial(picture, folder, list(words))

    for method, schedule in reference.EVERY_SAMPLER:
        yield case(f"{method} {schedule}", *usual, "--sampling-method", method,
                   "--schedule", schedule)
    for method in "dpm++2m_sde", "tcd":
        yield case(method, *usual, "--sampling-method", method)
    yield case("tcd eta 0.3", *usual, "--sampling-method", "tcd", "--eta", "0.3")
    for method in "euler", "heun", "lms", "dpm++2m", "unipc":
        yield case(f"{method} exponential", *usual, "--sampling-method", method,
                   "--schedule", "exponential")
    for spacing in reference.SPACINGS:
        yield case(f"euler {spacing}", *usual, "--sampling-method", "euler", "--schedule", spacing)
    for method in "ddpm", "euler", "heun", "dpm++2m", "lcm":
        yield case(f"{method} timesteps", *texts, *small, "--seed", "3",
                   "--sampling-method", method, "--timesteps", "999,700,350,81,1")
    yield case("euler sigmas", *texts, *small, "--seed", "3", "--sampling-method", "euler",
               "--sigmas", "14.6,6,2,0.5,0")
    yield case("guidance rescale 0.7", *usual, "--guidance-rescale", "0.7")
    for method in "pndm", "dpm++2m", "heun", "unipc", "lms":
        for count in "1", "2", "3", "25":
            yield case(f"{method} {count} steps", *texts, *small, "--seed", "4", "--steps", count,
                       "--sampling-method", method)
    for size in "64x64", "96x72", "72x96", "24x40", "16x16", "8x8", "8x16", "128x8":
        w, h = size.split("x")
        yield case(size, *texts, *steps, "-W", w, "-H", h, "--sampling-method", "euler_a")
    for seed in 0, 2**32 + 3, 2**63 + 1, 2**64 - 1:
        yield case(f"seed {seed}", *texts, *small, "--steps", "7", "--seed", str(seed))
    yield case("sampler of the file", *usual)
    yield case("guidance 1", *usual, "--cfg-scale", "1")
    yield case("guidance 3.3", *usual, "--cfg-scale", "3.3")
    yield case("no negative", "-p", TEXTS[1], *small, *steps)
    yield case("long prompt", "-p", "a lighthouse in a storm " * 12, *small, *steps)
    yield case("scripts", "-p", "猫 кот قط 🐱", *small, *steps)
    yield case("exclamation marks", "-p", "hello! world!!", *small, *steps)
    yield case("ddim eta 0.7", *usual, "--sampling-method", "ddim", "--eta", "0.7")
    yield case("clip-skip 1", *usual, "--clip-skip", "1")
    yield case("clip-skip 1 guidance 1", *usual, "--clip-skip", "1", "--cfg-scale", "1")
    yield case("latents", *usual, "--latents", noise)
    yield case("prompt embeds", *small, *steps, "--prompt-embeds", embeds)
    for rng, seed in ("cuda", 3), ("cuda", 2**32 + 5), ("numpy", 3):
        yield f"picture {name} noise {rng} {seed}", PIXEL, partial(
            picture_of_noise, folder, [*texts, *small, "--steps", "7"], rng, seed)
    for prediction in "v_prediction", "sample":
        snr = with_scheduler(folder, rescale_betas_zero_snr=True, prediction_type=prediction,
                             timestep_spacing="trailing")
        for method in "ddim", "euler", "dpm++2m", "dpm++2m_sde", "unipc":
            yield f"picture {name} zero SNR {prediction} {method}", PIXEL, partial(
                picture, snr, [*usual, "--sampling-method", method, "--guidance-rescale", "0.7"])
    yield case("from picture euler timesteps", *texts, "--seed", "3", "-i", start, "--strength",
               "0.6", "--sampling-method", "euler", "--timesteps", "999,700,350,81,1")
    for strength in "0.3", "0.8", "1.0":
        for method in reference.SAMPLERS | reference.MORE_SAMPLERS:
            yield case(f"from picture {method} {strength}", *texts, *steps, "-i", start,
                       "--strength", strength, "--sampling-method", method)
    yield case("from picture of odd size", *texts, *steps, "-i", odd, "--strength", "0.6")
    yield f"batch {name}", PIXEL, partial(
        batch, folder, [*texts, *small, "--steps", "7", "--sampling-method", "euler_a"], 40, 3)
    for method in "pndm", "euler", "dpm++2m":
        yield f"latents {name} {method}", LAYER, partial(
            latents, folder, [*usual, "--sampling-method", method])
    few = [*texts, "--seed", "3", "--steps", "2"]
    yield f"layers {name}", LAYER, partial(
        sd_layers, folder, [*few, *small, "--sampling-method", "euler"])
    yield f"layers {name} odd", LAYER, partial(sd_layers, folder, [*few, "-W", "40", "-H", "72"])
    yield f"layers {name} from picture", LAYER, partial(
        sd_layers, folder, [*few, "-i", start, "--strength", "0.5"], "vae.encoder.conv_out")


def big_checks(big):
    files = drawn((640, 480), (224, 224), (1000, 333)) + PICTURES[:4]
    for name in "clip-b32", "clip-l14":
        folder = f"{big}/{name}"
        yield f"tokens {name}", 0, partial(tokens, folder, folder)
        yield f"texts {name}", EMBEDDING, partial(embed_texts, folder, TEXTS[:12])
        yield f"pictures {name}", EMBEDDING, partial(embed_pictures, folder, files)
        yield f"layers {name}", LAYER, partial(clip_layers, folder, TEXTS[0], files[0])
    words = ["-p", TEXTS[3], "-n", TEXTS[2], "--seed", "3", "--sampling-method", "ddim",
             "-W", options.size, "-H", options.size]
    yield "layers sd15", LAYER, partial(sd_layers, f"{big}/sd15", [*words, "--steps", "1"])
    yield "picture sd15", PIXEL, partial(picture, f"{big}/sd15", [*words, "--steps", "2"])


def main():
    global options, scratch
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fusion", default=os.path.join(reference.HERE, "..", "fusion"))
    parser.add_argument("--only", default="", metavar="WORDS")
    parser.add_argument("--big", metavar="DIR")
    parser.add_argument("--size", default="512", help="of SD 1.5's pictures [512]")
    parser.add_argument("--timeout", type=float, default=1200, metavar="SECONDS")
    parser.add_argument("-v", "--verbose", action="store_true")
    options = parser.parse_args()
    if not os.path.exists(options.fusion):
        parser.error(f"{options.fusion}: no such program; run make")
    if not options.big:
        torch.set_num_threads(1)                       # tiny layers take longer with more
    passed = failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        checks = big_checks(options.big) if options.big else tiny_checks()
        for name, bound, measure in checks:
            if options.only not in name:
                continue
            try:
                value, why = measure(), ""
            except Exception as error:                 # one check's trouble is its own failure
                value, why = float("inf"), f"  {type(error).__name__}: {error}"
            ok = value <= bound
            passed, failed = passed + ok, failed + (not ok)
            verdict = "PASS" if ok else "FAIL"
            print(f"{name:40} {bound:8.0e} {value:8.1e}  {verdict}{why}", flush=True)
    print(f"{passed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
