"""Speed beside diffusers on torch: one CFG step of the UNet and one VAE decode at 512x512, two
threads each, in turns, the best of some rounds.  For developers; needs 6 GB and an idle machine.

    python tests/reference.py big DIR
    python tests/peers.py DIR/sd15 [--rounds 3] [--size 512] [--fusion PATH] [--only fusion]

Weights are F16 on disk; torch computes with a float32 copy, fusion with the file.  A ratio is
fusion's time over torch's.  Memory is the largest RssAnon of a fusion run: what the process itself
holds; the mapped weights are the page cache's.  Exit 1 beyond a bound."""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time

import torch

import diffusers
import reference

THREADS, STEPS = 2, 2
BOUNDS = {"step": 0.55, "decode": 0.45, "memory": 700}      # ratios, and MB


class Torch:
    """A step is the UNet on a batch of two, as guidance calls it."""

    def __init__(self, folder, size):
        torch.set_num_threads(THREADS)
        self.pipe = reference.load_pipe(folder, diffusers.StableDiffusionPipeline)
        side = size // self.pipe.vae_scale_factor
        width = self.pipe.unet.config.cross_attention_dim
        self.x = torch.randn(1, 4, side, side, generator=reference.seeded(1))
        self.states = torch.randn(2, 77, width, generator=reference.seeded(2))

    @torch.no_grad()
    def run(self):
        start = time.perf_counter()
        self.pipe.unet(self.x.expand(2, -1, -1, -1), 501, self.states)
        middle = time.perf_counter()
        self.pipe.vae.decode(self.x)
        return {"step": middle - start, "decode": time.perf_counter() - middle}


class Fusion:
    def __init__(self, program, folder, size):
        self.words = [program, "image", "-m", folder, "-p", reference.TEXTS[3], "--seed", "1",
                      "-W", size, "-H", size, "--steps", STEPS, "--sampling-method", "ddim",
                      "-t", THREADS, "--json"]

    def run(self):
        with tempfile.TemporaryDirectory() as folder:
            words = [*map(str, self.words), "-o", os.path.join(folder, "p.png")]
            process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
            memory = AnonymousMemory(process.pid)
            memory.start()
            out, _ = process.communicate()
            memory.join()
        if process.returncode:
            sys.exit(f"{words[0]}: exit {process.returncode}")
        seconds = json.loads(out)["seconds"]
        return {"step": seconds["unet"] / STEPS, "decode": seconds["decode"], "memory": memory.peak}


class AnonymousMemory(threading.Thread):
    """Looks at a process's RssAnon until it ends; peak in MB."""

    def __init__(self, pid):
        super().__init__()
        self.path, self.peak = f"/proc/{pid}/status", 0

    def run(self):
        try:
            while True:
                with open(self.path) as f:
                    found = [line for line in f if line.startswith("RssAnon")]
                if not found:                               # a zombie has none
                    return
                self.peak = max(self.peak, int(found[0].split()[1]) * 1024 / 1e6)
                time.sleep(0.02)
        except (FileNotFoundError, ProcessLookupError):
            pass


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--fusion", default=os.path.join(reference.HERE, "..", "fusion"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--only", choices=["fusion"], help="without torch: times, no ratios")
    options = parser.parse_args()
    peers = {"fusion": Fusion(options.fusion, options.folder, options.size)}
    if not options.only:
        peers["torch"] = Torch(options.folder, options.size)
    best = {name: {} for name in peers}
    for i in range(options.rounds):
        for name, peer in peers.items():
            result = peer.run()
            print(f"round {i + 1} {name:7}", *(f"{key} {v:.2f}" for key, v in result.items()),
                  flush=True)
            keep = {key: max if key == "memory" else min for key in result}
            best[name] = {key: keep[key](v, best[name].get(key, v)) for key, v in result.items()}
    measured = {"memory": best["fusion"]["memory"]}
    if not options.only:
        measured |= {key: best["fusion"][key] / best["torch"][key] for key in ("step", "decode")}
    for key, value in measured.items():
        verdict = "PASS" if value <= BOUNDS[key] else "FAIL"
        unit = "MB" if key == "memory" else "of torch's time"
        print(f"{key:8} {value:8.2f} {unit}, bound {BOUNDS[key]}  {verdict}")
    return any(value > BOUNDS[key] for key, value in measured.items())


if __name__ == "__main__":
    sys.exit(main())
