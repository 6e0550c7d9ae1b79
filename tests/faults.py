"""Every allocation and every I/O call of a run fails once: what the command says, and what it leaves.

    python3 tests/faults.py build/faults/faulty [--each 40]      standard library alone

For each verb the calls are counted, then one of them fails a run: the first hundred and a spread of
--each over the rest (0: all).  The run must end with exit 1 and one line, or, where the call did not
matter, with the same output as without; no output, no temporary and no leak (the program is built with
AddressSanitizer) may be left.  Closes with `N passed, N failed`."""
import argparse
import os
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
M = os.path.join(ROOT, "tests", "models")
CAT = os.path.join(M, "pictures", "rgb.png")
DOG = os.path.join(ROOT, "tests", "sounds", "s16.wav")
SMALL = ["-W", "64", "-H", "64", "--steps", "1", "--seed", "1", "-q", "-t", "1"]
SD, CLIP, CLAP, HEAR = (["-m", os.path.join(M, n)] for n in ("sd1", "clip", "clap", "audioldm"))
JOIN = ["--clip", os.path.join(M, "clip"), "--clap", os.path.join(M, "clap"), "--phrases",
        os.path.join(ROOT, "weights", "phrases", "small-world"), "-t", "1"]
SCRIPT = "scene: a lake\nsound: birds\nseconds: 0.2\n\nscene: a cabin\nsound: none\nseconds: 0.2\n"
RUNS = {
    "image": ["image", *SD, "-p", "a cat", *SMALL, "-o", "out/x.png"],
    "image -i": ["image", *SD, "-p", "a cat", *SMALL, "-i", CAT, "--strength", "1", "-o", "out/x.ppm"],
    "image --mask": ["image", *SD, "-p", "a", *SMALL, "-i", CAT, "--mask", CAT, "--strength", "1", "-o", "out/x.png"],
    "image views": ["image", *SD, "-p", "a cat", *SMALL, "--film", "out/f.png", "--heatmap", "out/maps",
                    "--trace", "out/t.safetensors", "-o", "out/x.png"],
    "image -b": ["image", *SD, "-p", "a", *SMALL, "-b", "2", "--contact-sheet", "out/s.png", "-o", "out/%d.png"],
    "image --lora": ["image", *SD, "-p", "a", *SMALL, "--lora",
                     os.path.join(M, "adapters", "lora-kohya.safetensors"), "-o", "out/x.png"],
    "audio": ["audio", *HEAR, "-p", "a dog", "--steps", "1", "--seconds", "0.2", "--seed", "1", "-q", "-t", "1",
              "-o", "out/x.wav", "--spectrogram", "out/x.png"],
    "embed": ["embed", *CLIP, "-p", "a cat", CAT, "-q", "-t", "1", "-o", "out/x.safetensors"],
    "embed sound": ["embed", *CLAP, "-p", "a dog", DOG, "-q", "-t", "1", "-o", "out/x.safetensors"],
    "classify": ["classify", *CLIP, "--labels", "a cat,a dog", CAT, "-t", "1"],
    "tokenize": ["tokenize", *CLIP, "-p", "a photo of a cat", "-v"],
    "inspect": ["inspect", os.path.join(M, "sd1")],
    "compare": ["compare", os.path.join(M, "adapters", "latents-plain.safetensors"),
                os.path.join(M, "adapters", "latents-plain.safetensors")],
    "index": ["index", "in", *CLIP, "-t", "1", "-o", "out/x.index"],
    "organize": ["organize", "in", *CLIP, "--labels", "a cat,a dog", "-t", "1"],
    "duplicates": ["duplicates", "in", *CLIP, "-t", "1"],
    "caption": ["caption", CAT, DOG, *JOIN],
    "check": ["check", "-p", "a cat", "--image", CAT, *JOIN, "--threshold", "0"],
    "soundscape": ["soundscape", CAT, *JOIN, "--audioldm", os.path.join(M, "audioldm"), "--steps", "1",
                   "--seconds", "0.2", "--seed", "1", "--sounds", "1", "-q", "-o", "out/x.wav"],
    "story": ["story", "in/story.txt", "--sd", os.path.join(M, "sd1"), "--audioldm", os.path.join(M, "audioldm"),
              "--steps", "1", "--sound-steps", "1", "--crossfade", "0", "--seed", "1", "-W", "64", "-H", "64",
              "-q", "-t", "1", "-o", "out/story"],
}


def begin(folder):
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(os.path.join(folder, "in"))
    os.makedirs(os.path.join(folder, "out"))
    for name in ("a.png", "b.png"):
        shutil.copy(CAT, os.path.join(folder, "in", name))
        os.utime(os.path.join(folder, "in", name), (1e9, 1e9))
    with open(os.path.join(folder, "in", "story.txt"), "w") as f:
        f.write(SCRIPT)


def files(folder):
    found = {}
    for here, _, names in os.walk(os.path.join(folder, "out")):
        for name in names:
            path = os.path.join(here, name)
            with open(path, "rb") as f:
                found[os.path.relpath(path, folder)] = f.read()
    return found


def run(program, words, folder, **environment):
    begin(folder)
    done = subprocess.run([program, *words], cwd=folder, capture_output=True, stdin=subprocess.DEVNULL,
                          timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1", **environment})
    return done, files(folder)


def judge(done, left, plain, whole):
    if done.returncode == 0:
        same = left == whole and done.stdout == plain.stdout
        told = done.stderr != plain.stderr              # a file of many was skipped
        return "" if same or told else "exit 0 with other results"
    if done.returncode != 1:
        return f"exit {done.returncode}: {done.stderr[-300:]!r}"
    lines = [l for l in done.stderr.splitlines() if not l.startswith(b"seed ")]
    if len(lines) != 1 or not lines[0].startswith(b"fusion: "):
        return f"says {done.stderr[-300:]!r}"
    half = [n for n in left if left[n] != whole.get(n)]       # of several outputs some may be whole
    return f"left {sorted(half)}" if half else ""


def main():
    p = argparse.ArgumentParser()
    p.add_argument("program")
    p.add_argument("--each", type=int, default=40)
    p.add_argument("--only", default="")
    args = p.parse_args()
    program, passed, failed = os.path.abspath(args.program), 0, 0
    folder = tempfile.mkdtemp()
    for name, words in RUNS.items():
        if args.only not in name:
            continue
        number = os.path.join(folder, "calls")
        plain, whole = run(program, words, os.path.join(folder, "run"), COUNT=number)
        if plain.returncode:
            sys.exit(f"{name}: {plain.stderr!r}")
        with open(number) as f:
            calls = int(f.read())
        at = range(1, calls + 1)
        if args.each:
            step = max(1, (calls - 20) // args.each)
            at = sorted(set(range(1, min(calls, 20) + 1)) | set(range(21, calls + 1, step)))
        bad = 0
        for n in at:
            done, left = run(program, words, os.path.join(folder, "run"), FAULT=str(n))
            wrong = judge(done, left, plain, whole)
            bad += bool(wrong)
            if wrong and bad <= 5:
                print(f"FAILED {name}, call {n} of {calls}: {wrong}", flush=True)
        passed, failed = passed + len(at) - bad, failed + bad
        print(f"{name}: {len(at)} of {calls} calls", flush=True)
    shutil.rmtree(folder)
    print(f"{passed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
