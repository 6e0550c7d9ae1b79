"""Our reader of safetensors against the reference's (PyPI safetensors, in Rust), on thousands of files:
the corpus of tests/fuzz and mutants of small whole files.

    python tests/readers.py [-n 2000] [--fusion ./fusion]

Both must take the same files, but where the format's README asks for more than its reader checks.  These
we refuse, and the reference takes:
    STRICTER, below, with what our message says
There is none that we take and the reference refuses.  Prints disagreements and `N passed, N failed`."""
import argparse
import glob
import json
import os
import random
import struct
import subprocess
import sys
import tempfile

from safetensors import SafetensorError, safe_open

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
STRICTER = {"for the second time": "a key twice", "__metadata__ is not": "metadata that is null",
            "its entry is not an object": "an entry that is an array"}
ROW = b'"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
THERE = [b"{" + ROW + b"," + ROW + b"}", b'{"__metadata__":{"a":"b","a":"c"},' + ROW + b"}",
         b'{"__metadata__":null,' + ROW + b"}", b'{"t":["F32",[2],[0,8]]}']


def whole(rng):
    """A small file that is right."""
    header, at = {}, 0
    if rng.random() < 0.3:
        header["__metadata__"] = {"format": "pt", "a": "b\u00e9"}
    for i in range(rng.randrange(4)):
        dtype, size = rng.choice([("F32", 4), ("F16", 2), ("BF16", 2), ("U8", 1), ("I64", 8), ("BOOL", 1)])
        shape = [rng.randrange(4) for _ in range(rng.randrange(4))]
        n = size
        for d in shape:
            n *= d
        header[f"t{i}.weight"] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + n]}
        at += n
    text = json.dumps(header, ensure_ascii=rng.random() < 0.5).encode() + b" " * rng.randrange(9)
    return struct.pack("<Q", len(text)) + text + bytes(at)


def mutant(rng):
    data = bytearray(whole(rng))
    for _ in range(rng.choice([0, 1, 1, 1, 2, 4])):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(6)
        if kind == 0 and at < len(data):
            data[at] = rng.randrange(256)
        elif kind == 1 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del data[at:at + rng.randrange(1, 5)]
        elif kind == 3:
            data[at:at] = rng.choice([b",", b"{", b"}", b"[", b"]", b'"', b"0", b"-", b" ", b"\0", b"\\", b":"])
        elif kind == 4 and len(data) > 8:
            digits = [i for i in range(8, len(data)) if 48 <= data[i] < 58]
            if digits:
                data[rng.choice(digits)] = 48 + rng.randrange(10)
        else:
            struct.pack_into("<Q", data, 0, max(0, len(data) - 8 - rng.randrange(3))) if len(data) >= 8 else None
        if rng.random() < 0.5 and len(data) >= 8:                 # the length right again, as a writer would
            end = data.rfind(b"}") + 1
            if end > 8:
                struct.pack_into("<Q", data, 0, end - 8)
    return bytes(data)


def theirs(path):
    try:
        with safe_open(path, "np") as f:
            return sorted(f.keys()), ""
    except (SafetensorError, ValueError, OSError) as e:
        return None, str(e)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("-n", type=int, default=2000)
    p.add_argument("--fusion", default=os.path.join(ROOT, "fusion"))
    args = p.parse_args()
    passed = failed = both = 0
    stricter = {}
    with tempfile.TemporaryDirectory() as folder:
        path, rng = os.path.join(folder, "x.safetensors"), random.Random(1)
        corpus = [open(f, "rb").read() for f in sorted(glob.glob(ROOT + "/tests/fuzz/safetensors/*"))]
        corpus += [struct.pack("<Q", len(h)) + h + bytes(8) for h in THERE]
        for data in corpus + [mutant(rng) for _ in range(args.n)]:
            with open(path, "wb") as f:
                f.write(data)
            run = subprocess.run([args.fusion, "inspect", path], capture_output=True)
            ours, (names, why) = run.returncode == 0, theirs(path)
            rule = next((STRICTER[k] for k in STRICTER if k.encode() in run.stderr), None)
            if not ours and names is not None and rule:
                stricter[rule] = stricter.get(rule, 0) + 1
            elif ours and names is not None:
                both += 1
            elif ours or names is not None:
                failed += 1
                if failed <= 20:
                    print("FAILED", data[:120], "ours:", run.stderr[-160:], "theirs:", names, why[:120])
                continue
            passed += 1
    print(f"taken by both: {both}")
    for rule, n in stricter.items():
        print(f"stricter: {rule}: {n}")
    print(f"{passed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
