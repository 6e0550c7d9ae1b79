"""The tiny random ClapModel folders of tests/models and what transformers says of them.  For
developers; the product and `make test` need neither this file nor Python.

    python tests/clap.py [DIR]               tests/models/clap and tests/models/clap-fused
    python tests/clap.py big DIR             laion/clap-htsat-unfused and -fused in their real sizes

clap        as published folders are: vocab.json and merges.txt, slaney filters, no fusion;
            patches of 4x2 make a grid of 10x20, then 5x10: windows of 4 do not fit and shifted
            ones meet zeros.
clap-fused  as transformers 5 saves: tokenizer.json and processor_config.json; htk filters,
            overlapping patches, three stages, the last of one window.
Beside each lie texts and sounds with their embeddings, and the activations of the first of both,
in reference.safetensors; its metadata hold the texts."""
import math
import os
import sys
import tempfile

import numpy as np
import torch
from safetensors.torch import save_file

import transformers
from reference import (MODELS, TEXTS, alphabet, joined, on_meta, read_json, save_model, seeded,
                       watch, write_json)

SPECIALS = ["<s>", "<pad>", "</s>", "<unk>"]
PROMPTS = ["A hammer is hitting a wooden surface", "Un marché animé avec des conversations.", "",
           "<pad> in <mask> text</s> and <|endoftext|>",
           "the sound of a cat, then of a dog 🐶 " * 8]
LENGTHS = 3000, 8000, 5, 11000                       # repeated, exact, five samples, two windows


# ---- RoBERTa's tokenizer -------------------------------------------------------------------------

def learn_merges(texts, count):
    letter = alphabet()
    words = {tuple(letter[b] for b in (" " * (i > 0) + w).encode())
             for text in texts for i, w in enumerate(text.split(" "))}
    merges = []
    while len(merges) < count:
        pairs = {}
        for word in words:
            for pair in set(zip(word, word[1:])):
                pairs[pair] = pairs.get(pair, 0) + 1
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = {joined(word, best) for word in words}
    return merges


def write_tokenizer(folder, length, merges):
    os.makedirs(folder, exist_ok=True)
    pieces = SPECIALS + list(alphabet().values()) + ["".join(m) for m in merges] + ["<mask>"]
    write_json(f"{folder}/vocab.json", {piece: i for i, piece in enumerate(pieces)}, indent=None)
    with open(f"{folder}/merges.txt", "w", encoding="utf-8") as f:
        f.write("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    write_json(f"{folder}/tokenizer_config.json", {
        "add_prefix_space": False, "bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>",
        "errors": "replace", "mask_token": "<mask>", "model_max_length": length,
        "pad_token": "<pad>", "sep_token": "</s>",
        "tokenizer_class": "RobertaTokenizer", "unk_token": "<unk>"})
    return len(pieces)


# ---- the models ----------------------------------------------------------------------------------

GAIN = {"query": 1.3, "key": 1.3, "output.dense": 0.7, "pooler.dense": 0.8}


def random_weights(model, seed):
    """Every parameter and statistic, scaled so that activations stay of order one and attention is
    neither uniform nor one-hot; the spectrogram's statistics are those of decibels."""
    noise, weights = seeded(seed), {}
    for name, p in [*model.named_parameters(), *model.named_buffers()]:
        module, kind = name.rpartition(".")[::2]
        if kind in ("position_ids", "token_type_ids", "relative_position_index"):
            continue
        if kind == "num_batches_tracked":
            weights[name] = torch.tensor(0)
            continue
        r = torch.randn(p.shape, generator=noise)
        mel = module.endswith("audio_encoder.batch_norm")
        gain = [g for end, g in GAIN.items() if module.endswith(end)]
        if name.startswith("logit_scale"):
            r = torch.tensor(3.2 if name.endswith("a") else 2.1)
        elif kind == "running_mean":
            r = -25 + 4 * r if mel else 0.3 * r
        elif kind == "running_var":
            r = (300 if mel else 1) * (0.2 * r).exp()
        elif "embeddings.weight" in name or kind == "relative_position_bias_table":
            r = 0.7 * r
        elif kind == "bias":
            r = 0.15 * r
        elif r.dim() == 1:
            r = 1 + 0.2 * r
        else:
            r = r * (gain[-1] if gain else 1) / math.sqrt(r[0].numel())
        weights[name] = r.contiguous()
    return weights


