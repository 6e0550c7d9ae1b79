"""The program with published weights against published numbers.  Needs the weights, which nobody
ships, and Python without any package.

    FUSION_WEIGHTS=DIR python3 tests/golden.py [FUSION]

    DIR/stable-diffusion-v1-4       CompVis/stable-diffusion-v1-4
    DIR/audioldm                    cvssp/audioldm
    DIR/clip-vit-base-patch32       openai/clip-vit-base-patch32, and DIR/CLIP.png of openai/CLIP

The numbers are those that diffusers' own tests (test_stable_diffusion.py, test_audioldm.py) and the
README of openai/CLIP hold, with their bounds; a pixel is a level of 255, so half a level comes on
top.  What is not there is SKIPPED, and why."""
import json
import math
import os
import random
import struct
import subprocess
import sys
import tempfile

PROMPT = "a photograph of an astronaut riding a horse"
# method, changes of the scheduler's file, bound, the last 3x3 pixels' blue
SLICES = [
    ("pndm", {}, 3e-3, [.57400, .47841, .31625, .63583, .58306, .55056, .50825, .56306, .55748]),
    ("ddim", {}, 1e-4, [.38019, .28647, .27321, .40377, .38290, .35446, .39218, .38165, .42239]),
    ("lms", {}, 3e-3, [.10542, .09620, .07332, .09015, .09382, .07597, .08496, .07806, .06455]),
    ("dpm++2m", {"final_sigmas_type": "sigma_min"}, 3e-3,
     [.03503, .03494, .01087, .03128, .02552, .00803, .00742, .00372, .00000]),
]
HAMMER = [-.4884, -.4607, .0023, .5007, .5896, .5151, .3813, -.0208, -.3687, -.4315]
DIAGRAM = {"a diagram": .9927937, "a dog": .00421068, "a cat": .00299572}

passed = failed = 0


def numpy_normal(count, seed=0):
    """numpy.random.RandomState(seed).standard_normal(count): Marsaglia's polar method over
    mt19937, which Python has too, behind another way to seed."""
    state = [seed]
    for i in range(1, 624):
        state.append((1812433253 * (state[-1] ^ state[-1] >> 30) + i) & 0xffffffff)
    twister = random.Random()
    twister.setstate((3, (*state, 624), None))
    out = []
    while len(out) < count:
        x, y = 2 * twister.random() - 1, 2 * twister.random() - 1
        r = x * x + y * y
        if 0 < r < 1:
            factor = math.sqrt(-2 * math.log(r) / r)
            out += [factor * y, factor * x]
    return out[:count]


def write_latents(path, *shape):
    count = math.prod(shape)
    header = json.dumps({"latents": {"dtype": "F32", "shape": shape,
                                     "data_offsets": [0, 4 * count]}}).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(header)) + header)
        f.write(struct.pack(f"<{count}f", *numpy_normal(count)))


def report(name, error, bound):
    global passed, failed
    ok = error <= bound
    passed, failed = passed + ok, failed + (not ok)
    print(f"{'PASS' if ok else 'FAIL'} {name}: off by {error:.1e}, bound {bound:.1e}", flush=True)


def fusion(program, *words):
    done = subprocess.run([program, *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return done.stdout


def with_scheduler(folder, changes, scratch):
    """folder, with a changed scheduler_config.json."""
    if not changes:
        return folder
    copy = f"{scratch}/changed"
    os.makedirs(f"{copy}/scheduler")
    for name in os.listdir(folder):
        if name != "scheduler":
            os.symlink(os.path.abspath(f"{folder}/{name}"), f"{copy}/{name}")
    with open(f"{folder}/scheduler/scheduler_config.json") as f:
        config = json.load(f) | changes
    with open(f"{copy}/scheduler/scheduler_config.json", "w") as f:
        json.dump(config, f)
    return copy


def pictures(program, folder, scratch):
    write_latents(f"{scratch}/z.safetensors", 1, 4, 64, 64)
    for method, changes, bound, want in SLICES:
        fusion(program, "image", "-m", with_scheduler(folder, changes, scratch), "-q", "-p", PROMPT,
               "--steps", 3, "--seed", 0, "--sampling-method", method, "--latents",
               f"{scratch}/z.safetensors", "-o", f"{scratch}/p.ppm")
        with open(f"{scratch}/p.ppm", "rb") as f:
            pixels = f.read()[-3 * 512 * 512:]
        got = [pixels[3 * (512 * y + x) + 2] / 255 for y in (509, 510, 511) for x in (509, 510, 511)]
        report(f"Stable Diffusion 1.4, {method}", max(abs(a - b) for a, b in zip(got, want)),
               bound + 0.5 / 255)


def sounds(program, folder, scratch):
    write_latents(f"{scratch}/a.safetensors", 1, 8, 128, 16)
    fusion(program, "audio", "-m", folder, "-q", "-p", "A hammer hitting a wooden surface",
           "--steps", 25, "--cfg-scale", 2.5, "--seed", 0, "--seconds", 5.12, "--float", "--latents",
           f"{scratch}/a.safetensors", "-o", f"{scratch}/a.wav")
    with open(f"{scratch}/a.wav", "rb") as f:
        wav = f.read()
    at = wav.index(b"data") + 8
    got = struct.unpack("<10f", wav[at + 4 * 77230:at + 4 * 77240])
    report("AudioLDM, 25 steps", max(abs(a - b) for a, b in zip(got, HAMMER)), 1e-2)


def scores(program, folder, scratch):
    out = fusion(program, "score", "-m", folder, "--json", *[w for t in DIAGRAM for w in ("-p", t)],
                 f"{os.path.dirname(folder)}/CLIP.png")
    got = {line["text"]: line["probability"] for line in map(json.loads, out.splitlines())}
    report("CLIP ViT-B/32, a diagram", max(abs(got[t] - DIAGRAM[t]) for t in DIAGRAM), 2e-3)


CHECKS = [("stable-diffusion-v1-4", pictures, []), ("audioldm", sounds, []),
          ("clip-vit-base-patch32", scores, ["CLIP.png"])]


def main(program):
    root = os.environ.get("FUSION_WEIGHTS")
    for name, check, more in CHECKS:
        missing = [n for n in [name, *more] if root and not os.path.exists(f"{root}/{n}")]
        if not root or missing:
            why = f"{root}/{missing[0]} is not there" if root else "FUSION_WEIGHTS is not set"
            print(f"SKIPPED {name}: {why}")
            continue
        with tempfile.TemporaryDirectory() as scratch:
            try:
                check(program, f"{root}/{name}", scratch)
            except Exception as error:                 # one model's trouble is its own failure
                print(f"{name}: {error}")
                report(name, math.inf, 0)
    print(f"{passed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(int(main((sys.argv[1:] or ["./fusion"])[0])))
