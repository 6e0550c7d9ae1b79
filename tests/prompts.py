"""Weights, chunks and styles of prompts beside transformers and diffusers: the formulas of
AUTOMATIC1111's web interface over CLIPTextModel, the result as prompt_embeds of the pipeline.  For
developers; the product and `make test` need neither this file nor Python.

    python tests/prompts.py                  writes tests/models/prompts
    python tests/prompts.py check [FUSION]   every case, with both models

    cases.txt              name, model, options of the program: a tab between them
    latents-NAME           diffusers' final latents [1,C,h,w]"""
import re
import shlex
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file

import diffusers
from reference import MODELS, load_pipe, seeded

FOLDER, WORD = f"{MODELS}/prompts", f"{MODELS}/adapters/word.safetensors"
LONG = "a lighthouse in a storm, oil on canvas, " * 9
# name: model, prompt, negative, what else
CASES = {
    "round": ("sd1", "a photo of a (cat:1.3)", "(dark)", ""),
    "nested": ("sd1", "((a cat)) [in [the]] (rain, (snow:0.5):1.4", "[[fog", ""),
    "escaped": ("sd1", r"a \(cat\) \[here\] (C:\\x:1.2) :1.3) b)", "", ""),
    "break": ("sd1", "red (hat BREAK blue:1.2) coat", "BREAKFAST", ""),
    "long": ("sd1", LONG + "(moon:1.5) " + LONG, "(dark:1.2)", ""),
    "commas": ("sd1", "storm " * 60 + ", lighthouse and (rocks:1.3) " * 3, LONG + LONG, ""),
    "zero": ("sd1", "a (dog:0) cat (light:-0.5)", "", ""),
    "skip": ("sd1", "a (dog:1.4) BREAK cat", "(dark)", "--clip-skip 1"),
    "word": ("sd1", "a (<cat-toy>:1.3), red", "(<cat-toy>:0.8)", f"--embedding {WORD}"),
    "alone": ("sd1", "a (dog:1.4)", None, "--cfg-scale 1"),
    "second": ("sd2", "(hello! world!:1.3) BREAK [cat]", "dark! BREAK (snow)", ""),
}
COMMON = "--steps 3 --seed 7 -W 64 -H 64 --sampling-method ddim --weighting on"


# ---- the formulas ------------------------------------------------------------------------------

def weighted_runs(text):
    """[text, weight] in order; a run of None is a BREAK."""
    runs, opened = [], {"(": [], "[": []}
    token = re.compile(r"\\([()\[\]\\])|\\|:\s*([+-]?[.\d]+)\s*\)|[()\[\]:]|[^\\()\[\]:]+")

    def weigh(kind, factor):
        for run in runs[opened[kind].pop():]:
            run[1] *= factor

    for match in token.finditer(text):
        found, escaped, weight = match.group(0), match.group(1), match.group(2)
        if escaped or found == "\\":
            runs.append([escaped or "", 1.0])
        elif found in "([":
            opened[found].append(len(runs))
        elif weight and opened["("]:
            weigh("(", float(weight))
        elif found == ")" and opened["("]:
            weigh("(", 1.1)
        elif found == "]" and opened["["]:
            weigh("[", 1 / 1.1)
        else:
            for i, part in enumerate(re.split(r"\s*\bBREAK\b\s*", found)):
                runs += [[None, 1.0]] * (i > 0) + [[part, 1.0]]
    for kind, factor in ("(", 1.1), ("[", 1 / 1.1):
        while opened[kind]:
            weigh(kind, factor)
    merged = []
    for text, weight in runs:
        if merged and text is not None and merged[-1][0] is not None and merged[-1][1] == weight:
            merged[-1][0] += text
        else:
            merged.append([text, weight])
    return merged