def tiny_config(vocabulary, audio, positions, act, scale_act):
    text = {"model_type": "clap_text_model", "vocab_size": vocabulary, "hidden_size": 24,
            "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40,
            "hidden_act": act, "max_position_embeddings": positions, "type_vocab_size": 1,
            "layer_norm_eps": 1e-12,
            "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    return {"architectures": ["ClapModel"], "model_type": "clap", "projection_dim": 20,
            "projection_hidden_act": scale_act, "text_config": text,
            "audio_config": {"model_type": "clap_audio_model", "mlp_ratio": 1.5, **audio}}


def extractor(**how):
    return {"feature_extractor_type": "ClapFeatureExtractor", "frequency_min": 50,
            "frequency_max": 3600, "max_length_s": 1, "padding": "repeatpad",
            "return_attention_mask": False, "top_db": None, "padding_value": 0.0, **how}


def write_clap(folder, config, seed):
    """A folder as the published ones: position ids and the like stored among the weights."""
    made = transformers.ClapConfig(**config)
    weights = random_weights(on_meta(transformers.ClapModel, made), seed)
    length, side = made.text_config.max_position_embeddings, made.audio_config.window_size
    weights["text_model.embeddings.position_ids"] = torch.arange(length)[None]
    weights["text_model.embeddings.token_type_ids"] = torch.zeros(1, length, dtype=torch.long)
    step = torch.arange(side * side)
    y, x = step // side, step % side
    index = (y[:, None] - y + side - 1) * (2 * side - 1) + x[:, None] - x + side - 1
    for name in list(weights):
        if name.endswith("relative_position_bias_table"):
            weights[name.replace("bias_table", "index")] = index.clone()
    save_model(folder, "model", config, weights)


def make_tiny(folder):
    merges = learn_merges(TEXTS[:8] + PROMPTS, 60)
    plain, fused = f"{folder}/clap", f"{folder}/clap-fused"
    size = write_tokenizer(plain, 32, merges)
    write_clap(plain, tiny_config(size, {
        "window_size": 4, "num_mel_bins": 10, "spec_size": 40, "patch_size": [4, 2],
        "patch_stride": [4, 2], "depths": [2, 2], "num_attention_heads": [2, 4],
        "hidden_size": 24, "patch_embeds_hidden_size": 12}, 52, "gelu", "relu"), 41)
    write_json(f"{plain}/preprocessor_config.json", extractor(
        sampling_rate=8000, hop_length=64, fft_window_size=256, feature_size=10,
        truncation="rand_trunc"))
    with tempfile.TemporaryDirectory() as old:
        write_tokenizer(old, 512, merges[:40])
        write_clap(old, tiny_config(size, {
            "window_size": 3, "num_mel_bins": 24, "spec_size": 48, "patch_size": 6,
            "patch_stride": [4, 4], "depths": [2, 1, 2], "num_attention_heads": [2, 2, 4],
            "hidden_size": 32, "patch_embeds_hidden_size": 8, "enable_fusion": True,
            "aff_block_r": 2}, 34, "gelu", "gelu"), 42)
        write_json(f"{old}/preprocessor_config.json", extractor(
            sampling_rate=8000, hop_length=100, fft_window_size=512, feature_size=24,
            truncation="fusion"))
        transformers.ClapModel.from_pretrained(old).save_pretrained(fused)
        transformers.ClapProcessor(
            feature_extractor=transformers.ClapFeatureExtractor.from_pretrained(old),
            tokenizer=transformers.RobertaTokenizer.from_pretrained(old)).save_pretrained(fused)


# ---- the reference -------------------------------------------------------------------------------

class Clap:
    """A CLAP folder as transformers sees it."""

    def __init__(self, folder):
        self.model = transformers.ClapModel.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer = transformers.RobertaTokenizer.from_pretrained(folder)
        part = f"{folder}/processor_config.json"
        self.extractor = (
            transformers.ClapFeatureExtractor(**read_json(part)["feature_extractor"])
            if os.path.exists(part) else transformers.ClapFeatureExtractor.from_pretrained(folder))

    def ids(self, text):
        text_config = self.model.config.text_config
        length = text_config.max_position_embeddings - text_config.pad_token_id - 1
        return self.tokenizer(text, truncation=True, return_tensors="pt", max_length=min(
            length, self.tokenizer.model_max_length)).input_ids

    @torch.no_grad()
    def text(self, text):
        return self.model.text_projection(self.model.text_model(self.ids(text)).pooler_output)[0]

    def features(self, wave):
        return self.extractor(wave, sampling_rate=self.extractor.sampling_rate, return_tensors="pt")

    @torch.no_grad()
    def window(self, wave):
        given = self.features(wave)
        pooled = self.model.audio_model(**{k: v.float() if k == "input_features" else v
                                           for k, v in given.items()}).pooler_output
        return self.model.audio_projection(pooled)[0]

    def sound(self, wave):
        """Longer than the window: whole windows side by side, the last moved back to the end."""
        window = self.extractor.nb_max_samples
        if len(wave) <= window:
            return self.window(wave)
        starts = [min(at, len(wave) - window) for at in range(0, len(wave), window)]
        return torch.stack([torch.nn.functional.normalize(self.window(wave[at:at + window]), dim=0)
                            for at in starts]).mean(0)


