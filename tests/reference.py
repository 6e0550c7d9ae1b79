"""The reference: what transformers and diffusers compute in float32 on the CPU.  For developers;
the product and `make test` need neither this file nor Python.

    python3 -m venv venv && venv/bin/pip install -r tests/requirements.txt

    python tests/reference.py make [DIR]     the tiny random models of tests/models
    python tests/reference.py big DIR        ViT-B/32, ViT-L/14, SD 1.5 in their real sizes
    python tests/reference.py trace MODEL -o FILE [-p TEXT] ...
                                             every module's output, for `fusion compare`

All weights are random, from fixed seeds, scaled so that nothing degenerates: activations stay of
order one at any depth, attention is neither uniform nor one-hot, pictures are neither flat nor
saturated.  `make` measures that and stops where it is not so.  Folders look as published ones do.

Beside the tiny models lie the reference's answers, so that the C tests need no Python:
    texts.json                  texts and their ids, nothing cut, by kind of tokenizer folder
    pictures/                   one picture of each kind that the program reads
    MODEL/reference.safetensors inputs, outputs and inner activations by module path; its metadata
                                name the pictures in order, or the command line of the runs"""
import argparse
import collections
import gzip
import importlib.util
import json
import math
import os
import shlex
import struct
import sys
import tempfile
import zlib

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import diffusers
import transformers
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

HERE = os.path.dirname(os.path.abspath(__file__))
MODELS = os.path.join(HERE, "models")
START, END = "<|startoftext|>", "<|endoftext|>"
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
diffusers.logging.set_verbosity_error()
diffusers.logging.disable_progress_bar()


# ---- texts: ten scripts, and what tokenizers trip over -----------------------------------------

TEXTS = [
    # Latin
    "a photo of a cat", "a photo of a dog",
    "an oil painting of a lighthouse in a storm, highly detailed",
    "A serene lake surrounded by snow-capped mountains at sunrise", "UPPER lower MiXeD CaSe",
    "naïve café, déjà vu", "Der Fuchs springt über den faulen Hund; Straße, STRASSE, ẞ",
    "El ñandú corrió ¿dónde? ¡allí!", "Zażółć gęślą jaźń",
    "Příliš žluťoučký kůň úpěl ďábelské ódy", "İstanbul, ılık ışık, DİYARBAKIR",
    "Việt Nam: một bức tranh phong cảnh", "Þetta er ævintýri á ísköldum jökli",
    "ŐŰ őű, Łódź, Æsir, Œuvre", "don't won't I'll you're they've I'd he's IT'S 'tis rock'n'roll",
    "o'clock ' 'd 's s' ''s '' '\"'",
    # digits and punctuation
    "1234567890", "3.14159 and 2,718,281", "x2 4k 8K 16:9 1/2 ½ ² Ⅷ ① ٣ ४ 五",
    "f/1.8, 35mm, ISO-400", "(((masterpiece:1.2)))",
    "[one|two] {three} <four> @five #six $7 %8 ^9 &10 *11", "!", "!!", "! !", "hello! world!!",
    "what?! no... yes!?", "a.b.c", "e-mail: someone@example.org",
    "https://example.org/a_b?c=d&e=f#g", "C:\\path\\to\\file.txt",
    "under_score __dunder__ kebab-case", "~`!@#$%^&*()_+-={}|[]\\:\";'<>?,./",
    "— – ‑ … “quoted” ‘single’ «guillemets»",
    # white space
    "  leading and trailing  ", "tabs\tand\nnew\r\nlines", "many      spaces",
    "no\u00a0break\u2003em\u3000ideographic", "zero\u200bwidth\u200djoiner\ufeffbom",
    "line\u2028para\u2029sep\u0085next", "unit\x1fsep\x1crecord\x0bvt\x0cff", " ", "\n\t ",
    # Greek
    "ΟΔΥΣΣΕΥΣ, Σίσυφος, ΣΑΣ", "μια φωτογραφία ενός γάτου στον ήλιο", "ἄνδρα μοι ἔννεπε, Μοῦσα",
    # Cyrillic
    "фотография кошки на подоконнике", "Съешь же ещё этих мягких французских булок",
    "ЁЖИК в тумане", "Їжак і ґанок",
    # Hebrew and Arabic
    "צילום של חתול על הגג", "שָׁלוֹם עוֹלָם", "صورة قطة على السطح", "السَّلامُ عَلَيْكُم",
    "پنجره و گربه", "۱۲۳۴ ٤٥٦",
    # Devanagari, Bengali, Tamil
    "छत पर बिल्ली की तस्वीर", "नमस्ते दुनिया क्षत्रिय", "ছাদে একটি বিড়ালের ছবি",
    "கூரையில் பூனையின் படம்",
    # Thai, Khmer, Tibetan, Myanmar
    "ภาพถ่ายแมวบนหลังคา", "រូបថតឆ្មា", "བོད་སྐད་", "မြန်မာဘာသာ",
    # Chinese, Japanese, Korean
    "屋顶上的一只猫", "宁静的湖泊，雪山环绕，日出。", "屋根の上の猫の写真", "ｆｕｌｌｗｉｄｔｈ ＴＥＸＴ １２３", "ﾊﾝｶｸ ｶﾀｶﾅ", "지붕 위의 고양이 사진",
    "한글", "が か\u3099 ぱ は\u309a",
    # Georgian, Armenian, Ethiopic, Cherokee, Deseret
    "კატა სახურავზე ᲙᲐᲢᲐ", "կատուն տանիքի վրա ԿԱՏՈՒ և", "ድመት በጣሪያ ላይ", "ᏣᎳᎩ ꭶꮃ", "𐐀𐐨 𐐔𐐯𐑅𐐨𐑉𐐯𐐻",
    # emoji and symbols
    "🐱", "a cat 🐱 and a dog 🐶!", "👩‍👩‍👧‍👦 family", "👍🏽👍🏿", "🇫🇷🇯🇵", "1️⃣ keycap", "☃️ ☃", "❤️‍🔥",
    "∑ ∫ √ ≠ ∞ π", "€£¥₿", "♔♕♖",
    # normal forms and case
    "e\u0301 é E\u0301 É", "A\u030a Å \u212b", "ﬁne ﬂow ﬀ", "ǅ ǆ Ǆ", "K \u212a Ω \u2126",
    "q\u0307\u0323 q\u0323\u0307", "ñ n\u0303", "\u1e9b\u0323", "각 \u1100\u1161\u11a8",
    "Z\u0351\u036b\u0343a\u0322\u0328l\u0335g\u0321o\u0315",
    # what looks like a special token
    "<|endoftext|>", "a <|startoftext|> b <|endoftext|> c", "<|EndOfText|>", "<|endoftext|",
    "< |endoftext| >", "x<|endoftext|>y", "<|StartOfText|> z", "<|startoftext|><|startoftext|>",
    "<pad> <unk> [CLS] </w> a</w>",
    # length
    "a", "b" * 60, "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "a cat " * 45, "word " * 75, "word " * 76, "猫" * 40, "🐱" * 30,
    "lorem ipsum dolor sit amet, consectetur adipiscing elit, " * 6,
    # control and rare code points
    "bell\x07 escape\x1b delete\x7f", "private \ue000 use, tag \U000e0041",
    "\U0001f9ff\U0010ffff", "combining \u0301 alone", "\u0345\u0399",
    "mixed кот gato 猫 قط בלי 고양이 แมว γάτα बिल्ली", "The quick brown fox jumps over the lazy dog",
]


