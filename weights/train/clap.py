"""CLAP of the small world: text and sounds in one space, in French and English.

    python clap.py [--work DIR] [--minutes 14]     train, going on from where it stands
    python clap.py --decay 300                     let the rate fall over 300 steps, and end

transformers' ClapModel, narrow: 4 seconds at 16 kHz in patches of 8x8 (16x16 of them, then 8x8),
captions of both languages drawn afresh at every step, a third of them with words that mean nothing,
so that wordings never seen do little.  Half of each batch is of few sounds, so that loudness must
tell them apart; texts alone, cheap, are learnt from in between.  Beside the contrastive loss, small
heads that are thrown away afterwards name the sounds of each scene and their loudness, from the
sound's embedding and from the text's: that teaches both towers, and draws them together, several
times faster.  Measured at the end on held-out scenes and wordings: the right sound first among the
16, recall of sounds by text, soft told from loud.  Needs the clips of `mel.py --render`."""
import json
import os
import shutil

import numpy as np
import torch
import torch.nn.functional as F
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

import mel
import sounds
import tokens
import world
from common import Training, arguments, generator, work

WIDTH, LENGTH, SECONDS = 128, 48, 4
SEEN = SECONDS * mel.RATE // mel.HOP + 1                   # frames of a window
LOUDNESS = ["soft", "far", "medium", "loud"]
POSITIONS = 82


def config(vocabulary):
    text = {"vocab_size": vocabulary, "hidden_size": WIDTH, "intermediate_size": 4 * WIDTH,
            "num_hidden_layers": 3, "num_attention_heads": 4, "max_position_embeddings": POSITIONS,
            "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_factor": 1.0}
    audio = {"spec_size": 128, "num_mel_bins": mel.BINS, "patch_size": 8, "patch_stride": [8, 8],
             "window_size": 8, "depths": [2, 2], "num_attention_heads": [4, 8],
             "patch_embeds_hidden_size": 64, "hidden_size": 128, "hidden_dropout_prob": 0.0}
    return ClapConfig(text_config=text, audio_config=audio, projection_dim=WIDTH)


def extractor():
    return ClapFeatureExtractor(
        feature_size=mel.BINS, sampling_rate=mel.RATE, hop_length=mel.HOP, max_length_s=SECONDS,
        fft_window_size=mel.FFT, frequency_min=0, frequency_max=mel.RATE // 2,
        truncation="rand_trunc", padding="repeatpad")


class Taught(torch.nn.Module):
    """The model and the heads that go away."""

    def __init__(self, vocabulary):
        super().__init__()
        self.clap = ClapModel(config(vocabulary))
        self.keys = torch.nn.Linear(WIDTH, len(sounds.KEYS))
        self.levels = torch.nn.Linear(WIDTH, len(sounds.KEYS) * len(LOUDNESS))


def texts_of(model, tokenizer, texts):
    ids = tokenizer(texts, padding=True, truncation=True, max_length=LENGTH, return_tensors="pt")
    out = model.text_model(input_ids=ids.input_ids, attention_mask=ids.attention_mask)
    return model.text_projection(out.pooler_output)


def sounds_of(model, decibels):
    """decibels: [n, SEEN, 64]"""
    x = torch.from_numpy(np.ascontiguousarray(decibels)).float()[:, None]
    return model.audio_projection(model.audio_model(input_features=x).pooler_output)


def embed_texts(model, tokenizer, texts):
    return F.normalize(texts_of(model, tokenizer, texts), dim=-1)


def embed_sounds(model, decibels):
    parts = [decibels[i:i + 100, 3:3 + SEEN] for i in range(0, len(decibels), 100)]
    return F.normalize(torch.cat([sounds_of(model, part) for part in parts]), dim=-1)


def labels(scenes):
    """Shares of the keys [n, keys], and the loudness of each key that is there, else -100."""
    keys = torch.zeros(len(scenes), len(sounds.KEYS))
    levels = torch.full((len(scenes), len(sounds.KEYS)), -100)
    for i, scene in enumerate(scenes):
        for layer in scene["layers"]:
            k = sounds.KEYS.index(layer["key"])
            keys[i, k] = 1 / len(scene["layers"])
            levels[i, k] = LOUDNESS.index(sounds.loudness(layer))
    return keys, levels


def named(model, embedding, keys, levels):
    """Heads see directions alone: what the length tells, a cosine does not."""
    direction = WIDTH ** 0.5 * F.normalize(embedding, dim=-1)
    said = model.levels(direction).view(-1, len(LOUDNESS))
    return F.cross_entropy(model.keys(direction), keys) + F.cross_entropy(said, levels.view(-1))


def write_tokenizer(folder):
    """As published folders have it, cut to what the text tower takes."""
    os.makedirs(folder, exist_ok=True)
    for name in os.listdir(work("tokenizer-roberta", "x")[:-2]):
        shutil.copy(work("tokenizer-roberta", name), folder)
    with open(f"{folder}/tokenizer_config.json", encoding="utf-8") as f:
        told = json.load(f)
    with open(f"{folder}/tokenizer_config.json", "w", encoding="utf-8") as f:
        json.dump(told | {"model_max_length": POSITIONS - 2}, f, indent=2)


def save(taught, folder):
    taught.clap.save_pretrained(folder, safe_serialization=True)
    extractor().save_pretrained(folder)
    write_tokenizer(folder)


