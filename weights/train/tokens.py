"""The two tokenizers of the small world: CLIP's kind and RoBERTa's kind, byte-pair encodings
learned from captions of pictures and sounds in both languages.

    python tokens.py [--work DIR]        writes WORLD/tokenizer-clip and WORLD/tokenizer-roberta

Both begin with letters for all 256 bytes, so that any text can be written.  CLIP's kind is
lower-cased and marks the end of a word, RoBERTa's keeps case and marks the space before one.  At
the end the script measures: tokens for a caption, and that every text comes back as it was."""
import collections
import json
import os
import re

from common import arguments, generator, work

START, END = "<|startoftext|>", "<|endoftext|>"
MERGES = {"clip": 1500, "roberta": 2000}
CONTRACTIONS = r"'s|'t|'re|'ve|'m|'ll|'d"
CLIP_WORDS = re.compile(CONTRACTIONS + r"|[^\W\d_]+|\d|(?:[^\s\w]|_)+", re.I)
ROBERTA_WORDS = re.compile(CONTRACTIONS + r"| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+")
TRIALS = ["a photo of a cat", "L'été, près d'une forêt enneigée.", "naïve café 123 {x} _y_",
          "Москва 猫 🐱 e\u0301", "it's raining; they'll go!"]


def captions(count, seed=1):
    """count captions of each kind and language, pictures and sounds alternately."""
    import sounds
    import world
    out = []
    for i in range(count):
        rng = generator(seed, i)
        for maker in (world, sounds):
            scene = maker.sample(rng)
            out += [maker.caption(scene, rng, "en"), maker.caption(scene, rng, "fr")]
    return out


def alphabet():
    """The letter for each byte, in the vocabulary's order: printable bytes stand for themselves and
    come first, the others take letters from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}


def learn(counts, merges):
    """Byte-pair encoding: join the commonest pair, again and again.  counts: word (a tuple of
    pieces) -> how often."""
    learned = []
    while len(learned) < merges:
        pairs = collections.Counter()
        for word, n in counts.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += n
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        learned.append(best)
        counts = {join(word, best) if best[0] in word else word: n for word, n in counts.items()}
    return learned


def join(word, pair):
    out = []
    for piece in word:
        if out and (out[-1], piece) == pair:
            out[-1] += piece
        else:
            out.append(piece)
    return tuple(out)


def words(texts, pattern, end, lower):
    """Every word of the texts as letters, the last one with end."""
    letter = alphabet()
    counts = collections.Counter(
        w for text in texts for w in pattern.findall(text.lower() if lower else text))
    spelt = {}
    for word, n in counts.items():
        letters = [letter[b] for b in word.encode()]
        spelt[tuple(letters[:-1] + [letters[-1] + end])] = n
    return spelt


def write(folder, vocabulary, merges, config):
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/vocab.json", "w", encoding="utf-8") as f:
        json.dump({piece: i for i, piece in enumerate(vocabulary)}, f, ensure_ascii=False)
    with open(f"{folder}/merges.txt", "w", encoding="utf-8") as f:
        f.write("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    with open(f"{folder}/tokenizer_config.json", "w", encoding="utf-8") as f:
        json.dump(config, f, indent=2)
        f.write("\n")
    names = {k: v for k, v in config.items() if k.endswith("_token")}
    with open(f"{folder}/special_tokens_map.json", "w", encoding="utf-8") as f:
        json.dump(names, f, indent=2)
        f.write("\n")


def write_clip(folder, texts):
    """Letters, letters that end a word, merges, start, end: OpenAI's order."""
    letters = list(alphabet().values())
    merges = learn(words(texts, CLIP_WORDS, "</w>", lower=True), MERGES["clip"])
    vocabulary = letters + [c + "</w>" for c in letters] + ["".join(m) for m in merges]
    write(folder, vocabulary + [START, END], merges, {
        "tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True,
        "errors": "replace", "add_prefix_space": False, "bos_token": START, "eos_token": END,
        "unk_token": END, "pad_token": END})


def write_roberta(folder, texts):
    """<s> <pad> </s> <unk>, letters, merges, <mask>: RoBERTa's order."""
    merges = learn(words(texts, ROBERTA_WORDS, "", lower=False), MERGES["roberta"])
    vocabulary = list(alphabet().values()) + ["".join(m) for m in merges]
    write(folder, ["<s>", "<pad>", "</s>", "<unk>"] + vocabulary + ["<mask>"], merges, {
        "tokenizer_class": "RobertaTokenizer", "model_max_length": 512, "errors": "replace",
        "add_prefix_space": False, "trim_offsets": True, "bos_token": "<s>", "eos_token": "</s>",
        "cls_token": "<s>", "sep_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>",
        "mask_token": "<mask>"})


def load(kind, folder=None):
    import transformers
    kinds = {"clip": transformers.CLIPTokenizer, "roberta": transformers.RobertaTokenizer}
    return kinds[kind].from_pretrained(folder or work("tokenizer-" + kind, "x")[:-2])


def measure(kind, texts):
    tokenizer = load(kind)
    lengths = sorted(map(len, tokenizer(texts).input_ids))
    whole = 0
    for text in texts + TRIALS:
        ids = tokenizer(text).input_ids
        back = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        if kind == "clip":                       # case and spaces between words are not kept
            text, back = ("".join(t.lower().split()) for t in (text, back))
            text = text.replace("e\u0301", "é")
        whole += text.strip() == back.strip()
    print(f"tokens: {kind} vocabulary {len(tokenizer)}, a caption has {lengths[len(lengths) // 2]} "
          f"tokens, 1 in 100 more than {lengths[-len(lengths) // 100]}; "
          f"{whole} of {len(texts + TRIALS)} texts come back whole")


def main():
    arguments(__doc__)
    texts = captions(10000)
    write_clip(work("tokenizer-clip", "x")[:-2], texts)
    write_roberta(work("tokenizer-roberta", "x")[:-2], texts)
    for kind in MERGES:
        measure(kind, captions(500, seed=2))


if __name__ == "__main__":
    main()