# ---- tokenizers --------------------------------------------------------------------------------

def alphabet():
    """CLIP's and GPT-2's letter for each byte, in the order of the vocabulary: printable bytes
    stand for themselves and come first, the others take letters from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}


def learn_merges(texts, count):
    """Byte-pair encoding's training loop on distinct words: the commonest pair first."""
    letter = alphabet()
    words = {tuple(letter[b] for b in w.encode()[:-1]) + (letter[w.encode()[-1]] + "</w>",)
             for text in texts for w in text.lower().split()}
    merges = []
    while len(merges) < count:
        pairs = collections.Counter(pair for word in words for pair in set(zip(word, word[1:])))
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = {joined(word, best) for word in words}
    return merges


def joined(word, pair):
    out = []
    for piece in word:
        if out and (out[-1], piece) == pair:
            out[-1] += piece
        else:
            out.append(piece)
    return tuple(out)


def vocabulary(merges, specials_last=True):
    letters, learned = list(alphabet().values()), ["".join(m) for m in merges]
    tail = learned + [START, END] if specials_last else [START, END] + learned
    return {piece: i for i, piece in enumerate(letters + [c + "</w>" for c in letters] + tail)}


def published_merges():
    """The 48,894 merges of OpenAI's CLIP, from the open_clip package."""
    package = importlib.util.find_spec("open_clip")
    if not package:
        sys.exit("the published vocabulary: pip install --no-deps open_clip_torch==3.3.0")
    path = os.path.join(package.submodule_search_locations[0], "bpe_simple_vocab_16e6.txt.gz")
    with gzip.open(path, "rt", encoding="utf-8") as f:
        return [tuple(line.split()) for line in f.read().split("\n")[1:48895]]


def write_tokenizer(folder, merges, pad=END, specials_last=True):
    """vocab.json, merges.txt and two small files beside them, as in the published folders."""
    os.makedirs(folder, exist_ok=True)
    added = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    special = {key: {"content": token, **added}
               for key, token in (("bos_token", START), ("eos_token", END), ("unk_token", END))}
    write_json(f"{folder}/vocab.json", vocabulary(merges, specials_last), indent=None)
    with open(f"{folder}/merges.txt", "w", encoding="utf-8") as f:
        f.write("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    write_json(f"{folder}/special_tokens_map.json", special | {"pad_token": pad})
    write_json(f"{folder}/tokenizer_config.json", {
        "add_prefix_space": False, "errors": "replace", "model_max_length": 77,
        "do_lower_case": True, "tokenizer_class": "CLIPTokenizer", "pad_token": END,
        **{key: {"__type": "AddedToken", **token} for key, token in special.items()}})


def write_json(path, value, indent=2):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f, indent=indent, ensure_ascii=False)
        f.write("\n")


def read_json(path):
    with open(path, encoding="utf-8") as f:
        return json.load(f)


