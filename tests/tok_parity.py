"""Compares tok.c with transformers, id by id.

    python tests/tok_parity.py [FOLDER ...]     tokenizer folders; else those of tests/tok
    python tests/tok_parity.py --all [FOLDER ...]     every code point too, in five surroundings

For developers; needs a C compiler, called as cc.  Texts are random neighbours of every kind, all
pairs that compose and some Hangul.  Exit status 1 if any text differs.
"""
import ctypes
import os
import random
import subprocess
import sys
import tempfile
import unicodedata

os.environ["TRANSFORMERS_VERBOSITY"] = "error"             # texts longer than the model are meant
from transformers import CLIPTokenizer, RobertaTokenizer

HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
POINTS = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]


class Error(ctypes.Structure):
    _fields_ = [("code", ctypes.c_int), ("text", ctypes.c_char * 1024)]


class Ids(ctypes.Structure):
    _fields_ = [("at", ctypes.POINTER(ctypes.c_int)), ("count", ctypes.c_int)]


def library():
    with tempfile.TemporaryDirectory() as at:
        path = os.path.join(at, "tok.so")
        sources = [os.path.join(HOME, name) for name in ("tok.c", "io.c", "json.c")]
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", *sources, "-o", path], check=True)
        lib = ctypes.CDLL(path)
    lib.tok_open.restype = ctypes.c_void_p
    lib.tok_encode.restype = ctypes.c_bool
    return lib


class Ours:
    def __init__(self, lib, folder):
        self.lib, self.e = lib, Error()
        self.tok = ctypes.c_void_p(lib.tok_open(os.fsencode(folder), ctypes.byref(self.e)))
        if not self.tok:
            sys.exit(self.e.text.decode(errors="replace"))

    def __call__(self, text):
        ids, text = Ids(), text.encode()
        if not self.lib.tok_encode(self.tok, text, ctypes.c_size_t(len(text)), ctypes.byref(ids),
                                   ctypes.byref(self.e)):
            sys.exit(self.e.text.decode(errors="replace"))
        got = ids.at[:ids.count]
        self.lib.ids_free(ctypes.byref(ids))
        return got


def mixtures(count):
    dice = random.Random(11)
    combining = [c for c in POINTS if unicodedata.combining(c)]
    whole = [c for c in POINTS if unicodedata.decomposition(c)[:1] not in ("", "<")]
    cased = [c for c in POINTS if c.lower() != c]
    spaces = "\t\n\v\f\r\x1c\x1d\x1e\x1f   \x85\xa0\u1680\u2000\u2009\u200b\u2028\u2029\u202f\u3000"
    specials = ["<|endoftext|>", "<|startoftext|>", "<|EndOfText|>", "<|endoftext|", "<s>", "</s>",
                "<mask>", " <mask> ", "  <pad>", "<unk>", "!", "</w>", "<MASK>", "'s", "'S", "'re",
                "'LL", "'t", "'", "''", "3.14", "!!!", " ", "  ", "\u0130", "\u03a3", "\u212b"]
    pools = [combining, whole, cased, spaces, specials, POINTS, POINTS[32:127], POINTS[97:123],
             POINTS[0xC0:0x250], POINTS[0x370:0x600], POINTS[0x900:0xE00], POINTS[0x1100:0x1200],
             POINTS[0x4E00:0x9FFF], POINTS[0xAC00:0xD7A4], [*map(chr, range(0x1F300, 0x1F650))]]
    for i in range(count):
        some = dice.sample(pools, dice.randrange(1, 6)) if i % 2 else pools
        yield "".join(dice.choice(dice.choice(some)) for _ in range(dice.randrange(1, 25)))


def pairs():
    firsts, seconds = set(), set()
    for c in POINTS:
        parts = unicodedata.normalize("NFD", c)
        if len(parts) > 1 and not "\uac00" <= c <= "\ud7a3":
            firsts |= {unicodedata.normalize("NFC", parts[:-1]), parts[0]}
            seconds.add(parts[-1])
    for a in sorted(firsts):
        yield "x".join(a + b for b in sorted(seconds))
    for lead in range(0x10F0, 0x1120):
        yield "x".join(chr(lead) + chr(vowel) for vowel in range(0x1155, 0x11A8))
    for syllable in range(0xABF0, 0xD7B0, 5):
        yield "x".join(chr(syllable) + chr(trail) for trail in range(0x11A0, 0x11FF))


def surroundings():
    for form in ("{0}", "ab{0}cd", "a {0}'s {0}1!", "e{0}\u0301\u0323{0}\u0327x", " {0}\u00c5 {0}"):
        for c in POINTS:
            yield form.format(c)


def differences(folder, ours, texts):
    texts, bad = list(texts), 0
    clip = b"</w>" in open(os.path.join(folder, "tokenizer.json" if os.path.exists(
        os.path.join(folder, "tokenizer.json")) else "vocab.json"), "rb").read()
    reference = (CLIPTokenizer if clip else RobertaTokenizer).from_pretrained(folder)
    for i in range(0, len(texts), 20000):
        for text, want in zip(texts[i:i + 20000], reference(texts[i:i + 20000]).input_ids):
            got = ours(text)
            if got != want:
                bad += 1
                if bad < 10:
                    print(folder, ascii(text), "wants", *want, "has", *got)
    print(folder, len(texts), "texts,", bad, "differ", flush=True)
    return bad


def main():
    everything = "--all" in sys.argv
    here = os.path.join(HOME, "tests", "tok")
    folders = [a for a in sys.argv[1:] if a != "--all"] or [
        os.path.join(here, f) for f in sorted(os.listdir(here)) if not f.endswith(".json")]
    lib, bad = library(), 0
    for folder in folders:
        ours = Ours(lib, folder)
        bad += differences(folder, ours, [*mixtures(40000), *pairs()])
        if everything:
            bad += differences(folder, ours, surroundings())
    sys.exit(bad > 0)


main()
