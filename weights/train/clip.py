"""CLIP of the small world: text and pictures in one space, in French and English.

    python clip.py [--work DIR] [--minutes 12]     train, going on from where it stands
    python clip.py --text 0                        from here, only the picture tower learns
    python clip.py --decay 300                     let the rate fall over 300 steps, and end

transformers' CLIPModel, narrow: pictures of 64x64 in patches of 16, captions of both languages drawn
afresh at every step.  Beside the contrastive loss: each picture must be nearest to its subject's
name among all names, and small heads that are thrown away afterwards name what the painter knows of
the scene; that teaches the picture tower several times faster.
Measured at the end on held-out scenes: the subject named among all, recall of pictures by text."""
import json

import numpy as np
import torch
import torch.nn.functional as F
from transformers import CLIPConfig, CLIPModel

import tokens
import world
from common import Training, arguments, generator, pictures, work

SIDE, WIDTH, LENGTH = 64, 128, 40
NAMED = {"subject": world.SUBJECTS, "setting": world.SETTINGS, "weather": world.WEATHER,
         "time": world.TIMES, "season": world.SEASONS, "mood": world.MOODS, "style": world.STYLES,
         "colour": world.COLOURS}

FORMS = {"en": ["{}", "a {}", "a picture of a {}", "a photo of a {}"],
         "fr": ["{}", "une image de {}", "une photo de {}", "un dessin de {}"]}


def config(vocabulary):
    tower = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_hidden_layers": 4,
             "num_attention_heads": 4, "hidden_act": "quick_gelu", "projection_dim": WIDTH}
    return CLIPConfig(
        text_config=tower | {"vocab_size": vocabulary, "max_position_embeddings": 77, "num_hidden_layers": 3,
                             "bos_token_id": vocabulary - 2, "eos_token_id": vocabulary - 1,
                             "pad_token_id": vocabulary - 1},
        vision_config=tower | {"image_size": SIDE, "patch_size": 16}, projection_dim=WIDTH)


def small(kind):
    """The rendered pictures, resized as CLIPImageProcessor does; kept beside them."""
    import os
    from PIL import Image
    path, (big, scenes) = work(f"{kind}-{SIDE}.npy"), pictures(kind)
    if not os.path.exists(path):
        out = np.stack([np.asarray(Image.fromarray(p).resize((SIDE, SIDE), Image.BICUBIC))
                        for p in big])
        np.save(path, out)
    return np.load(path, mmap_mode="r"), scenes


def pixels(batch):
    return torch.from_numpy(np.ascontiguousarray(batch)).permute(0, 3, 1, 2).float() / 127.5 - 1


def embed_texts(model, tokenizer, texts):
    ids = tokenizer(texts, padding=True, truncation=True, max_length=LENGTH, return_tensors="pt")
    out = model.text_model(input_ids=ids.input_ids)
    return F.normalize(model.text_projection(out.pooler_output), dim=-1)


def embed_pictures(model, batch):
    x = batch if torch.is_tensor(batch) else pixels(batch)
    pooled = model.vision_model(pixel_values=x).pooler_output
    return pooled, F.normalize(model.visual_projection(pooled), dim=-1)


class Taught(torch.nn.Module):
    """The model and the heads that go away."""

    def __init__(self, vocabulary):
        super().__init__()
        self.clip = CLIPModel(config(vocabulary))
        self.heads = torch.nn.ModuleDict(
            {name: torch.nn.Linear(WIDTH, len(values) + 1) for name, values in NAMED.items()})


def names(lang, rng):
    """Every subject by one of its names, in one of the forms that labels take."""
    return [FORMS[lang][rng.integers(len(FORMS[lang]))].format(said[lang][rng.integers(
        len(said[lang]))]) for said in world.SUBJECTS.values()]


def altered(batch, rng):
    """Mirrored, shifted, softened: what does not change what a picture shows."""
    if rng.random() < 0.5:
        batch = batch[:, :, ::-1]
    x = torch.roll(pixels(batch), tuple(rng.integers(-4, 5, 2).tolist()), (2, 3))
    soft = int(len(x) * 0.4)
    side = int(rng.integers(20, 48))
    x[:soft] = F.interpolate(F.interpolate(x[:soft], size=side, mode="area"), size=SIDE,
                             mode="bilinear")
    return x


