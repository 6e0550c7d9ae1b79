"""Hostile and unlucky inputs from outside: what the command says, and that it leaves nothing behind.

    python3 tests/hostile.py [--fusion ./fusion] [-v]        standard library alone

Each case is a file or folder made on the fly, or words, and one of three answers.
    R   refused: exit 1, one line on standard error that names the file and holds the words given
    U   misuse: exit 2, the line names the option; no file was read
    A   accepted: exit 0
Whatever the answer: no control byte is printed, nothing is written, and it comes within seconds.
Closes with `N passed, N failed`."""
import argparse
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MODELS = os.path.join(ROOT, "tests", "models")
CASES = []


def case(name, answer, words, said="", file=None, **how):
    """words: of the command; file: what the line must name (its last part is enough)."""
    CASES.append((name, answer, words, said, file, how))


# ---- making files ------------------------------------------------------------------------------

scratch = tempfile.mkdtemp()
count = 0


def put(content, name):
    """A file of that content in a folder of its own."""
    global count
    count += 1
    folder = os.path.join(scratch, f"{count:04d}")
    os.mkdir(folder)
    path = os.path.join(folder, name)
    with open(path, "wb") as f:
        f.write(content)
    return path


def model(kind, changes):
    """tests/models/KIND, all of it links but for what changes: path -> bytes, or None: not there."""
    global count
    count += 1
    folder = os.path.join(scratch, f"{count:04d}-{kind}")
    base = os.path.join(MODELS, kind)
    for here, _, names in os.walk(base, followlinks=True):
        to = os.path.join(folder, os.path.relpath(here, base))
        os.makedirs(to, exist_ok=True)
        for name in names:
            if os.path.normpath(os.path.join(os.path.relpath(here, base), name)) not in changes:
                os.symlink(os.path.realpath(os.path.join(here, name)), os.path.join(to, name))
    for path, content in changes.items():
        if content is not None:
            with open(os.path.join(folder, path), "wb") as f:
                f.write(content)
    return folder


def read(kind, path):
    with open(os.path.join(MODELS, kind, path), "rb") as f:
        return f.read()


# ---- A: safetensors ----------------------------------------------------------------------------