def cut_chunks(pipe, text):
    """Lists of (id, weight), 75 at most; a full one ends behind a comma among its last 20."""
    tokenizer, chunks = pipe.tokenizer, [[]]
    comma = tokenizer.convert_tokens_to_ids(",</w>")
    for run, weight in weighted_runs(text):
        if run is None:
            chunks.append([])
            continue
        run = pipe.maybe_convert_prompt(run, tokenizer)
        for i in tokenizer(run, add_special_tokens=False).input_ids:
            if len(chunks[-1]) == 75:
                tail = []
                places = [k for k, (j, _) in enumerate(chunks[-1]) if j == comma]
                if i != comma and places and 75 - places[-1] <= 20:
                    tail = chunks[-1][places[-1] + 1:]
                    del chunks[-1][places[-1] + 1:]
                chunks.append(tail)
            chunks[-1].append((i, weight))
    return chunks


@torch.no_grad()
def encode(pipe, chunk, skip):
    """[77,C] of one chunk, weighted."""
    tokenizer = pipe.tokenizer
    ids = [tokenizer.bos_token_id, *(i for i, _ in chunk), tokenizer.eos_token_id]
    ids += [tokenizer.pad_token_id] * (77 - len(ids))
    weights = torch.tensor([1.0, *(w for _, w in chunk)] + [1.0] * (76 - len(chunk)))
    out = pipe.text_encoder(torch.tensor([ids]), output_hidden_states=True)
    z = out.last_hidden_state[0]
    if skip:
        z = pipe.text_encoder.final_layer_norm(out.hidden_states[-1 - skip])[0]
    before = z.mean()
    z = z * weights[:, None]
    return z * (before / z.mean())


def embeds(pipe, prompt, negative, skip):
    texts = [cut_chunks(pipe, prompt), cut_chunks(pipe, negative or "")]
    most = max(map(len, texts))
    out = [torch.cat([encode(pipe, chunk, skip * (not i)) for chunk in t + [[]] * (most - len(t))])
           for i, t in enumerate(texts)]
    return out[0][None], out[1][None]


@torch.no_grad()
def reference(model, prompt, negative, more):
    pipe = load_pipe(f"{MODELS}/{model}", diffusers.StableDiffusionPipeline, "ddim")
    if "--embedding" in more:
        pipe.load_textual_inversion(WORD)
    alone = negative is None                         # guidance 1: the other text does not count
    positive, other = embeds(pipe, prompt, negative, int("clip-skip 1" in more))
    return pipe(prompt_embeds=positive, negative_prompt_embeds=None if alone else other,
                num_inference_steps=3, guidance_scale=1 if alone else 7.5, width=64, height=64,
                generator=seeded(7), output_type="latent").images


# ---- beside the program ------------------------------------------------------------------------

def options(prompt, negative, more):
    words = ["-p", prompt] + (["-n", negative] if negative else [])
    return shlex.join([*words, *shlex.split(f"{more} {COMMON}")])


def make():
    with open(f"{FOLDER}/cases.txt", "w") as file:
        for name, (model, prompt, negative, more) in CASES.items():
            more = more.replace(MODELS, "tests/models")
            print(name, model, options(prompt, negative, more), sep="\t", file=file)
            save_file({"latents": reference(model, prompt, negative, more).contiguous()},
                      f"{FOLDER}/latents-{name}.safetensors")


def check(program):
    worst = 0
    for name, (model, prompt, negative, more) in CASES.items():
        scratch = tempfile.mkdtemp()
        command = [program, "image", "-q", "-t", "1", "-m", f"{MODELS}/{model}",
                   *shlex.split(options(prompt, negative, more)), "-o", f"{scratch}/p.png",
                   "--save-latents", f"{scratch}/z.safetensors"]
        subprocess.run(command, check=True, capture_output=True)
        got = load_file(f"{scratch}/z.safetensors")["latents"]
        want = reference(model, prompt, negative, more)
        off = ((got - want).abs().max() / want.abs().max()).item()
        print(f"{off:.1e} {name}")
        worst = max(worst, off)
    print(f"worst {worst:.1e} of the largest latent")
    return worst > 1e-4


if __name__ == "__main__":
    if sys.argv[1:2] == ["check"]:
        sys.exit(int(check((sys.argv[2:] or ["./fusion"])[0])))
    make()