# ---- random weights ----------------------------------------------------------------------------

# Gain over 1/sqrt(fan-in) by the end of a weight's module, 1 for all others.  Queries and keys make
# scores of spread about 1.5; what ends a residual branch is damped, so that the sum of many stays
# of order one.
GAIN = {"q_proj": 1.3, "k_proj": 1.3, "to_q": 1.3, "to_k": 1.3, "out_proj": 0.7, "fc2": 0.7,
        "conv2": 0.7, "to_out.0": 0.7, "ff.net.2": 0.7, "conv_out": 1.5, "decoder.conv_out": 0.8,
        "quant_conv": 5.0}
EMBEDDINGS = ("token_embedding.weight", "position_embedding.weight", "class_embedding")


def random_weights(model, seed, dtype=torch.float32):
    """Name -> random tensor for every parameter of model, which may lie on the meta device."""
    noise = seeded(seed)
    weights = {}
    for name, p in model.named_parameters():
        r = torch.randn(p.shape, generator=noise)
        module, kind = name.rpartition(".")[::2]
        gains = [g for end, g in GAIN.items() if module == end or module.endswith("." + end)]
        if name == "logit_scale":
            r = torch.tensor(3.2)
        elif (module + "." + kind).endswith(EMBEDDINGS):
            r = 0.7 * r
        elif kind == "bias":
            r = 0.15 * r
        elif r.dim() == 1:
            r = 1 + 0.2 * r
        else:
            r = r * (gains[-1] if gains else 1) / math.sqrt(r[0].numel())
        if name.startswith("quant_conv"):             # rows: means, then logarithms of variances,
            half = r.shape[0] // 2                    # which are small
            r[half:] = r[half:] / 5 - 4 * (kind == "bias")
        weights[name] = r.to(dtype).contiguous()
    return weights


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def on_meta(make, *args):
    with torch.device("meta"):
        return make(*args)


def save_model(folder, name, config, weights):
    os.makedirs(folder, exist_ok=True)
    write_json(f"{folder}/config.json", config)
    save_file(weights, f"{folder}/{name}.safetensors", {"format": "pt"})


# ---- CLIP --------------------------------------------------------------------------------------

def clip_config(text, vision, projection_dim, vocab_size, eos, act="quick_gelu"):
    """config.json with the keys that OpenAI's folders rely on.  The towers' projection_dim is stale
    there.  text: width, mlp, layers, heads; vision: the same, picture, patch."""
    def tower(width, mlp, layers, heads):
        return {"hidden_size": width, "intermediate_size": mlp, "num_hidden_layers": layers,
                "num_attention_heads": heads, "hidden_act": act, "layer_norm_eps": 1e-05,
                "projection_dim": 512}
    return {"architectures": ["CLIPModel"], "model_type": "clip", "projection_dim": projection_dim,
            "logit_scale_init_value": 2.6592, "torch_dtype": "float32",
            "text_config": {**tower(*text), "model_type": "clip_text_model",
                            "vocab_size": vocab_size, "max_position_embeddings": 77,
                            "bos_token_id": 0, "eos_token_id": eos, "pad_token_id": 1},
            "vision_config": {**tower(*vision[:4]), "model_type": "clip_vision_model",
                              "image_size": vision[4], "patch_size": vision[5]}}