def labels(scenes):
    """What each head should say; an attribute that is absent is a class of its own."""
    index = {name: {v: i for i, v in enumerate([*values, None])} for name, values in NAMED.items()}
    return {name: torch.tensor([index[name].get(s.get(name), len(index[name]) - 1) for s in scenes])
            for name in NAMED}


def save(taught, folder):
    taught.clip.save_pretrained(folder, safe_serialization=True)
    with open(f"{folder}/preprocessor_config.json", "w") as f:
        json.dump({"image_processor_type": "CLIPImageProcessor", "do_resize": True,
                   "size": {"shortest_edge": SIDE}, "resample": 3, "do_center_crop": True,
                   "crop_size": {"height": SIDE, "width": SIDE}, "do_rescale": True,
                   "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5] * 3,
                   "image_std": [0.5] * 3, "do_convert_rgb": True}, f, indent=2)
    tokens.load("clip").save_pretrained(folder)


@torch.no_grad()
def measure(model, tokenizer):
    """On held-out scenes and wordings."""
    seen, scenes = small("held_out")
    images = torch.cat([embed_pictures(model, seen[i:i + 250])[1]
                        for i in range(0, len(seen), 250)])
    subjects = list(world.SUBJECTS)
    truth = torch.tensor([subjects.index(s["subject"]) for s in scenes])
    for lang in "en", "fr":
        names = embed_texts(model, tokenizer, [FORMS[lang][2].format(world.SUBJECTS[s][lang][0])
                                                 for s in subjects])
        right = ((images @ names.T).argmax(1) == truth).float().mean().item()
        ranks = []
        for first in range(0, len(scenes) - 99, 100):
            part = range(first, first + 100)
            texts = [world.caption(scenes[i], generator(9, i), lang, True) for i in part]
            scores = embed_texts(model, tokenizer, texts) @ images[first:first + 100].T
            ranks.append((scores > scores.diag()[:, None]).sum(1))
        ranks = torch.cat(ranks)
        print(f"clip: {lang}: subject named {100 * right:.1f} %, recall@1 "
              f"{100 * (ranks < 1).float().mean():.1f} %, @5 {100 * (ranks < 5).float().mean():.1f} %"
              " among 100", flush=True)


def main():
    args = arguments(__doc__, steps=20000, batch=160, rate=1.5e-3, text=1)
    torch.manual_seed(0)
    tokenizer = tokens.load("clip")
    seen, scenes = small("pictures")
    known = labels(scenes)
    model = Taught(len(tokenizer))
    for part in model.clip.text_model, model.clip.text_projection:
        part.requires_grad_(bool(args.text))
    run = Training("clip", model, args, export=save, weight_decay=0.05, muon=True)
    for step in run.steps():
        rng = generator(1, step)
        at = rng.choice(len(seen), args.batch, replace=False)
        at.sort()
        lang = ("en", "fr")[rng.integers(2)]
        texts = [world.caption(scenes[i], rng, ("en", "fr")[rng.integers(2)]) for i in at]
        pooled, images = embed_pictures(model.clip, altered(seen[at], rng))
        with torch.set_grad_enabled(bool(args.text)):
            written = embed_texts(model.clip, tokenizer, texts + names(lang, rng))
        scale = model.clip.logit_scale.exp().clamp(max=100)
        logits = scale * written[:len(at)] @ images.T
        truth = torch.arange(len(at))
        match = (F.cross_entropy(logits, truth) + F.cross_entropy(logits.T, truth)) / 2
        called = F.cross_entropy(scale * images @ written[len(at):].T, known["subject"][at])
        named = [F.cross_entropy(model.heads[name](pooled), known[name][at]) for name in NAMED]
        run.learn(match + called + 0.3 * sum(named),
                  f"match {match.item():.3f} subject {called.item():.3f}")
    measure(run.average.clip, tokenizer)


if __name__ == "__main__":
    main()