def tensors(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def safetensors(name, answer, content, said=""):
    path = put(content, "x.safetensors")
    case("safetensors: " + name, answer, ["inspect", path], said, "x.safetensors")


def safetensors_cases():
    good = tensors({"t": tensor()}, bytes(8))
    for n in range(9):
        safetensors(f"{n} bytes", "R", good[:n])
    for length in (len(good), 2**31, 2**32 + 8, 2**62, 2**63, 2**64 - 9, 2**64 - 8, 2**64 - 1):
        safetensors(f"header length {length}", "R", struct.pack("<Q", length) + good[8:])
    safetensors("header length of 100 000 001", "R",
                tensors(b"{}" + b" " * 99999999, length=100000001))
    for cut in (9, 20, len(good) - 9, len(good) - 8, len(good) - 1):
        safetensors(f"cut at {cut}", "R", good[:cut])
    for tail in (b"\0", b"PK\3\4", good):
        safetensors(f"{len(tail)} bytes behind", "R", good + tail)
    for what, content in (("LFS", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
                          ("HTML", b"<!DOCTYPE html><html></html>"), ("zip", b"PK\3\4" + bytes(60)),
                          ("pickle", b"\x80\2}q\0."), ("GGUF", b"GGUF" + bytes(60)),
                          ("gzip", b"\x1f\x8b\x08" + bytes(60)), ("zeros", bytes(64)),
                          ("JSON", b'{"error": "not found"}')):
        safetensors("foreign " + what, "R", content)
    for what, name in (("overlong", b"\xc0\xaf"), ("surrogate", b"\xed\xa0\x80"), ("cut", b"\xe2\x82"),
                       ("lone", b"\x80"), ("past the end", b"\xf4\x90\x80\x80")):
        safetensors("name of bad UTF-8: " + what, "R", tensors(
            b'{"' + name + b'":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(8)))
    row = b'"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
    for i, text in enumerate((
            b"", b" ", b"{", b"}", b"[]", b"null", b"1", b'"t"', b"{" + row, b"{" + row + b",}",
            b"{" + row + b"}}", b"{" + row + b"} x", b"{,}", b"{t:1}", b"{'t':1}", b'{"t"}', b'{"t":}',
            b'{"t":[}', b'{"t":tru}', b'{"t":+1}', b'{"t":01}', b'{"t":.5}', b'{"t":1.}', b'{"t":1e}',
            b'{"t":NaN}', b'{"t":Infinity}', b'{"t":"\\x"}', b'{"t":"\\u12"}', b'{"t":"\\ud800"}',
            b'{"t":"\n"}', b'{"t":"', b'{"t":1 "u":2}', b'{"a":/**/1}', b"\xef\xbb\xbf{" + row + b"}",
            b"[" * 100000, b'{"a":' * 20000, b'{"__metadata__":{"a":' + b"[" * 5000)):
        safetensors(f"broken JSON {i}", "R", tensors(text, bytes(8)))
    for second in (row, b'"\\u0074":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}'):
        safetensors("one name twice", "R", tensors(b"{" + row + b"," + second + b"}", bytes(16)))
    for metadata in (1, [], "x", {"a": 1}, {"a": None}, {"a": {}}, {"a": ["b"]}):
        safetensors(f"metadata {metadata}", "R",
                    tensors({"__metadata__": metadata, "t": tensor()}, bytes(8)))
    for gone in ("dtype", "shape", "data_offsets"):
        t = tensor()
        del t[gone]
        safetensors("without " + gone, "R", tensors({"t": t}, bytes(8)), gone)
        for value in (None, 1, "x", {}, True):
            safetensors(f"{gone} {value}", "R", tensors({"t": dict(tensor(), **{gone: value})}, bytes(8)))
    for value in (None, 1, "x", [], True):
        safetensors(f"entry {value}", "R", tensors({"t": value}, bytes(8)))
    for dtype in ("", "f32", "F32 ", "F33", "F32\0", "float32", "F" * 1000, "\x1b[2J"):
        safetensors(f"dtype {dtype[:8]!r}", "R", tensors({"t": tensor(dtype)}, bytes(8)))
    for shape in ("[-2]", "[1.5]", "[2.0]", "[1e0]", '["2"]', "[null]", "[18446744073709551616]",
                  "[" + "9" * 100000 + "]", "[true]", "[[2]]", "[4294967296,4294967296]",
                  "[2,9223372036854775809]", "[4611686018427387905]", "[18446744073709551615]",
                  "[65536,65536,65536,65536]", "[4294967298]", "[3]", "[1]", "[2,2]", "[0]"):
        safetensors("shape " + shape[:30], "R", tensors(
            b'{"t":{"dtype":"F32","shape":' + shape.encode() + b',"data_offsets":[0,8]}}', bytes(8)))
    for offsets in ((8, 0), (0, 9), (0, 2**63), (0, 2**64 - 1), (2**64 - 8, 0), (1, 9), (0,), (),
                    (0, 4, 8), (-8, 0), (0, 8.0), (0, "8")):
        safetensors(f"offsets {offsets}", "R", tensors({"t": tensor(offsets=offsets)}, bytes(8)))
    u8 = lambda first, last: tensor("U8", (last - first,), (first, last))
    for what, all_, size in (
            ("overlap", {"a": u8(0, 6), "b": u8(4, 8)}, 8), ("hole", {"a": u8(0, 3), "b": u8(4, 8)}, 8),
            ("hidden bytes behind", {"a": u8(0, 4)}, 8), ("hidden bytes before", {"a": u8(4, 8)}, 8),
            ("the same bytes twice", {"a": u8(0, 8), "b": u8(0, 8)}, 8),
            ("an empty one inside another", {"a": u8(0, 8), "b": u8(4, 4)}, 8)):
        safetensors(what, "R", tensors(all_, bytes(size)))
    safetensors("a memory bomb", "R", tensors({f"t{i}": u8(0, 1000) for i in range(20000)}, bytes(1000)))
    many = {f"t{i}": tensor("F32", (2,), (8 * i, 8 * i + 8)) for i in range(600)}
    safetensors("600 tensors", "A", tensors(many, bytes(4800)), "600 tensors")
    for name in ("", "n" * 300, "n" * 100000, "\x1b[2J", "a\nb", "%s%n", "../x", "t\0x"):
        safetensors(f"the name {name[:8]!r}", "A", tensors({name: tensor()}, bytes(8)))
    safetensors("scalar", "A", tensors({"t": tensor("F32", (), (0, 4))}, bytes(4)))
    safetensors("empty tensor", "A", tensors({"t": tensor("F32", (0, 3), (0, 0))}))
    safetensors("no tensor", "A", tensors({}))
    safetensors("unaligned", "A", tensors(
        {"a": tensor("U8", (1,), (0, 1)), "t": tensor("F32", (2,), (1, 9))}, bytes(9)))
    safetensors("pretty and padded", "A", tensors(
        json.dumps({"t": tensor()}, indent=4).encode() + b"   ", bytes(8)))
    safetensors("a dtype that is not computed", "A", tensors({"t": tensor("F8_E4M3", (8,))}, bytes(8)))


# ---- B: configs --------------------------------------------------------------------------------

def config(kind, path, verb, change, said, answer="R"):
    """change: key -> value, or the whole text."""
    if isinstance(change, bytes):
        content, what = change, repr(change[:30])
    else:
        content = json.dumps(json.loads(read(kind, path)) | change).encode()
        what = json.dumps(change)[:50]
    folder = model(kind, {path: content})
    case(f"{kind}/{path}: {what}", answer, [*verb, "-m", folder], said, os.path.dirname(path))


def config_cases():
    image = ["image", "-p", "a", "--plan"]
    sound = ["audio", "-p", "a", "--plan"]
    texts = (b"", b"[]", b"null", b"{", b'{"a":1,}', b"{//x\n}", b'{"a":1,"a":2}', b"\xff\xfe{\0}\0",
             b"[" * 100000, b'{"a":NaN}', b" " * (1 << 20) + b" {}")
    for kind, path, verb in (("sd1", "unet/config.json", image), ("sd1", "vae/config.json", image),
                             ("sd1", "text_encoder/config.json", image),
                             ("sd1", "scheduler/scheduler_config.json", image),
                             ("sd1", "model_index.json", image),
                             ("clip", "config.json", ["embed", "-p", "a"]),
                             ("audioldm", "unet/config.json", sound),
                             ("audioldm", "vocoder/config.json", sound)):
        for text in texts:
            config(kind, path, verb, text, "")
        folder = model(kind, {path: None})
        case(f"{kind}: no {path}", "R", [*verb, "-m", folder], "", os.path.basename(folder))
    bad = (-1, 0, 1.5, "8", None, True, 2**31, 2**63, [], {})
    for value in bad:
        for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
                    "max_position_embeddings", "vocab_size"):
            if value is None:
                continue
            config("sd1", "text_encoder/config.json", image, {key: value}, key)
    config("sd1", "text_encoder/config.json", image, {"num_hidden_layers": 10**9}, "num_hidden_layers")
    config("sd1", "text_encoder/config.json", image, {"num_attention_heads": 3}, "")
    config("sd1", "text_encoder/config.json", image, {"hidden_act": "swish2"}, "swish2")
    for key, values in (("block_out_channels", ([], [8], [8] * 100, [8, -8, 20], [8, "8", 20], 8, None)),
                        ("layers_per_block", (0, -1, [1], 10**9, "1")),
                        ("in_channels", (0, -4, 5, 2**31)), ("out_channels", (0, 3)),
                        ("norm_num_groups", (0, 3, -4, 2**31)),
                        ("down_block_types", ([], ["DownBlock2D"], ["Nonsense"] * 3, "DownBlock2D")),
                        ("up_block_types", ([], ["UpBlock2D"] * 2, ["Nonsense"] * 3)),
                        ("act_fn", ("nonsense", 1)), ("cross_attention_dim", (0, -1, 2**31))):
        for value in values:
            config("sd1", "unet/config.json", image, {key: value}, "")
    for key, values in (("num_train_timesteps", (0, 1, -5, 1e12, "1000")), ("beta_start", (0, -1, 2, "x")),
                        ("beta_end", (0, 0.0001, 1)), ("prediction_type", ("nonsense", 1)),
                        ("beta_schedule", ("nonsense",)), ("timestep_spacing", ("nonsense", 3)),
                        ("steps_offset", (-1, 0.5)), ("thresholding", (True,)),
                        ("trained_betas", ([0.1, 0.2],))):
        for value in values:
            config("sd1", "scheduler/scheduler_config.json", image, {key: value}, key)
    for value in ("StableDiffusionXLPipeline", "StableDiffusion3Pipeline", "FluxPipeline", "", 5, None):
        config("sd1", "model_index.json", image, {"_class_name": value}, "")
    config("sd1", "unet/config.json", image, {"a_new_key": [1, {"b": None}]}, "", "A")


# ---- C: tokenizers -----------------------------------------------------------------------------

def tokenizer_cases():
    words = ["tokenize", "-p", "a photo of a cat", "-m"]
    vocab = json.loads(read("clip", "vocab.json"))
    merges = read("clip", "merges.txt")

    def change(what, answer, files, said=""):
        case("tokenizer: " + what, answer, [*words, model("clip", files)], said,
             ("vocab.json", "merges.txt") if answer == "R" else None)

    for name in ("vocab.json", "merges.txt"):
        change("no " + name, "R", {name: None})
        for text in (b"\xff\xfe", b"\0" * 40):
            change(f"{name} {text[:8]!r}", "R", {name: text})
    for text in (b"", b"[]", b'{"a":', b'{"a":-1}', b'{"a":1.5}', b'{"a":"5"}', b'{"a":4294967296}',
                 b'{"a":0,"b":0}', b'{"a":0,"b":2}', b'{"\xff":0}'):
        change(f"vocab.json {text}", "R", {"vocab.json": text})
    no_end = {k: v for k, v in vocab.items() if k != "<|endoftext|>"}
    change("no end of text", "R", {"vocab.json": json.dumps(no_end).encode()})
    change("CRLF", "A", {"merges.txt": merges.replace(b"\n", b"\r\n")})
    change("no version line", "A", {"merges.txt": merges.split(b"\n", 1)[1]})
    change("no last newline", "A", {"merges.txt": merges.rstrip(b"\n")})
    first = merges.split(b"\n")[1]
    for line in (b"one", b"a b c"):
        change(f"merges line {line}", "R", {"merges.txt": merges + line + b"\n"}, ":")
    change("one merge twice", "A", {"merges.txt": merges + first + b"\n"})
    more = {**vocab, **{f"extra{i}": len(vocab) + i for i in range(50)}}
    case("tokenizer: ids beyond the embedding", "R", ["embed", "-p", "a", "-m", model(
        "clip", {"vocab.json": json.dumps(more).encode()})], "vocabulary")


# ---- D: pictures -------------------------------------------------------------------------------

def chunk(kind, data, crc=None):
    return (struct.pack(">I", len(data)) + kind + data
            + struct.pack(">I", zlib.crc32(kind + data) if crc is None else crc))


def png(*chunks):
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def header(w=2, h=2, depth=8, colour=2, compression=0, filter_=0, interlace=0):
    return chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, depth, colour, compression, filter_, interlace))


def picture(name, answer, content, said=""):
    path = put(content, "x.png")
    case("picture: " + name, answer,
         ["embed", "-m", os.path.join(MODELS, "clip"), path], said, "x.png")


def picture_cases():
    rows = zlib.compress((b"\0" + bytes(6)) * 2)
    data, end = chunk(b"IDAT", rows), chunk(b"IEND", b"")
    picture("png", "A", png(header(), data, end))
    for name, w, h in (("width 0", 0, 2), ("height 0", 2, 0), ("2^31 wide", 2**31, 2),
                       ("2^30 by 2^30", 2**30, 2**30), ("65536 by 65536", 65536, 65536),
                       ("46341 by 46341", 46341, 46341)):
        picture("png " + name, "R", png(header(w, h), data, end))
    for depth, colour in ((3, 2), (0, 0), (16, 3), (8, 1), (8, 5), (4, 2), (8, 7), (255, 2)):
        picture(f"png depth {depth} colour {colour}", "R", png(header(depth=depth, colour=colour), data, end))
    picture("png compression 1", "R", png(header(compression=1), data, end))
    picture("png filter 1", "R", png(header(filter_=1), data, end))
    picture("png interlace 2", "R", png(header(interlace=2), data, end))
    picture("png CRC", "R", png(header(), chunk(b"IDAT", rows, 1), end))
    picture("png no IEND", "R", png(header(), data))
    picture("png no IDAT", "R", png(header(), end))
    picture("png IDAT first", "R", png(data, header(), end))
    picture("png two IHDR", "R", png(header(), header(), data, end))
    picture("png no palette", "R", png(header(colour=3), data, end))
    picture("png chunk of 2^32 - 1", "R", png(header(), b"\xff\xff\xff\xffIDAT" + rows))
    picture("png unknown critical chunk", "R", png(header(), chunk(b"ABCD", b""), data, end))
    picture("png zlib bomb", "R", png(header(), chunk(b"IDAT", zlib.compress(bytes(1 << 26), 9)), end))
    picture("png too few rows", "R", png(header(), chunk(b"IDAT", zlib.compress(bytes(7))), end))
    picture("png filter byte 9", "R", png(header(), chunk(b"IDAT", zlib.compress((b"\t" + bytes(6)) * 2)), end))
    for deflate in (b"\x78\x01\x07", b"\x78\x01\x01\x05\0\xfa\xfe", b"\x78\x01\xfb\xff\xff", b"\x08\x1d",
                    b"\x78\x01\x04\xc0\x81\x08" + bytes(8)):
        picture(f"png deflate {deflate.hex()}", "R", png(header(), chunk(b"IDAT", deflate), end))
    whole = png(header(), data, end)
    for cut in (1, 4, 8, 12, 20, 33, 40, 50, len(whole) - 12, len(whole) - 1):
        picture(f"png cut at {cut}", "R", whole[:cut])
    for name, text, answer in (
            ("comment", b"P6\n# by GIMP\n2 2\n255\n" + bytes(12), "A"),
            ("tabs and CRLF", b"P6\t2\r\n2\r\n255\n" + bytes(12), "A"),
            ("plain", b"P3 2 2 255 " + b"1 " * 12, "A"), ("grey", b"P5 2 2 255\n" + bytes(4), "A"),
            ("16 bits", b"P6 2 2 65535\n" + bytes(24), "A"), ("one pixel", b"P6 1 1 255\nabc", "A"),
            ("width 0", b"P6 0 2 255\n", "R"), ("width -4", b"P6 -4 2 255\n", "R"),
            ("width 99999999999", b"P6 99999999999 2 255\n", "R"),
            ("65536 by 65536", b"P6 65536 65536 255\n", "R"), ("46341 by 46341", b"P6 46341 46341 255\n", "R"),
            ("maxval 0", b"P6 2 2 0\n" + bytes(12), "R"), ("maxval 65536", b"P6 2 2 65536\n" + bytes(24), "R"),
            ("one byte short", b"P6 2 2 255\n" + bytes(11), "R"), ("no numbers", b"P6\n", "R"),
            ("letters", b"P6 a b 255\n", "R"), ("P9", b"P9 2 2 255\n" + bytes(12), "R"),
            ("nothing", b"", "R"), ("GIF", b"GIF89a" + bytes(60), "R"), ("zeros", bytes(99), "R")):
        picture("ppm " + name, answer, text)
    for name in ("b444.jpg", "progressive.jpg", "b420.jpg"):
        path = os.path.join(ROOT, "tests", "pictures", name)
        if not os.path.exists(path):
            continue
        with open(path, "rb") as f:
            jpeg = f.read()
        for cut in (2, 4, 20, 100, len(jpeg) // 2, len(jpeg) * 3 // 4):
            picture(f"{name} cut at {cut}", "R", jpeg[:cut])
        frame = max(jpeg.find(b"\xff\xc0"), jpeg.find(b"\xff\xc2"))
        for at, value, what in ((4, 12, "12 bits"), (5, 0, None), (9, 5, "5 components"), (11, 0, "sampling 0"),
                                (11, 0x55, "sampling 5x5"), (12, 9, "table 9")):
            if what:
                broken = bytearray(jpeg)
                broken[frame + at] = value
                picture(f"{name} {what}", "R", bytes(broken))
        picture(f"{name} two frames", "R", jpeg[:frame] + jpeg[frame:frame + 19] + jpeg[frame:])


# ---- E: sounds ---------------------------------------------------------------------------------

def riff(*chunks, size=None, form=b"WAVE", magic=b"RIFF"):
    body = form + b"".join(chunks)
    return magic + struct.pack("<I", len(body) if size is None else size) + body


def part(kind, data, size=None):
    return kind + struct.pack("<I", len(data) if size is None else size) + data + b"\0" * (len(data) % 2)


def form(tag=1, channels=1, rate=16000, bits=16, align=None):
    align = channels * bits // 8 if align is None else align
    return part(b"fmt ", struct.pack("<HHIIHH", tag, channels, rate, rate * align % 2**32, align, bits))


def sound(name, answer, content, said=""):
    path = put(content, "x.wav")
    case("wav: " + name, answer, ["embed", "-m", os.path.join(MODELS, "clap"), path], said, "x.wav")


def sound_cases():
    data = part(b"data", bytes(3200))
    whole = riff(form(), data)
    sound("whole", "A", whole)
    for cut in (0, 3, 8, 11, 12, 16, 20, 30, 36, 43):
        sound(f"cut at {cut}", "R", whole[:cut])
    for size in (0, 10, 2**32 - 1):
        sound(f"RIFF size {size}", "A", riff(form(), data, size=size))
    sound("data streamed", "A", riff(form(), part(b"data", bytes(3200), size=2**32 - 1)))
    sound("LIST first", "A", riff(part(b"LIST", b"abc"), form(), data))
    sound("fmt behind data", "R", riff(data, form()))
    sound("no fmt", "R", riff(data))
    sound("no data", "R", riff(form()))
    sound("no samples", "R", riff(form(), part(b"data", b"")))
    sound("channels 0", "R", riff(form(channels=0), data))
    sound("rate 0", "R", riff(form(rate=0), data))
    sound("rate 4 GHz", "R", riff(form(rate=2**32 - 1), data))
    sound("rate 1", "R", riff(form(rate=1), data))
    sound("align 0", "R", riff(form(align=0), data))
    sound("align 7", "R", riff(form(align=7), data))
    sound("65535 channels", "R", riff(form(channels=65535, bits=8, align=65535), data))
    for bits in (0, 1, 4, 12, 20, 40, 64, 65535):
        sound(f"{bits} bits", "R", riff(form(bits=bits, align=max(1, bits // 8) % 65536), data))
    for tag in (0, 2, 6, 7, 17, 85, 65534):
        sound(f"format {tag}", "R", riff(form(tag=tag), data))
    for name, value in (("NaN", float("nan")), ("infinite", float("inf")), ("-infinite", float("-inf"))):
        floats = struct.pack("<f", 0) * 5 + struct.pack("<f", value) + struct.pack("<f", 0) * 900
        sound(f"a sample that is {name}", "R", riff(form(tag=3, bits=32), part(b"data", floats)), "5")
    for bits in (8, 24, 32):
        sound(f"{bits} bits", "A", riff(form(bits=bits), data))
    sound("RIFX", "R", riff(form(), data, magic=b"RIFX"))
    sound("RF64", "R", riff(form(), data, magic=b"RF64"))
    sound("AIFF", "R", b"FORM" + struct.pack(">I", 50) + b"AIFF" + bytes(50))
    sound("MP3", "R", b"ID3\4" + bytes(100))
    sound("AVI", "R", riff(form(), data, form=b"AVI "))
    sound("chunk past the end", "R", riff(form(), part(b"LIST", b"ab", size=2**31)))


# ---- F, G: prompts and words -------------------------------------------------------------------

def word_cases():
    sd, hear = os.path.join(MODELS, "sd1"), os.path.join(MODELS, "audioldm")
    image = ["image", "-m", sd, "-p", "a", "--plan"]
    for option, values in (("--steps", ("0", "-1", "1001", "1e3", "20x", "", "9" * 20, " 5", "0x10", "2.0")),
                           ("--seed", ("-1", str(2**64), "abc", "0x10", " 5", "", "1.0")),
                           ("-W", ("0", "7", "-8", "99999999", "64.0", "x")), ("-H", ("0", "4", "nan")),
                           ("--cfg-scale", ("nan", "inf", "-1", "x", "7,5", "7.5.1", "0x1p3", "")),
                           ("-t", ("0", "-1", "1000000", "x", "1.5")), ("-b", ("0", "-1", "1000000000")),
                           ("--strength", ("1.01", "-0.1", "nan", "x")), ("--eta", ("2", "-1", "nan")),
                           ("--sampling-method", ("nonsense", "", "DDIM")), ("--schedule", ("nonsense", "")),
                           ("--isa", ("nonsense",)), ("--device", ("nonsense",)),
                           ("--max-mem", ("x", "-1", "1Z", "")), ("--clip-skip", ("-1", "x"))):
        for value in values:
            case(f"words: {option} {value!r}", "U", [*image, option, value],
                 {"-W": "--width", "-H": "--height", "-t": "--threads", "-b": "--batch"}.get(option, option))
    case("words: -W 100", "U", [*image, "-W", "100"], "width")
    for words in ([], ["nonsense"], ["image", "--nonsense"], ["image", "-p"], ["image", "-p", "a", "-p", "b"],
                  ["image", "-p", "a", "--mask", "x.png"], ["image", "-p", ""], ["image", "x"],
                  ["image", "--steps=5=6", "-p", "a"],
                  ["verify"], ["compare", "a"], ["embed", "-m", sd], ["tokenize"], ["search"], ["check"],
                  ["story"], ["organize", "."], ["inspect"]):
        case(f"words: {words}", "U", words)
    for seconds in ("0", "-1", "nan", "1000000000", "x", ""):
        case(f"words: --seconds {seconds!r}", "U",
             ["audio", "-m", hear, "-p", "a", "--plan", "--seconds", seconds], "seconds")
    clip = ["embed", "-m", os.path.join(MODELS, "clip"), "-q", "-p"]
    for name, text in (("empty", ""), ("spaces", " \t\n "), ("50 000 letters", "a" * 50000),
                       ("100 kB of words", "the cat " * 12500), ("special tokens", "<|endoftext|> <|startoftext|>"),
                       ("emoji", "\U0001f468\u200d\U0001f469\u200d\U0001f467"), ("BOM", "\ufeffa"),
                       ("entities", "&amp;amp; &lt;"), ("capitals", "\u0130 \u1e9e \u03a3"),
                       ("a format", "%s %n %d"), ("a newline", "a\nb")):
        case("prompt: " + name, "U" if name == "empty" else "A", [*clip, text])
    for text in (b"\xff", b"a\xc0\xafb", b"\xed\xa0\x80", b"\xe2\x82"):
        case(f"prompt: bytes that are no text, {text}", "A", [*clip, text])        # U+FFFD for them
    case("prompt: begins with a dash", "A", [*clip, "-a"])


# ---- H: files ----------------------------------------------------------------------------------

def file_cases():
    clip = os.path.join(MODELS, "clip")
    fifo = os.path.join(scratch, "fifo.png")
    os.mkfifo(fifo)
    loop = os.path.join(scratch, "loop.png")
    os.symlink("loop.png", loop)
    dangling = os.path.join(scratch, "dangling.png")
    os.symlink("nowhere", dangling)
    for name, path in (("a folder", scratch), ("a FIFO", fifo), ("/dev/zero", "/dev/zero"), ("a loop", loop),
                       ("nothing", dangling), ("/proc/self/mem", "/proc/self/mem"),
                       ("a name of 5000 bytes", "/" + "n" * 4999), ("no file", scratch + "/no\x1b[2J")):
        for verb in (["embed", "-m", clip, path], ["inspect", path], ["verify", path]):
            if not (verb[0] == "inspect" and name == "a folder"):
                case(f"file: {verb[0]} {name}", "R", verb)
    odd = os.path.join(scratch, "-a b\n'\"\\.png".encode() .decode())
    shutil.copy(os.path.join(MODELS, "pictures", "rgb.png"), odd)
    case("file: an odd name", "A", ["embed", "-m", clip, "-q", "--", odd])
    for model_ in (scratch, "/dev/null", os.path.join(clip, "vocab.json"), scratch + "/nowhere"):
        case(f"file: the model {os.path.basename(model_)}", "R", ["embed", "-m", model_, "-p", "a"])
    image = ["image", "-m", os.path.join(MODELS, "sd1"), "-p", "a", "--steps", "1", "-W", "64", "-H", "64", "-q"]
    for name, out in (("in no folder", scratch + "/no/x.png"), ("a folder", scratch), ("a loop", loop),
                      ("below a file", clip + "/vocab.json/x.png")):
        case(f"output: {name}", "R", [*image, "-o", out])
    index = json.dumps({"weight_map": {"a": "../../x.safetensors"}}).encode()
    case("shards: outside", "R", ["embed", "-p", "a", "-m", model(
        "clip", {"model.safetensors": None, "model.safetensors.index.json": index})])
    index = json.dumps({"weight_map": {"a": "gone.safetensors"}}).encode()
    case("shards: one missing", "R", ["embed", "-p", "a", "-m", model(
        "clip", {"model.safetensors": None, "model.safetensors.index.json": index})], "gone")


# ---- J: weights --------------------------------------------------------------------------------

def weight_cases():
    whole = read("clip", "model.safetensors")
    size = struct.unpack("<Q", whole[:8])[0]
    rows, data = json.loads(whole[8:8 + size]), whole[8 + size:]
    names = [n for n in rows if n != "__metadata__" and "position_ids" not in n]

    def weights(what, rows_, data_, said="", answer="R"):
        folder = model("clip", {"model.safetensors": tensors(rows_, data_)})
        case("weights: " + what, answer, ["embed", "-m", folder, "-p", "a",
             os.path.join(MODELS, "pictures", "rgb.png"), "-q"], said, "model.safetensors")

    for name in names[::7]:
        renamed = {(n + "x" if n == name else n): r for n, r in rows.items()}
        weights("no " + name, renamed, data, name)
    for name in names[3::9]:
        row = rows[name]
        if len(row["shape"]) == 2 and row["shape"][0] != row["shape"][1]:
            weights("turned " + name, rows | {name: row | {"shape": row["shape"][::-1]}}, data, name)
        weights("integers " + name, rows | {name: row | {"dtype": {"F32": "I32", "F16": "I16",
                "BF16": "I16"}.get(row["dtype"], "I32")}}, data, name)
    width = {"F32": 4, "F16": 2, "BF16": 2}
    bits = {"F32": b"\0\0\xc0\x7f", "F16": b"\0\x7e", "BF16": b"\xc0\x7f"}
    for name in [n for n in names if "layers.0" in n and rows[n]["dtype"] in width][:6]:
        first, broken = rows[name]["data_offsets"][0], bytearray(data)
        broken[first:first + width[rows[name]["dtype"]]] = bits[rows[name]["dtype"]]
        weights("NaN in " + name, rows, bytes(broken), "finite")


# ---- running -----------------------------------------------------------------------------------

def listing():
    return sorted(os.path.join(here, n) for here, _, names in os.walk(scratch) for n in names)


def judge(args, item):
    name, answer, words, said, file, _ = item
    try:
        run = subprocess.run([os.path.abspath(args.fusion), *words], capture_output=True, timeout=30,
                             stdin=subprocess.DEVNULL, cwd=os.path.join(scratch, "here"))
    except subprocess.TimeoutExpired:
        return "took 30 s"
    err = run.stderr
    if any(b < 32 and b != 10 or b == 127 for b in err):
        return f"control bytes: {err[:200]!r}"
    code = {"R": 1, "U": 2, "A": 0}[answer]
    if run.returncode != code:
        return f"exit {run.returncode}, want {code}: {err[:300]!r}"
    lines = err.count(b"\n")
    if answer == "R" and lines != 1 or answer == "U" and not 1 <= lines <= 2:
        return f"{lines} lines: {err[:300]!r}"
    if answer != "A" and not err.startswith(b"fusion: "):
        return f"begins otherwise: {err[:100]!r}"
    if answer != "A" and run.stdout:
        return f"printed {run.stdout[:100]!r}"
    named = (file,) if isinstance(file, str) else file or ("",)
    if answer == "R" and not any(n.encode() in err for n in named):
        return f"names no {file}: {err[:300]!r}"
    if said.encode() not in err + (run.stdout if answer == "A" else b""):
        return f"nowhere {said!r}: {err[:300]!r}"
    return ""


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--fusion", default=os.path.join(ROOT, "fusion"))
    p.add_argument("--only", default="")
    p.add_argument("-v", action="store_true")
    args = p.parse_args()
    os.environ.pop("FUSION_MODEL", None)
    os.mkdir(os.path.join(scratch, "here"))
    for make in (safetensors_cases, config_cases, tokenizer_cases, picture_cases, sound_cases, word_cases,
                 file_cases, weight_cases):
        make()
    before, passed, failed = listing(), 0, 0
    for item in CASES:
        if args.only not in item[0]:
            continue
        wrong = judge(args, item)
        passed, failed = passed + (not wrong), failed + bool(wrong)
        if wrong or args.v:
            print(f"{'FAILED' if wrong else 'ok'} {item[0]}: {wrong}", flush=True)
    left = set(listing()) - set(before)
    if left:
        failed += 1
        print("FAILED left behind:", sorted(left)[:5])
    shutil.rmtree(scratch)
    print(f"{passed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
