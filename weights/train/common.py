"""What the training scripts of the small world share.

Every script works in one folder, $WORLD (or --work DIR), with a subfolder for each part that it
trains: WORLD/clip, WORLD/vae, ...  There it keeps
    state.pt     weights, averaged weights, optimiser, step: the same command goes on from there
    export/      the averaged weights as transformers or diffusers save them, F32

Training is a loop over steps.  The batch of step s is drawn by generator(seed, s), so that a run
that was stopped goes on as if it had not been, and two runs of the same length agree.  The rate
rises over the first steps and is flat; --decay N lets it fall to nothing over N more steps from
where the run stands, and ends.

    python common.py pictures 40000 [--first 0]    render pictures to WORLD/pictures.npy
    python common.py held-out 1000                 pictures of held-out scenes, WORLD/held_out.npy
Two processes may share the first (--share 0/2 and --share 1/2)."""
import argparse
import json
import math
import os
import sys
import time

import numpy as np

SIZE = 128                     # of a picture


def work(*parts):
    """A path in the working folder; its folder is made."""
    path = os.path.join(os.environ.get("WORLD", "train"), *parts)
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    return path


def generator(*seed):
    return np.random.default_rng(list(seed))


def arguments(about, **defaults):
    """The words common to all training scripts.  defaults: steps, batch, rate, and more of one's
    own, each an option of that name."""
    p = argparse.ArgumentParser(description=about.split("\n")[0])
    p.add_argument("--work", help="the working folder, else $WORLD, else ./train")
    p.add_argument("--minutes", type=float, default=1e9, help="stop after so long, to go on later")
    p.add_argument("--decay", type=int, default=0, help="from here, let the rate fall over N steps")
    p.add_argument("--device", default="cpu")
    p.add_argument("--threads", type=int, default=1)
    for name, value in defaults.items():
        p.add_argument("--" + name, type=type(value), default=value)
    args = p.parse_args()
    if args.work:
        os.environ["WORLD"] = args.work
    import torch
    torch.set_num_threads(args.threads)
    return args


class Training:
    """The loop's bookkeeping: rate, average, checkpoint, progress line.

        run = Training("vae", model, args)
        for step in run.steps():
            run.learn(loss, "psnr 31.2")
        run.average               the model with averaged weights

    The average follows the weights with 1 - 1/(1 + step/10), at most keep."""

    def __init__(self, name, model, args, keep=0.999, weight_decay=0.01, export=None, warm=200,
                 every=120, muon=False):
        import copy
        import torch
        self.name, self.model, self.args, self.keep = name, model, args, keep
        self.export, self.warm, self.every = export, warm, every
        self.average = copy.deepcopy(model).eval().requires_grad_(False)
        self.optimisers = optimisers(model, args.rate, weight_decay, muon)
        self.step, self.fall_from, self.loss = 0, None, None
        self.path = work(name, "state.pt")
        if os.path.exists(self.path):
            state = torch.load(self.path, map_location=args.device)
            self.model.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            for optimiser, saved in zip(self.optimisers, state.get("optimisers", [])):
                sizes = [[len(g["params"]) for g in groups]
                         for groups in (optimiser.param_groups, saved["param_groups"])]
                if sizes[0] == sizes[1]:         # else other parts learn now: begin its memory anew
                    optimiser.load_state_dict(saved)
            self.step, self.fall_from = state["step"], state["fall_from"]
        if not args.decay or self.fall_from is None:
            self.fall_from = self.step if args.decay else None
        if args.decay:
            self.keep = min(keep, 0.99)          # falling, the weights average themselves
        self.end = self.fall_from + args.decay if args.decay else args.steps

    def rate(self):
        up = min(1.0, (self.step + 1) / self.warm)
        down = 1.0
        if self.args.decay:
            down = (self.end - self.step) / (self.end - self.fall_from)
        return self.args.rate * up * max(down, 0.0)

    def steps(self):
        import torch
        start = saved = shown = time.time()
        first = self.step
        self.note = ""
        while self.step < self.end and time.time() - start < 60 * self.args.minutes:
            torch.manual_seed(self.step)
            for optimiser in self.optimisers:
                for group in optimiser.param_groups:
                    group["lr"] = self.rate()
            yield self.step
            self.step += 1
            now = time.time()
            if now - shown > 10:
                left = (self.end - self.step) * (now - start) / (self.step - first)
                left = min(left, 60 * self.args.minutes - (now - start))
                print(f"{self.name}: step {self.step}/{self.end} loss {self.loss:.4f} {self.note} "
                      f"{(self.step - first) * self.args.batch / (now - start):.0f}/s "
                      f"left {left / 60:.1f} min", flush=True)
                shown = now
            if now - saved > self.every:
                self.save()
                saved = time.time()
        self.save()

    def learn(self, loss, note=""):
        import torch
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
        keep = min(self.keep, 1 - 1 / (1 + self.step / 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()),
                                 1 - keep)
        value = float(loss.detach())
        self.loss = value if self.loss is None else self.loss + 0.03 * (value - self.loss)
        self.note = note

    def save(self):
        import torch
        state = {"model": self.model.state_dict(), "average": self.average.state_dict(),
                 "optimisers": [o.state_dict() for o in self.optimisers], "step": self.step,
                 "fall_from": self.fall_from}
        torch.save(state, self.path + ".new")
        os.replace(self.path + ".new", self.path)
        if self.export:
            self.export(self.average, work(self.name, "export"))