def wave(length, seed, rate=8000):
    """Two gliding tones that come and go, and noise, as 16-bit floats."""
    rng = np.random.default_rng(seed)
    t = np.arange(length) / rate
    tones = sum(a * np.sin(2 * np.pi * (f * t + g * t * t))
                * (0.6 + 0.4 * np.sin(2 * np.pi * h * t))
                for a, f, g, h in ((0.4, 220, 400, 3), (0.2, 1300, -300, 5)))
    return (tones + 0.03 * rng.standard_normal(length)).astype(np.float16).astype(np.float32)


def write_reference(folder, inner):
    clap, seen = Clap(folder), {}
    waves = [wave(n, 50 + i) for i, n in enumerate(LENGTHS)]
    out = {"text_embeds": torch.stack([clap.text(t) for t in PROMPTS]),
           "sound_embeds": torch.stack([clap.sound(w) for w in waves]),
           "lost": torch.tensor([len(clap.tokenizer(t).input_ids) - clap.ids(t).shape[1]
                                 for t in PROMPTS]),
           **{f"sound.{i}": torch.from_numpy(w).half() for i, w in enumerate(waves)}}
    for padding in "repeat", "pad":
        clap.extractor.padding = padding
        out[f"sound_embeds.{padding}"] = clap.sound(waves[0])
    clap.extractor.padding = "repeatpad"
    watch(clap.model, "", seen.__setitem__)
    clap.text(PROMPTS[0])
    clap.window(waves[0])
    spread = {name: seen[name].std().item() for name in inner}
    least, most = min(spread.values()), max(spread.values())
    print(f"{os.path.basename(folder)}: deviations {least:.2f} to {most:.2f}")
    assert 0.1 < least and most < 20
    out |= {"input_features": clap.features(waves[0]).input_features[:, :1],
            "input_ids": clap.ids(PROMPTS[0])}
    save_file({name: (t if name.startswith("sound.") else t.float()).contiguous()
               for name, t in (out | {name: seen[name] for name in inner}).items()},
              f"{folder}/reference.safetensors", {f"text.{i}": t for i, t in enumerate(PROMPTS)})


def inner(depths):
    audio = "audio_model.audio_encoder"
    text = [f"text_model.{name}"
            for name in ("embeddings", "encoder.layer.0", "encoder.layer.1", "pooler")]
    blocks = [f"{audio}.layers.{i}.blocks.{j}" for i, n in enumerate(depths) for j in range(n)]
    merges = [f"{audio}.layers.{i}.downsample" for i in range(len(depths) - 1)]
    return (text + [f"{audio}.patch_embed", f"{audio}.norm"] + blocks + merges
            + ["text_projection", "audio_projection"])


def big(folder):
    merges = learn_merges(TEXTS, 200)
    for name, fusion in ("clap-htsat-unfused", False), ("clap-htsat-fused", True):
        write_tokenizer(f"{folder}/{name}", 512, merges)
        write_clap(f"{folder}/{name}", {
            "architectures": ["ClapModel"], "model_type": "clap", "projection_dim": 512,
            "text_config": {"vocab_size": 50265}, "audio_config": {"enable_fusion": fusion}}, 43)
        write_json(f"{folder}/{name}/preprocessor_config.json", extractor(
            sampling_rate=48000, hop_length=480, fft_window_size=1024, feature_size=64,
            max_length_s=10, frequency_max=14000, truncation="fusion" if fusion else "rand_trunc"))


def main():
    words = sys.argv[1:]
    if words[:1] == ["big"]:
        return big(words[1])
    folder = words[0] if words else MODELS
    make_tiny(folder)
    write_reference(f"{folder}/clap", inner([2, 2]))
    write_reference(f"{folder}/clap-fused", inner([2, 1, 2]))


if __name__ == "__main__":
    main()