def write_clip(folder, config, seed, dtype=torch.float32):
    """A folder as OpenAI's: sizes as plain integers, position_ids stored among the weights."""
    model = on_meta(transformers.CLIPModel, transformers.CLIPConfig(**config))
    weights = random_weights(model, seed, dtype)
    size, patch = config["vision_config"]["image_size"], config["vision_config"]["patch_size"]
    for tower, n in ("text_model", 77), ("vision_model", (size // patch) ** 2 + 1):
        weights[f"{tower}.embeddings.position_ids"] = torch.arange(n)[None]
    save_model(folder, "model", config, weights)
    write_json(f"{folder}/preprocessor_config.json", {
        "crop_size": size, "do_center_crop": True, "do_normalize": True, "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD, "resample": 3, "size": size})


def make_clip(folder, merges):
    """clip: OpenAI's layout, end token 2 (pool at the largest id).
    clip-gelu: as transformers 5 saves (only tokenizer.json, sizes as objects), gelu, ids above the
    end token (pool at its first place), a crop smaller than the resized picture."""
    write_clip(f"{folder}/clip", clip_config((32, 52, 2, 4), (39, 70, 2, 3, 32, 8), 24, 600, 2), 1)
    write_tokenizer(f"{folder}/clip", merges)
    gelu = clip_config((24, 40, 2, 2), (32, 48, 1, 4, 28, 7), 20, 600, eos=513, act="gelu")
    with tempfile.TemporaryDirectory() as old:
        write_clip(old, gelu, seed=2)
        write_tokenizer(old, merges, specials_last=False)
        for part in (
                transformers.CLIPModel.from_pretrained(old),
                transformers.CLIPTokenizer.from_pretrained(old),
                CLIPImageProcessorPil(size={"shortest_edge": 31},
                                      crop_size={"height": 28, "width": 28})):
            part.save_pretrained(f"{folder}/clip-gelu")


class Clip:
    """A CLIP folder as transformers sees it."""

    def __init__(self, folder):
        self.model = transformers.CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
        self.pictures = CLIPImageProcessorPil.from_pretrained(folder)

    def ids(self, texts, padding=True):
        return self.tokenizer(texts, padding=padding, truncation=True, max_length=77,
                              return_tensors="pt").input_ids

    def pixels(self, files):
        return self.pictures([open_picture(f) for f in files], return_tensors="pt").pixel_values

    @torch.no_grad()
    def texts(self, texts, padding=True):
        return self.model.get_text_features(self.ids(texts, padding)).pooler_output

    @torch.no_grad()
    def images(self, files):
        return self.model.get_image_features(self.pixels(files)).pooler_output


def open_picture(file):
    """What the program takes a picture to be: as Pillow opens it, 16-bit grey by its high byte."""
    picture = Image.open(file)
    if picture.mode.startswith("I"):
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    return picture


# ---- Stable Diffusion --------------------------------------------------------------------------

# The published scheduler files.
NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
         "num_train_timesteps": 1000, "trained_betas": None, "set_alpha_to_one": False,
         "skip_prk_steps": True, "steps_offset": 1, "clip_sample": False}
SD1_SCHEDULER = {"_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", **NOISE}
SD2_SCHEDULER = {"_class_name": "DDIMScheduler", "_diffusers_version": "0.8.0", **NOISE,
                 "prediction_type": "v_prediction"}


def text_config(width, mlp, layers, heads, vocab_size, act):
    return {"architectures": ["CLIPTextModel"], "model_type": "clip_text_model",
            "hidden_size": width, "intermediate_size": mlp, "num_hidden_layers": layers,
            "num_attention_heads": heads, "hidden_act": act, "layer_norm_eps": 1e-05,
            "max_position_embeddings": 77, "vocab_size": vocab_size, "bos_token_id": 0,
            "eos_token_id": 2, "pad_token_id": 1, "projection_dim": width, "torch_dtype": "float32"}


def unet_config(channels, layers, heads, text_width, groups, sample, **more):
    """Cross attention at every level but the last, as in all Stable Diffusion UNets."""
    attending = len(channels) - 1
    return {"_class_name": "UNet2DConditionModel", "_diffusers_version": "0.10.0",
            "act_fn": "silu", "attention_head_dim": heads, "block_out_channels": channels,
            "center_input_sample": False, "cross_attention_dim": text_width,
            "down_block_types": ["CrossAttnDownBlock2D"] * attending + ["DownBlock2D"],
            "downsample_padding": 1, "flip_sin_to_cos": True, "freq_shift": 0, "in_channels": 4,
            "layers_per_block": layers, "mid_block_scale_factor": 1, "norm_eps": 1e-05,
            "norm_num_groups": groups, "out_channels": 4, "sample_size": sample,
            "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * attending, **more}


def vae_config(channels, layers, groups, sample, **more):
    return {"_class_name": "AutoencoderKL", "_diffusers_version": "0.10.0", "act_fn": "silu",
            "block_out_channels": channels, "in_channels": 3, "latent_channels": 4,
            "down_block_types": ["DownEncoderBlock2D"] * len(channels),
            "layers_per_block": layers, "norm_num_groups": groups, "out_channels": 3,
            "sample_size": sample, "up_block_types": ["UpDecoderBlock2D"] * len(channels), **more}


def write_sd(folder, text, unet, vae, scheduler, seed, dtypes, published_names):
    """A pipeline's folder.  published_names: as SD 1.5 stores them, text_model. before the text
    encoder's, query, key, value and proj_attn in the VAE; else as today's libraries save."""
    models = [on_meta(transformers.CLIPTextModel, transformers.CLIPTextConfig(**text)),
              on_meta(diffusers.UNet2DConditionModel.from_config, unet),
              on_meta(diffusers.AutoencoderKL.from_config, vae)]
    weights = [random_weights(m, seed + i, dtypes[i]) for i, m in enumerate(models)]
    if published_names:
        weights[0] = {"text_model." + name: w for name, w in weights[0].items()}
        weights[0]["text_model.embeddings.position_ids"] = torch.arange(77)[None]
        weights[2] = {published_vae_name(name): w for name, w in weights[2].items()}
    save_model(f"{folder}/text_encoder", "model", text, weights[0])
    save_model(f"{folder}/unet", "diffusion_pytorch_model", unet, weights[1])
    save_model(f"{folder}/vae", "diffusion_pytorch_model", vae, weights[2])
    os.makedirs(f"{folder}/scheduler", exist_ok=True)
    write_json(f"{folder}/scheduler/scheduler_config.json", scheduler)
    write_json(f"{folder}/model_index.json", {
        "_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.6.0",
        "feature_extractor": [None, None], "safety_checker": [None, None],
        "scheduler": ["diffusers", scheduler["_class_name"]],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]})


def published_vae_name(name):
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for new in old:
        name = name.replace(f".{new}.", f".{old[new]}.")
    return name


def make_sd(folder, merges):
    """sd1 as SD 1.5: convolutions around the transformers, one number of heads, epsilon, PNDM.
    sd2 as SD 2.1: linear layers there, heads by level, gelu, v prediction, DDIM, "!" as padding."""
    single, half, brain = torch.float32, torch.float16, torch.bfloat16
    write_sd(f"{folder}/sd1", text_config(32, 64, 2, 4, 600, "quick_gelu"),
             unet_config([8, 16, 20], 1, 2, 32, groups=4, sample=8),
             vae_config([8, 8, 16, 16], 1, groups=4, sample=64),
             SD1_SCHEDULER, 10, (half, half, half), published_names=True)
    write_tokenizer(f"{folder}/sd1/tokenizer", merges)
    write_sd(f"{folder}/sd2", text_config(40, 72, 2, 5, 600, "gelu"),
             unet_config([8, 16, 20], 1, [1, 4, 2], 40, groups=4, sample=12,
                         use_linear_projection=True, dual_cross_attention=False,
                         only_cross_attention=False, upcast_attention=True),
             vae_config([8, 8, 16, 16], 1, groups=8, sample=96, scaling_factor=0.18215),
             SD2_SCHEDULER, 20, (single, half, brain), published_names=False)
    write_tokenizer(f"{folder}/sd2/tokenizer", merges, pad="!")


# The program's --sampling-method -> diffusers' class, with that class's default options.
SAMPLERS = {"ddim": "DDIMScheduler", "ddpm": "DDPMScheduler", "pndm": "PNDMScheduler",
            "euler": "EulerDiscreteScheduler", "euler_a": "EulerAncestralDiscreteScheduler",
            "heun": "HeunDiscreteScheduler", "lms": "LMSDiscreteScheduler",
            "dpm++2m": "DPMSolverMultistepScheduler", "unipc": "UniPCMultistepScheduler",
            "lcm": "LCMScheduler"}
WITH_KARRAS = ["euler", "heun", "lms", "dpm++2m", "unipc"]
MORE_SAMPLERS = {"dpm++2m_sde": "DPMSolverMultistepScheduler", "tcd": "TCDScheduler"}
SPACINGS = ["linspace", "leading", "trailing"]
EVERY_SAMPLER = [(m, "discrete") for m in SAMPLERS] + [(m, "karras") for m in WITH_KARRAS]


def philox(seed, n, draw=0):
    """torch.randn on CUDA, by Philox4x32-10 (Salmon et al. 2011): value i is the sine half of Box
    and Muller over the first two words of counter (draw, 0, i, 0)."""
    word, low = np.uint64(32), np.uint64(2**32 - 1)
    zero = np.zeros(n, np.uint64)
    c = [zero + np.uint64(draw), zero, np.arange(n, dtype=np.uint64), zero]
    k = [seed % 2**32, seed >> 32]
    for _ in range(10):
        a, b = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(b >> word) ^ c[1] ^ np.uint64(k[0]), b & low,
             (a >> word) ^ c[3] ^ np.uint64(k[1]), a & low]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    u, v = (c[0] + 0.5) * 2.0**-32, (c[1] + 0.5) * 2.0**-32 * 2 * math.pi
    return (np.sqrt(-2 * np.log(u)) * np.sin(v)).astype(np.float32)


def load_pipe(folder, kind, method=None, schedule="discrete"):
    """A pipeline, with another sampler made from the scheduler's file on disk: what that file lacks
    takes the default of the new class."""
    pipe = kind.from_pretrained(folder, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    if method:
        config = read_json(f"{folder}/scheduler/scheduler_config.json")
        more = {"use_karras_sigmas": schedule == "karras"} if method in WITH_KARRAS else {}
        if schedule == "exponential":
            more["use_exponential_sigmas"] = True
        if schedule in SPACINGS:
            more["timestep_spacing"] = schedule
        if method == "dpm++2m_sde":
            more["algorithm_type"] = "sde-dpmsolver++"
        sampler = getattr(diffusers, (SAMPLERS | MORE_SAMPLERS)[method]).from_config(config, **more)
        pipe = kind(**pipe.components | {"scheduler": sampler}, requires_safety_checker=False)
        pipe.set_progress_bar_config(disable=True)
    return pipe


def image_words(words):
    """The options of `fusion image` that the reference follows."""
    p = argparse.ArgumentParser("image", allow_abbrev=False)
    p.add_argument("-p", dest="prompt")
    p.add_argument("-n", dest="negative")
    p.add_argument("-W", dest="width", type=int)
    p.add_argument("-H", dest="height", type=int)
    p.add_argument("-i", dest="picture")
    p.add_argument("--steps", type=int, default=50)
    p.add_argument("--cfg-scale", type=float, default=7.5)
    p.add_argument("--seed", type=int, required=True)
    p.add_argument("--sampling-method", choices=SAMPLERS | MORE_SAMPLERS)
    p.add_argument("--schedule", default="discrete",
                   choices=["discrete", "karras", "exponential", *SPACINGS])
    p.add_argument("--timesteps")
    p.add_argument("--sigmas")
    p.add_argument("--guidance-rescale", type=float, default=0)
    p.add_argument("--eta", type=float, default=0)
    p.add_argument("--strength", type=float)
    p.add_argument("--clip-skip", type=int)
    p.add_argument("--latents")
    p.add_argument("--prompt-embeds")
    return p.parse_args(words)


def run_pipe(folder, words, output_type="pil", dtype=torch.float32, sink=None):
    """What diffusers' pipeline gives for `fusion image -m folder words`."""
    w = image_words(words)
    kind = (diffusers.StableDiffusionImg2ImgPipeline if w.picture else
            diffusers.StableDiffusionPipeline)
    pipe = load_pipe(folder, kind, w.sampling_method, w.schedule).to(dtype)
    encoded = watch_pipe(pipe, sink) if sink else {}
    if w.clip_skip:
        # diffusers 0.42 looks for the final norm where transformers 4 had it
        object.__setattr__(pipe.text_encoder, "text_model", pipe.text_encoder)
    if w.picture:
        more = {"image": open_picture(w.picture).convert("RGB"), "strength": w.strength}
    else:
        more = {"width": w.width, "height": w.height}
    if w.guidance_rescale:
        more["guidance_rescale"] = w.guidance_rescale
    if w.timesteps:
        more["timesteps"] = [int(t) for t in w.timesteps.split(",")]
    if w.sigmas:
        more["sigmas"] = [float(s) for s in w.sigmas.split(",")]
    if w.latents:
        more["latents"] = load_file(w.latents)["latents"].to(dtype)
    if w.prompt_embeds:
        more |= {name: t.to(dtype) for name, t in load_file(w.prompt_embeds).items()}
    else:
        more |= {"prompt": w.prompt, "negative_prompt": w.negative}
    out = pipe(num_inference_steps=w.steps, guidance_scale=w.cfg_scale, eta=w.eta,
               clip_skip=w.clip_skip, generator=seeded(w.seed), output_type=output_type, **more)
    for name, value in encoded.items():
        sink(name, value)
    return out.images[0]


# ---- watching modules --------------------------------------------------------------------------

def watch(model, prefix, sink):
    """Call sink(name, output) after every module that gives a tensor, or a tuple that begins with
    one.  A name is the module's path after prefix."""
    def hook(name):
        def seen(module, inputs, output):
            output = output[0] if isinstance(output, tuple) else output
            if torch.is_tensor(output):
                sink(name, output.detach())
        return seen
    for path, module in model.named_modules():
        module.register_forward_hook(hook((prefix + path).rstrip(".")))


def watch_pipe(pipe, sink):
    """The program's names: stepN.unet... with N counting calls, vae..., text_encoder.text_model...
    Texts are returned, not sunk: the pipeline encodes the prompt, then the negative prompt; the
    program both as one batch, negative first.  The time's embedding is the same for a whole batch
    and kept once."""
    step, encoded = -1, {}

    def begin_step(module, inputs):
        nonlocal step
        step += 1

    def unet_sink(name, value):
        sink(f"step{step}.{name}", value[:1] if name == "unet.time_embedding" else value)

    def text_sink(name, value):
        encoded[name] = torch.cat([value, encoded[name]]) if name in encoded else value

    pipe.unet.register_forward_pre_hook(begin_step)
    watch(pipe.text_encoder, "text_encoder.text_model.", text_sink)
    watch(pipe.unet, "unet.", unet_sink)
    watch(pipe.vae, "vae.", sink)
    return encoded


def attention_reach(model, prefix, seen):
    """By attention module: exp(entropy) of its rows over the number of keys; 1 is uniform, 1/keys
    one-hot.  Masks do not count."""
    reach = {}
    for path, module in model.named_modules():
        name, heads = prefix + path, getattr(module, "num_heads", getattr(module, "heads", None))
        q = seen.get(f"{name}.q_proj", seen.get(f"{name}.to_q"))
        k = seen.get(f"{name}.k_proj", seen.get(f"{name}.to_k"))
        if heads and q is not None:
            q, k = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k))
            p = (q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])).softmax(-1)
            entropy = -(p * p.clamp_min(1e-30).log()).sum(-1)
            reach[name] = (entropy.exp() / p.shape[-1]).mean().item()
    return reach


