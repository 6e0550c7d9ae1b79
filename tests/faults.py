"""Every allocation and every I/O call of a run fails: what the command says, and what it leaves.

    python3 tests/faults.py build/faults/faulty [--each 40]      standard library alone

For each verb the calls are counted; then, at the first twenty and a spread of --each over the rest (0: all),
    one call fails; it and all that follow fail; SIGINT, SIGTERM or SIGHUP comes; the power is cut (SIGKILL),
the last three at a tenth of the places each.  A failure must end with exit 1 and one line or, where the call did
not matter, with the same output as without; a signal with death by it; and whatever happened, an output is the
old one or the new one, whole, no temporary is left (but after a power cut) and no leak (the program is built with
AddressSanitizer).  Two more runs must change nothing at all: one where every call is interrupted once (EINTR), one
where reads and writes do half of what is asked.  Closes with `N passed, N failed`."""
import argparse
import os
import shutil
import signal
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
    "image list": ["image", *SD, "--prompt-file", "in/prompts.txt", "--style", "wide", "--styles", "in/styles.tsv",
                   "--save-config", "out/x.conf", *SMALL, "-o", "out/%d.png"],
    "image --lora": ["image", *SD, "-p", "a", *SMALL, "--lora",
                     os.path.join(M, "adapters", "lora-kohya.safetensors"), "-o", "out/x.png"],
    "audio": ["audio", *HEAR, "-p", "a dog", "--steps", "1", "--seconds", "0.2", "--seed", "1", "-q", "-t", "1",
              "-o", "out/x.wav", "--spectrogram", "out/x.png"],
    "embed": ["embed", *CLIP, "-p", "a cat", CAT, "-q", "-t", "1", "-o", "out/x.safetensors"],
    "embed sound": ["embed", *CLAP, "-p", "a dog", DOG, "-q", "-t", "1", "-o", "out/x.safetensors"],
    "embed json": ["embed", *CLIP, "-p", "a cat", "-q", "-t", "1", "-o", "out/x.json"],
    "embed npy": ["embed", *CLIP, "-p", "a cat", "-q", "-t", "1", "-o", "out/x.npy", "--scratch", "out/scratch"],
    "score": ["score", *CLIP, "-p", "a cat", "-p", "a dog", CAT, "-t", "1", "--json"],
    "classify": ["classify", *CLIP, "--labels", "a cat,a dog", CAT, "-t", "1"],
    "tokenize": ["tokenize", *CLIP, "-p", "a photo of a cat", "-v"],
    "inspect": ["inspect", os.path.join(M, "sd1")],
    "compare": ["compare", os.path.join(M, "adapters", "latents-plain.safetensors"),
                os.path.join(M, "adapters", "latents-plain.safetensors")],
    "inspect files": ["inspect", CAT, DOG, os.path.join(M, "adapters", "word.safetensors"), "--json", "--sha256"],
    "verify": ["verify", "in/made.png", *SD, "-t", "1"],
    "help": ["help", "image"],
    "config": ["version", "--json", "--config", "in/quiet.conf"],
    "index": ["index", "in", *CLIP, "-t", "1", "-o", "out/x.index"],
    "index again": ["index", "in", *CLIP, "-t", "1", "-o", "in/made.index"],
    "index merge": ["index", "--merge", "in/made.index", "-o", "out/x.index", "-t", "1"],
    "search": ["search", "in/made.index", *CLIP, "-p", "a cat", "--minus", "a dog", "-t", "1", "--json"],
    "organize --apply": ["organize", "in", *CLIP, "--labels", "a cat,a dog", "-t", "1", "--apply"],
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


MADE = {}                                        # what `verify` and `search` read, made once: name -> bytes
REFUSES_OLD = ("index", "index merge", "story")  # an old file in its place is another case there
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def begin(folder, old=()):
    """A fresh folder, with files in it that the run would replace."""
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(os.path.join(folder, "in"))
    os.makedirs(os.path.join(folder, "out"))
    for name, content in [*MADE.items(), *((n, b"old") for n in old if n.startswith("out/"))]:
        os.makedirs(os.path.dirname(os.path.join(folder, name)), exist_ok=True)
        with open(os.path.join(folder, name), "wb") as f:
            f.write(content)
        os.utime(os.path.join(folder, name), (1e9, 1e9))
    for name in ("a.png", "b.png"):
        shutil.copy(CAT, os.path.join(folder, "in", name))
        os.utime(os.path.join(folder, "in", name), (1e9, 1e9))
    with open(os.path.join(folder, "in", "story.txt"), "w") as f:
        f.write(SCRIPT)


