"""Makes tests/pictures/ again: small PNG and JPEG files and expected.txt, with Pillow and NumPy.

    python tests/pictures.py          for developers; the tests read only what it wrote

expected.txt has a line for each file, `FILE WIDTH HEIGHT FNV`, and for each resize of noise,
`resize SEED WIDTH HEIGHT TO_WIDTH TO_HEIGHT FILTER FNV`.  FNV is the 64-bit FNV-1a of the RGB bytes
that Pillow decodes, alpha composited on white.  What Pillow gets wrong of PNG (16-bit grey,
transparent colours at 2, 4 and 16 bits) follows from the samples by the PNG specification.
"""
import io
import os
import random
import struct
import zlib

import numpy as np
from PIL import Image

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pictures")
rng = np.random.default_rng(20)
dice = random.Random(20)


def fnv(data):
    h = 0xCBF29CE484222325
    for byte in data:
        h = (h ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{h:016x}"


def scene(w, h):
    """A picture with edges, gradients and some noise."""
    y, x = np.mgrid[0:h, 0:w]
    a = np.stack([127 + 110 * np.sin(x / 6 + c) * np.cos(y / 5 - c) for c in range(3)], -1)
    a[h // 3:, w // 2:] = [250, 20, 40]
    return (a + rng.normal(0, 5, a.shape)).clip(0, 255).astype(np.uint8)


# ---- PNG ------------------------------------------------------------------------------------

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
         (0, 1, 1, 2)]


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def packed(row, depth):
    if depth == 16:
        return row.astype(">u2").tobytes()
    bits = row[:, None] >> np.arange(depth - 1, -1, -1) & 1
    return np.packbits(bits.astype(np.uint8).ravel()).tobytes()


def filtered(row, above, step, kind):
    out = bytearray([kind])
    for i, v in enumerate(row):
        a = row[i - step] if i >= step else 0
        b = above[i] if above else 0
        c = above[i - step] if above and i >= step else 0
        nearest = min((abs(b - c), 0, a), (abs(a - c), 1, b), (abs(a + b - 2 * c), 2, c))[2]
        out.append((v - [0, a, b, (a + b) // 2, nearest][kind]) & 255)
    return bytes(out)


def png(s, colour, depth, interlaced, before=b"", level=9, strategy=0, split=1 << 30, after=b""):
    """s: samples [h][w][channels]."""
    h, w = s.shape[:2]
    raw = b""
    for x, y, across, down in ADAM7 if interlaced else [(0, 0, 1, 1)]:
        part, above = s[y::down, x::across], None
        for row in part if part.size else []:
            row = packed(row.ravel(), depth)
            raw += filtered(row, above, max(1, CHANNELS[colour] * depth // 8), dice.randint(0, 4))
            above = row
    z = zlib.compressobj(level, zlib.DEFLATED, 15, 8, strategy)
    z = z.compress(raw) + z.flush()
    data = b"".join(chunk(b"IDAT", z[i:i + split]) for i in range(0, len(z), split))
    head = struct.pack(">IIBBBBB", w, h, depth, colour, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + before + data + after + chunk(b"IEND", b"")


def on_white(rgb, alpha):
    return (rgb * alpha[..., None] + 255 * (255 - alpha[..., None]) + 127) // 255


def png_case(colour, depth, interlaced, transparent, w=19, h=13, **how):
    top = (1 << depth) - 1
    s = rng.integers(0, top + 1, (h, w, CHANNELS[colour]))
    if colour == 2 and transparent:                    # pixels that miss the key by one part
        s = top - s % 2
    before = how.pop("before", b"")
    alpha = np.full((h, w), 255)

    def eight(v):
        return v >> 8 if depth == 16 else v * (255 // top)

    if colour == 3:
        palette = rng.integers(0, 256, (top + 1, 3))
        before += chunk(b"PLTE", palette.astype(np.uint8).tobytes())
        if transparent:
            alphas = rng.integers(0, 256, max(1, top // 2))
            before += chunk(b"tRNS", alphas.astype(np.uint8).tobytes())
            alpha = np.append(alphas, np.full(256, 255))[s[..., 0]]
        rgb = palette[s[..., 0]]
    else:
        rgb = eight(s[..., :3] if colour in (2, 6) else np.repeat(s[..., :1], 3, -1))
        if colour in (4, 6):
            alpha = eight(s[..., -1])
        elif transparent:
            key = s[h // 2, w // 2]
            before += chunk(b"tRNS", key.astype(">u2").tobytes())
            alpha = np.where((s == key).all(-1), 0, 255)
    return png(s, colour, depth, interlaced, before, **how), on_white(rgb, alpha).astype(np.uint8)


def pillow(data):
    im = Image.open(io.BytesIO(data))
    if "A" in im.getbands() or im.info.get("transparency") is not None:
        white = Image.new("RGBA", im.size, (255, 255, 255, 255))
        im = Image.alpha_composite(white, im.convert("RGBA"))
    return np.array(im.convert("RGB"))


# ---- JPEG -----------------------------------------------------------------------------------

def segment(marker, data):
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def codes(symbols, lengths):
    """A Huffman code: of each symbol its bits as a string; and its DHT form."""
    code, last, of, counts = 0, 0, {}, [0] * 16
    for symbol, n in zip(symbols, lengths):
        code <<= n - last
        of[symbol], last = f"{code:0{n}b}", n
        counts[n - 1] += 1
        code += 1
    return of, bytes(counts) + bytes(symbols)


AC_SYMBOLS = [r << 4 | n for r in range(16) for n in range(8)]
DC, DC_TABLE = codes(range(12), [4] * 12)
AC, AC_TABLE = codes(AC_SYMBOLS, [7] * 60 + [9] * 68)


def number(v):
    n = abs(v).bit_length()
    return n, f"{v if v > 0 else v + (1 << n) - 1:0{n}b}" if n else ""


def block_bits(block, last):
    n, bits = number(block[0] - last)
    out, zeros = DC[n] + bits, 0
    for v in block[1:]:
        if v == 0:
            zeros += 1
            continue
        out += AC[0xF0] * (zeros // 16)
        n, bits = number(v)
        out, zeros = out + AC[zeros % 16 << 4 | n] + bits, 0
    return out + (AC[0] if zeros else "")


def entropy_bytes(bits):
    bits += "1" * (-len(bits) % 8)
    return bytes(int(bits[i:i + 8], 2) for i in range(0, len(bits), 8)).replace(b"\xff", b"\xff\0")


def jpeg(w, h, factors, ids=(1, 2, 3, 4), adobe=None, interval=0, interleaved=True, wide=False):
    """Baseline JPEG of random coefficients with any sampling factors, which Pillow cannot write."""
    n, most = len(factors), [max(f[k] for f in factors) for k in (0, 1)]
    cols, rows = -(-w // (8 * most[0])), -(-h // (8 * most[1]))
    out = b"\xff\xd8"
    if adobe is not None:
        out += segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([adobe]))
    quant = [dice.randint(1, 12) for _ in range(64)]
    out += segment(0xDB, b"\x10" + struct.pack(">64H", *quant) if wide else b"\0" + bytes(quant))
    parts = b"".join(bytes([i, f[0] << 4 | f[1], 0]) for i, f in zip(ids, factors))
    out += segment(0xC1 if wide else 0xC0, struct.pack(">BHHB", 8, h, w, n) + parts)
    out += segment(0xC4, b"\0" + DC_TABLE + b"\x10" + AC_TABLE)
    if interval:
        out += segment(0xDD, struct.pack(">H", interval))
    for scan in [list(range(n))] if interleaved else [[i] for i in range(n)]:
        out += segment(0xDA, bytes([len(scan)]) + b"".join(bytes([ids[c], 0]) for c in scan)
                       + b"\0\x3f\0")
        f = factors[scan[0]]
        single = len(scan) == 1
        across, down = (-(-(-(-side * f[k] // most[k])) // 8) for k, side in enumerate((w, h)))
        units = across * down if single else cols * rows
        bits, last, restarts = "", [0] * n, 0
        for unit in range(units):
            if interval and unit and unit % interval == 0:
                out += entropy_bytes(bits) + bytes([0xFF, 0xD0 + restarts % 8])
                bits, last, restarts = "", [0] * n, restarts + 1
            for c in scan:
                for _ in range(1 if single else factors[c][0] * factors[c][1]):
                    block = [dice.randint(-60, 60)] + [0] * 63
                    for _ in range(dice.choice([0, 1, 3, 8])):
                        block[dice.randint(1, 63)] = dice.randint(-9, 9)
                    bits += block_bits(block, last[c])
                    last[c] = block[0]
        out += entropy_bytes(bits)
    return out + b"\xff\xd9"


# ---- all of it ------------------------------------------------------------------------------

def png_files():
    for colour, depths in ((0, (1, 2, 4, 8, 16)), (2, (8, 16)), (3, (1, 2, 4, 8)), (4, (8, 16)),
                           (6, (8, 16))):
        for depth in depths:
            for interlaced in (0, 1):
                transparent = colour < 4 and interlaced
                yield (f"c{colour}d{depth}{'i' if interlaced else ''}{'t' if transparent else ''}"
                       ".png", *png_case(colour, depth, interlaced, transparent))
    yield "c2d8t.png", *png_case(2, 8, 0, True)
    yield "c0d1t.png", *png_case(0, 1, 0, True)
    yield "one.png", *png_case(2, 8, 0, False, 1, 1)
    yield "onei.png", *png_case(6, 8, 1, False, 1, 1)
    yield "thin.png", *png_case(0, 8, 1, False, 1, 9)
    yield "stored.png", *png_case(2, 8, 0, False, level=0)
    yield "fixed.png", *png_case(2, 8, 0, False, strategy=zlib.Z_FIXED)
    yield "runs.png", *png_case(3, 2, 0, False, strategy=zlib.Z_RLE)
    yield "split.png", *png_case(2, 8, 0, False, split=7)
    texts = (chunk(b"tEXt", "Title\0caf\xe9".encode("latin-1")) + chunk(b"tEXt", b"Odd\0\xc3\xa9")
             + chunk(b"zTXt", b"Prompt\0\0" + zlib.compress(b"a lake at dawn, " * 20))
             + chunk(b"iTXt", b"Author\0\0\0fr\0Auteur\0" + "Zoë 漢字".encode()))
    late = chunk(b"iTXt", b"Late\0\1\0\0\0" + zlib.compress(b"after the data"))
    yield "texts.png", *png_case(2, 8, 0, False, 5, 4, before=texts, after=late)


def jpeg_files():
    def saved(im, **how):
        out = io.BytesIO()
        im.save(out, "JPEG", **how)
        return out.getvalue()

    rgb = Image.fromarray(scene(45, 35))
    for name, sampling in (("444", 0), ("422", 1), ("420", 2)):
        for progressive in (False, True):
            kind = "p" if progressive else "b"
            yield f"{kind}{name}.jpg", saved(rgb, quality=80, subsampling=sampling,
                                             progressive=progressive, comment=b"a test")
    yield "rough.jpg", saved(rgb, quality=3)
    yield "fine.jpg", saved(rgb, quality=100, optimize=True)
    yield "grey.jpg", saved(rgb.convert("L"), quality=70)
    yield "greyp.jpg", saved(rgb.convert("L"), quality=70, progressive=True)
    yield "cmyk.jpg", saved(rgb.convert("CMYK"), quality=80)
    yield "rgb.jpg", saved(rgb, quality=80, keep_rgb=True)
    yield "restart.jpg", saved(rgb, quality=80, subsampling=2, restart_marker_blocks=2)
    yield "restartp.jpg", saved(rgb, quality=80, restart_marker_rows=1, progressive=True)
    for w in (1, 3, 4, 5, 16, 17):
        yield f"w{w}.jpg", saved(Image.fromarray(scene(w, 18 - w)), quality=70, subsampling=2)
    yield "narrow.jpg", saved(Image.fromarray(scene(4, 9)), quality=70, subsampling=1)
    turned = Image.Exif()
    turned[0x0112] = 6                                # EXIF says: turn it; Pillow does not
    yield "exif.jpg", saved(Image.fromarray(scene(16, 8)), exif=turned)
    one = (1, 1)
    yield "s440.jpg", jpeg(37, 29, [(1, 2), one, one])
    yield "s411.jpg", jpeg(37, 29, [(4, 1), one, one])
    yield "s410.jpg", jpeg(37, 29, [(4, 2), one, one])
    yield "mixed.jpg", jpeg(37, 29, [(2, 2), (2, 1), (1, 2)])
    yield "chroma.jpg", jpeg(21, 19, [one, (2, 2), (1, 2)], interleaved=False)
    yield "grey22.jpg", jpeg(21, 19, [(2, 2)])
    yield "scans.jpg", jpeg(37, 29, [(2, 2), one, one], interleaved=False, interval=3)
    yield "ids.jpg", jpeg(21, 19, [one] * 3, ids=b"RGB")
    yield "adobe0.jpg", jpeg(21, 19, [one] * 3, adobe=0)
    yield "adobe1.jpg", jpeg(21, 19, [(2, 1), one, one], adobe=1)
    yield "cmyk0.jpg", jpeg(21, 19, [one] * 4)
    yield "ycck.jpg", jpeg(21, 19, [(2, 2), one, one, (2, 2)], adobe=2)
    yield "wide.jpg", jpeg(21, 19, [(2, 2), one, one], wide=True)


def noise(seed, w, h):
    """The bytes of test_picture.c's noise()."""
    x, out = seed, bytearray()
    for _ in range(w * h * 3):
        x = (x * 1664525 + 1013904223) & 0xFFFFFFFF
        out.append(x >> 24)
    return np.frombuffer(bytes(out), np.uint8).reshape(h, w, 3)


def resizes():
    filters = (Image.Resampling.BICUBIC, Image.Resampling.LANCZOS, Image.Resampling.BILINEAR)
    sizes = [(40, 30, 17, 13), (17, 13, 40, 30), (33, 21, 33, 9), (33, 21, 50, 21), (1, 1, 5, 7),
             (50, 3, 1, 1), (3, 60, 20, 7), (60, 20, 30, 2), (31, 47, 22, 33), (2, 2, 3, 3)]
    for seed, (w, h, to_w, to_h) in enumerate(sizes, 1):
        for k, how in enumerate(filters):
            got = Image.fromarray(noise(seed, w, h)).resize((to_w, to_h), how)
            yield f"resize {seed} {w} {h} {to_w} {to_h} {k} {fnv(got.tobytes())}"


def main():
    os.makedirs(HERE, exist_ok=True)
    lines = []
    for name, data, rgb in png_files():
        wrong = name.startswith("c0d16") or name in ("c0d2it.png", "c0d4it.png", "c2d16it.png")
        assert wrong or np.array_equal(pillow(data), rgb), name
        lines.append((name, data, rgb))
    lines += [(name, data, pillow(data)) for name, data in jpeg_files()]
    with open(os.path.join(HERE, "expected.txt"), "w") as expected:
        for name, data, rgb in lines:
            with open(os.path.join(HERE, name), "wb") as out:
                out.write(data)
            expected.write(f"{name} {rgb.shape[1]} {rgb.shape[0]} {fnv(rgb.tobytes())}\n")
        for line in resizes():
            expected.write(line + "\n")


main()