@torch.no_grad()
def measure(model, tokenizer):
    """On held-out scenes and wordings."""
    seen, scenes = mel.load("decibels", "held_clips")
    heard = embed_sounds(model, seen)
    for lang in "en", "fr":
        names = embed_texts(model, tokenizer, [sounds.SOUNDS[key][lang][0] for key in sounds.MAIN])
        single = [i for i, s in enumerate(scenes)
                  if len(s["layers"]) == 1 and s["layers"][0]["key"] in sounds.MAIN]
        truth = torch.tensor([sounds.MAIN.index(scenes[i]["layers"][0]["key"]) for i in single])
        right = ((heard[single] @ names.T).argmax(1) == truth).float().mean().item()
        ranks = []
        for first in range(0, len(scenes) - 99, 100):
            part = range(first, first + 100)
            told = [sounds.caption(scenes[i], generator(9, i), lang, True) for i in part]
            scores = embed_texts(model, tokenizer, told) @ heard[first:first + 100].T
            ranks.append((scores > scores.diag()[:, None]).sum(1))
        ranks = torch.cat(ranks)
        print(f"clap: {lang}: right sound first of {len(names)} {100 * right:.1f} % of {len(single)}"
              f" clips, recall@1 {100 * (ranks < 1).float().mean():.1f} %, @5 "
              f"{100 * (ranks < 5).float().mean():.1f} % among 100", flush=True)
    # each sound said both ways, which fits better?
    pairs = [(i, s["layers"][0]) for i, s in enumerate(scenes) if len(s["layers"]) == 1]
    pairs = [(i, x) for i, x in pairs if x["level"] != "medium"]
    said = [[f"{sounds.SOUNDS[x['key']]['fr'][0]}, {how}" for _, x in pairs]
            for how in ("doucement", "très fort")]
    soft, loud = ((embed_texts(model, tokenizer, texts) * heard[[i for i, _ in pairs]]).sum(1)
                  for texts in said)
    right = [(b > a) == (x["level"] == "loud") for a, b, (_, x) in zip(soft, loud, pairs)]
    print(f"clap: doux or fort told apart in {100 * np.mean(right):.1f} % of {len(pairs)} clips",
          flush=True)


def told_of(scene, rng):
    """A caption in either language; now and then the bare name, as lists of names have it."""
    lang = ("en", "fr")[rng.integers(2)]
    if len(scene["layers"]) == 1 and rng.random() < 0.15:
        names = sounds.SOUNDS[scene["layers"][0]["key"]][lang]
        return names[rng.integers(len(names))]
    text = sounds.caption(scene, rng, lang)
    return world.strange(text, rng) if rng.random() < 0.3 else text


def draw(rng, scenes, count):
    """Numbers of clips; half of them of few sounds, so that loudness must tell them apart."""
    few = set(rng.choice(len(sounds.KEYS), 4, replace=False))
    few = {sounds.KEYS[k] for k in few}
    picked = rng.permutation(len(scenes))
    alike = [i for i in picked[:2000] if scenes[i]["layers"][0]["key"] in few][:count // 2]
    taken = set(alike)
    return np.sort(alike + [i for i in picked if i not in taken][:count - len(alike)])


def main():
    args = arguments(__doc__, steps=20000, batch=64, rate=1e-3, texts=4, keep=0.9)
    torch.manual_seed(0)
    tokenizer = tokens.load("roberta")
    seen, scenes = mel.load("decibels")
    model = Taught(len(tokenizer))
    norm = model.clap.audio_model.audio_encoder.batch_norm
    first = torch.from_numpy(np.asarray(seen[:400])).float()
    norm.running_mean.copy_(first.mean((0, 1)))
    norm.running_var.copy_(first.var((0, 1)))
    run = Training("clap", model, args, export=save, weight_decay=0.05, keep=args.keep)
    norm.eval()                                            # the statistics stay those of the clips
    for step in run.steps():
        rng = generator(3, step)
        if step % 50 == 0 and len(scenes) < 10000:         # they may still be coming
            seen, scenes = mel.load("decibels")
        at = draw(rng, scenes, args.batch)
        start = int(rng.integers(0, seen.shape[1] - SEEN + 1))
        drawn = [scenes[i] for i in at]
        for _ in range(args.texts):                        # texts alone are cheap
            more = [sounds.sample(rng) for _ in range(args.batch)]
            run.learn(named(model, texts_of(model.clap, tokenizer, [told_of(s, rng) for s in more]),
                            *labels(more)))
        texts = [told_of(s, rng) for s in drawn]
        heard = sounds_of(model.clap, seen[at][:, start:start + SEEN])
        told = texts_of(model.clap, tokenizer, texts)
        keys, levels = labels(drawn)
        # scenes of the same sounds at the same loudness are right answers too
        kind = [frozenset((x["key"], sounds.loudness(x)) for x in s["layers"]) for s in drawn]
        same = torch.tensor([[float(a == b) for b in kind] for a in kind])
        truth = 0.5 * torch.eye(len(at)) + 0.5 * same / same.sum(1, keepdim=True)
        logits = model.clap.logit_scale_a.exp().clamp(max=100) \
            * F.normalize(told, dim=-1) @ F.normalize(heard, dim=-1).T
        match = (F.cross_entropy(logits, truth) + F.cross_entropy(logits.T, truth)) / 2
        run.learn(match + 0.5 * named(model, heard, keys, levels)
                  + 0.5 * named(model, told, keys, levels), f"match {match.item():.3f}")
    measure(run.average.clap, tokenizer)


if __name__ == "__main__":
    main()