def files(folder):
    found = {}
    for here, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(here, name)
            with open(path, "rb") as f:
                found[os.path.relpath(path, folder)] = f.read()
    return found


def run(program, words, folder, old=(), **environment):
    begin(folder, old)
    done = subprocess.run([program, *words], cwd=folder, capture_output=True, stdin=subprocess.DEVNULL,
                          timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1", **environment})
    return done, files(folder)


def half(left, before, whole, cut):
    """Names of files that are neither old nor new, of files that are gone, and of what should not be there."""
    wrong = [n for n in left if left[n] not in (before.get(n), whole.get(n)) and not (cut and ".fusion-" in n)]
    lost = [n for n in before if n not in left and before[n] not in left.values()]
    return sorted(wrong + lost)


def judge(done, how, plain, changed):
    """changed: what is left is not what the run without faults leaves."""
    if how.isdigit() and done.returncode != -int(how):
        return "" if done.returncode == 0 and not changed else f"exit {done.returncode}, want that signal"
    if how.isdigit():
        return ""
    if done.returncode == 0:
        same = not changed and done.stdout == plain.stdout
        told = done.stderr != plain.stderr and how == "once"              # a file of many was skipped
        return "" if same or told else "exit 0 with other results"
    if how in ("eintr", "short"):
        return f"exit {done.returncode}: {done.stderr[-300:]!r}"
    if done.returncode != 1:
        return f"exit {done.returncode}: {done.stderr[-300:]!r}"
    lines = [l for l in done.stderr.splitlines() if l.startswith(b"fusion: ")]
    others = [l for l in done.stderr.splitlines() if not l.startswith((b"seed ", b"fusion: ", b"stays: ",
                                                                      b"skipped: ", b"taken back by: "))]
    return f"says {done.stderr[-300:]!r}" if len(lines) != 1 or others else ""


def places(calls, each):
    """Which calls are tried, and how: HOW -> numbers."""
    at = list(range(1, calls + 1))
    if each:
        at = at[:20] + at[20::max(1, (calls - 20) // each)]
    turns = {str(int(s)): at[5 + i::30] for i, s in enumerate(SIGNALS)}
    return {"once": at, "on": at[::5], "9": at[3::10], **turns, "eintr": [1], "short": [1]}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("program")
    p.add_argument("--each", type=int, default=40)
    p.add_argument("--only", default="")
    args = p.parse_args()
    program, passed, failed = os.path.abspath(args.program), 0, 0
    folder = tempfile.mkdtemp()
    for name, words in (("in/made.png", ["image", *SD, "-p", "a cat", *SMALL, "-o", "in/made.png"]),
                        ("in/made.index", ["index", "in", *CLIP, "-t", "1", "-q", "-o", "in/made.index"])):
        MADE[name] = run(program, words, os.path.join(folder, "run"))[1][name]
    MADE["in/quiet.conf"] = b"quiet = true\n"
    MADE["in/prompts.txt"] = b"a (cat:1.2)\nanother\n\xef\xbb\xbfa third\n"
    MADE["in/styles.tsv"] = b"wide\t{prompt}, wide\tdull\nold\told {prompt}\nplain\tplain\n"
    for name, words in RUNS.items():
        if args.only not in name:
            continue
        number, here = os.path.join(folder, "calls"), os.path.join(folder, "run")
        _, whole = run(program, words, here)
        old = whole if name not in REFUSES_OLD else ()
        plain, whole = run(program, words, here, old, COUNT=number)
        if plain.returncode:
            sys.exit(f"{name}: {plain.stderr!r}")
        with open(number) as f:
            calls = int(f.read())
        begin(here, old)
        before, bad, tried = files(here), 0, 0
        for how, at in places(calls, args.each).items():
            for n in at:
                done, left = run(program, words, here, old, FAULT=str(n), HOW=how)
                wrong = judge(done, how, plain, left != whole)
                skipped = done.returncode == 0 and done.stderr != plain.stderr    # told: one file of many
                torn = [] if skipped else half(left, before, whole, how == "9")
                wrong += f" left {torn}" if torn else ""
                bad, tried = bad + bool(wrong), tried + 1
                if wrong and bad <= 5:
                    print(f"FAILED {name}, {how} at call {n} of {calls}: {wrong}", flush=True)
        passed, failed = passed + tried - bad, failed + bad
        print(f"{name}: {tried} runs, {calls} calls", flush=True)
    shutil.rmtree(folder)
    print(f"{passed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