# ---- optimisers --------------------------------------------------------------------------------

def optimisers(model, rate, weight_decay, muon):
    """AdamW, biases and norms without decay.  With muon, the weights of inner layers learn by Muon
    (Jordan 2024) instead: a step whose singular values are all about one."""
    import torch
    learnt = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    ends = ("conv_in.weight", "conv_out.weight", "embedding.weight")
    inner = [p for n, p in learnt if muon and p.dim() > 1 and not n.endswith(ends)]
    taken = set(map(id, inner))
    wide = [p for _, p in learnt if p.dim() > 1 and id(p) not in taken]
    plain = [p for _, p in learnt if p.dim() <= 1]
    adam = torch.optim.AdamW([{"params": wide, "weight_decay": weight_decay},
                              {"params": plain, "weight_decay": 0.0}], lr=rate, betas=(0.9, 0.98))
    return [adam, muon_of(inner, rate, weight_decay)] if muon else [adam]


def muon_of(parameters, rate, weight_decay, momentum=0.95):
    import torch

    def orthogonal(g):
        """Newton and Schulz's iteration on the matrix x = [out, rest]: U V^T of its U S V^T, nearly.
        Every step multiplies x by a polynomial of x x^T, so the steps run on that small square."""
        x = g.flatten(1)
        tall = x.shape[0] > x.shape[1]
        x = x.T if tall else x
        x = x / (x.norm() + 1e-7)
        square, one = x @ x.T, torch.eye(len(x), device=x.device)
        whole = one
        for _ in range(5):
            factor = 3.4445 * one - 4.7750 * square + 2.0315 * square @ square
            whole, square = factor @ whole, factor @ square @ factor
        x = whole @ x
        return (x.T if tall else x).reshape(g.shape)

    class Muon(torch.optim.Optimizer):
        @torch.no_grad()
        def step(self):
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is None:
                        continue
                    mean = self.state[p].setdefault("mean", torch.zeros_like(p.grad))
                    mean.lerp_(p.grad, 1 - momentum)
                    step = orthogonal(p.grad.lerp(mean, momentum))
                    size = 0.2 * max(p.flatten(1).shape) ** 0.5      # as long as AdamW's steps
                    p.mul_(1 - group["lr"] * weight_decay).add_(step, alpha=-group["lr"] * size)

    return Muon(parameters, {"lr": rate})


# ---- pictures, rendered once -------------------------------------------------------------------

def render(kind, count, first=0, share=(0, 1)):
    """count scenes, painted, to WORLD/KIND.npy and KIND.jsonl: number i is drawn by its own
    generator, whatever the share."""
    import painter
    import world
    path = work(kind + ".npy")
    if not os.path.exists(path):
        np.lib.format.open_memmap(path, "w+", np.uint8, (count, SIZE, SIZE, 3)).flush()
    pictures = np.lib.format.open_memmap(path, "r+")
    held_out = kind == "held_out"
    start = time.time()
    mine = range(first + share[0], first + count, share[1])
    with open(work(f"{kind}.{share[0]}.jsonl"), "w", encoding="utf-8") as f:
        for n, i in enumerate(mine):
            rng = generator(7 + held_out, i)
            scene = world.sample(rng, held_out)
            pictures[i] = painter.paint(scene, rng, SIZE)
            f.write(json.dumps([i, scene], ensure_ascii=False) + "\n")
            if n % 1000 == 999:
                each = (time.time() - start) / (n + 1)
                print(f"{kind}: {n + 1}/{len(mine)} {1000 * each:.1f} ms each, "
                      f"left {each * (len(mine) - n) / 60:.1f} min", flush=True)


def pictures(kind="pictures"):
    """(uint8 [n,128,128,3], list of scenes) as rendered."""
    import glob
    rows = []
    for path in sorted(glob.glob(work(f"{kind}.*.jsonl"))):
        with open(path, encoding="utf-8") as f:
            rows += [json.loads(line) for line in f]
    rows.sort(key=lambda row: row[0])
    return np.load(work(kind + ".npy"), mmap_mode="r"), [scene for _, scene in rows]


def sheet(rows, path, titles=None):
    """A contact sheet: rows of uint8 pictures [h,w,3], each row one line, to a PNG."""
    from PIL import Image
    lines = [np.concatenate([np.pad(p, ((2, 2), (2, 2), (0, 0)), constant_values=255)
                             for p in row], 1) for row in rows]
    Image.fromarray(np.concatenate(lines, 0)).save(path)


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("what", choices=["pictures", "held-out"])
    p.add_argument("count", type=int)
    p.add_argument("--first", type=int, default=0)
    p.add_argument("--share", default="0/1")
    a = p.parse_args()
    render(a.what.replace("-", "_"), a.count, a.first, tuple(map(int, a.share.split("/"))))