# ---- pictures ----------------------------------------------------------------------------------

def draw(width, height, seed, channels=3):
    """Waves, an edge and noise: [h, w, channels] bytes over the whole range."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width, 0:1][:2] / max(width, height)
    a, b, c = rng.uniform(-3, 3, (3, channels))
    waves = np.sin(2 * np.pi * (a * x + b * y) + c) + 0.8 * (x > 0.6) - 0.8 * (y > 0.7)
    noise = rng.standard_normal(waves.shape)
    return (128 + 70 * waves + 12 * noise).clip(0, 255).astype(np.uint8)


def png16(path, samples):
    """A 16-bit RGB PNG, which Pillow reads but does not write."""
    height, width, _ = samples.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    with open(path, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n")
        for kind, data in (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""):
            check = struct.pack(">I", zlib.crc32(kind + data))
            f.write(struct.pack(">I", len(data)) + kind + data + check)


def make_pictures(folder):
    """One of each kind that Pillow opens and the program should."""
    os.makedirs(folder, exist_ok=True)

    def save(name, pixels, **how):
        picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
        picture.save(f"{folder}/{name}", **how)

    palette = Image.fromarray(draw(47, 38, 4)).quantize(60)
    grey16 = draw(40, 40, 11, 1)[..., 0].astype(np.uint16) * 256 + draw(40, 40, 12, 1)[..., 0]
    save("rgb.png", draw(50, 41, 1))
    save("grey.png", draw(33, 64, 2, 1)[..., 0])
    save("grey-alpha.png", draw(60, 44, 3, 2))
    save("grey-16.png", grey16)
    save("palette.png", palette)
    save("palette-alpha.png", palette, transparency=bytes(range(0, 240, 4)))
    save("colour-key.png", draw(36, 36, 5) // 64 * 64, transparency=(64, 128, 64))
    save("rgb-alpha.png", draw(45, 70, 6, 4))
    save("one-bit.png", draw(52, 39, 7, 1)[..., 0] > 128)
    save("tiny.png", draw(3, 2, 8))
    save("wide.png", draw(120, 9, 9))
    save("exact.png", draw(32, 32, 10))
    png16(f"{folder}/rgb-16.png", draw(40, 31, 13).astype(np.uint16) * 256 + draw(40, 31, 14))
    save("plain.ppm", draw(61, 47, 15))
    save("jpeg-420.jpg", draw(75, 50, 16), quality=85, subsampling=2)
    save("jpeg-422.jpg", draw(50, 75, 17), quality=70, subsampling=1)
    save("jpeg-444.jpg", draw(44, 43, 18), quality=95, subsampling=0)
    save("jpeg-progressive.jpg", draw(66, 52, 19), quality=80, progressive=True)
    save("jpeg-grey.jpg", draw(40, 56, 20, 1)[..., 0], quality=90)


def picture_files(folder):
    return sorted(os.path.join(folder, name) for name in os.listdir(folder))


# ---- what the reference says, beside the models ------------------------------------------------

# Module paths kept in reference.safetensors.
CLIP_INNER = """text_model.embeddings text_model.encoder.layers.0.self_attn
    text_model.encoder.layers.0 text_model.final_layer_norm vision_model.embeddings
    vision_model.pre_layrnorm vision_model.encoder.layers.0.self_attn vision_model.encoder.layers.0
    vision_model.encoder.layers.1""".split()
SD_INNER = """text_encoder.text_model.embeddings text_encoder.text_model.final_layer_norm
    unet.time_embedding unet.conv_in unet.down_blocks.0.resnets.0
    unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1
    unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2
    unet.down_blocks.0.attentions.0.transformer_blocks.0.ff unet.down_blocks.0.attentions.0
    unet.down_blocks.0 unet.down_blocks.1 unet.down_blocks.2 unet.mid_block unet.up_blocks.0
    unet.up_blocks.1 unet.up_blocks.2 unet vae.encoder.down_blocks.0 vae.encoder.mid_block
    vae.encoder vae.quant_conv vae.post_quant_conv vae.decoder.mid_block vae.decoder.up_blocks.0
    vae.decoder""".split()


def write_texts(folder):
    paths = {"clip": "clip", "clip-gelu": "clip-gelu", "sd2": "sd2/tokenizer"}
    tokenizers = {kind: transformers.CLIPTokenizer.from_pretrained(f"{folder}/{path}")
                  for kind, path in paths.items()}
    rows = [{"text": text, **{kind: t(text).input_ids for kind, t in tokenizers.items()}}
            for text in TEXTS]
    with open(f"{folder}/texts.json", "w", encoding="utf-8") as f:
        f.write("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")


def write_clip_reference(folder, pictures, inner):
    """text_embeds of all TEXTS and image_embeds of all pictures; inputs and inner activations of
    the first two of each."""
    clip, files, seen = Clip(folder), picture_files(pictures), {}
    out = {"text_embeds": clip.texts(TEXTS),
           "image_embeds": torch.cat([clip.images([f]) for f in files]),
           "input_ids": clip.ids(TEXTS[:2], "max_length"), "pixel_values": clip.pixels(files[:2])}
    watch(clip.model, "", seen.__setitem__)
    clip.texts(TEXTS[:2], "max_length")
    clip.images(files[:2])
    save_reference(folder, out | {name: seen[name] for name in inner},
                   pictures=" ".join(os.path.basename(f) for f in files))
    judge(folder, seen, attention_reach(clip.model, "", seen))


@torch.no_grad()
def write_sd_reference(folder):
    """One pass of each part on odd latents (5x7) at a fractional timestep; the final latents of
    every sampler, and one picture."""
    pipe, seen = load_pipe(folder, diffusers.StableDiffusionPipeline), {}
    parts = {"text_encoder.text_model.": pipe.text_encoder, "unet.": pipe.unet, "vae.": pipe.vae}
    for prefix, part in parts.items():
        watch(part, prefix, seen.__setitem__)
    ids = pipe.tokenizer(TEXTS[:2], padding="max_length", return_tensors="pt").input_ids
    picture = torch.from_numpy(draw(56, 40, 21)).permute(2, 0, 1)[None] / 127.5 - 1
    inputs = {"input_ids": ids, "sample": torch.randn(2, 4, 5, 7, generator=seeded(1)),
              "timestep": torch.tensor([481.25]), "picture": picture,
              "latents": 5 * torch.randn(1, 4, 5, 7, generator=seeded(2))}
    states = pipe.text_encoder(ids).last_hidden_state
    pipe.unet(inputs["sample"], inputs["timestep"], states, return_dict=False)
    pipe.vae.encode(picture)
    pipe.vae.decode(inputs["latents"])
    words = ["-p", TEXTS[0], "-n", TEXTS[2], "--steps", "6", "--seed", "7", "-W", "64", "-H", "48"]
    runs = {f"run.{method}.{schedule}": run_pipe(
        folder, [*words, "--sampling-method", method, "--schedule", schedule], "latent")
        for method, schedule in EVERY_SAMPLER}
    pixels = torch.from_numpy(np.array(run_pipe(folder, [*words, "--sampling-method", "pndm"])))
    save_reference(folder, inputs | {name: seen[name] for name in SD_INNER} | runs |
                   {"pixels.pndm": pixels}, run=shlex.join(words))
    reach = [attention_reach(part, prefix, seen) for prefix, part in parts.items()]
    judge(folder, seen, reach[0] | reach[1] | reach[2], pixels)


def save_reference(folder, tensors, **words):
    save_file({name: t.float().contiguous() for name, t in tensors.items()},
              f"{folder}/reference.safetensors", words)


def judge(folder, seen, reach, pixels=None):
    """Stop if the model has degenerated: then a wrong program could agree with it."""
    spread = {name: t.std().item() for name, t in seen.items()}
    low, high = min(spread, key=spread.get), max(spread, key=spread.get)
    print(f"{os.path.basename(folder)}: {len(seen)} activations")
    print(f"    deviations {spread[low]:.2f} ({low}) to {spread[high]:.2f} ({high})")
    least, most = min(reach.values()), max(reach.values())
    print(f"    attention reaches {least:.2f} to {most:.2f} of its keys")
    assert 0.1 < spread[low] and spread[high] < 20 and 0.02 < least and most < 0.9
    if pixels is not None:
        pixels, saturated = pixels.float(), ((pixels == 0) | (pixels == 255)).float().mean()
        print(f"    pixels: deviation {pixels.std():.0f}, saturated {saturated:.2f}")
        assert pixels.std() > 30 and saturated < 0.2


# ---- the commands ------------------------------------------------------------------------------

def make(folder):
    torch.set_num_threads(1)                          # the last bits depend on the threads
    merges = learn_merges(TEXTS, 86)
    make_pictures(f"{folder}/pictures")
    make_clip(folder, merges)
    make_sd(folder, merges)
    write_texts(folder)
    write_clip_reference(f"{folder}/clip", f"{folder}/pictures", CLIP_INNER)
    write_clip_reference(f"{folder}/clip-gelu", f"{folder}/pictures", [])
    write_sd_reference(f"{folder}/sd1")
    write_sd_reference(f"{folder}/sd2")


def big(folder):
    """The published configurations and vocabulary with random F16 weights: 3 GB."""
    merges, half = published_merges(), torch.float16
    b32 = clip_config((512, 2048, 12, 8), (768, 3072, 12, 12, 224, 32), 512, 49408, eos=2)
    l14 = clip_config((768, 3072, 12, 12), (1024, 4096, 24, 16, 224, 14), 768, 49408, eos=2)
    write_clip(f"{folder}/clip-b32", b32, 31, half)
    write_clip(f"{folder}/clip-l14", l14, 32, half)
    write_sd(f"{folder}/sd15", text_config(768, 3072, 12, 12, 49408, "quick_gelu"),
             unet_config([320, 640, 1280, 1280], 2, 8, 768, groups=32, sample=64),
             vae_config([128, 256, 512, 512], 2, groups=32, sample=512),
             SD1_SCHEDULER, 33, (half, half, half), published_names=True)
    for name in "clip-b32", "clip-l14", "sd15/tokenizer":
        write_tokenizer(f"{folder}/{name}", merges)


def trace_clip(folder, words, sink):
    """All modules for `fusion embed -m folder words`."""
    p = argparse.ArgumentParser("embed", allow_abbrev=False)
    p.add_argument("-p", dest="texts", action="append", default=[])
    p.add_argument("files", nargs="*")
    w, clip = p.parse_args(words), Clip(folder)
    watch(clip.model, "", sink)
    if w.texts:
        clip.texts(w.texts)
    if w.files:
        clip.images(w.files)


def trace(folder, words, output):
    seen = {}

    def sink(name, value):
        seen[name] = value.float().contiguous().clone()

    if os.path.exists(f"{folder}/model_index.json"):
        run_pipe(folder, words, sink=sink)
    else:
        trace_clip(folder, words, sink)
    save_file(seen, output)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("make").add_argument("folder", nargs="?", default=MODELS)
    verbs.add_parser("big").add_argument("folder")
    tracing = verbs.add_parser("trace", epilog="then options of `fusion image` or `fusion embed`")
    tracing.add_argument("folder")
    tracing.add_argument("-o", dest="output", required=True)
    words, rest = parser.parse_known_args()
    if words.verb == "trace":
        trace(words.folder, rest, words.output)
    elif rest:
        parser.error(f"unknown: {' '.join(rest)}")
    elif words.verb == "make":
        make(words.folder)
    else:
        big(words.folder)


if __name__ == "__main__":
    main()
