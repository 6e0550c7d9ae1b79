#!/usr/bin/env python3
"""What diffusers' schedulers do, for tests/test_sampler.c: writes tests/sampler/cases.json.

    python tests/sampler.py          diffusers 0.42, torch on the CPU in float32
    python tests/sampler.py noise    prints the table of torch.randn in tests/test_numbers.c

The schedulers are driven as StableDiffusionPipeline drives them (with a picture: its Img2Img, with
a picture and a mask: its Inpaint relative), over a model that is a formula.  Of every run the file
keeps the initial sigma, the largest value, 12 of the final latents and mostly the timesteps seen.
"""
import inspect
import json
import math
import os
import sys
import warnings

import numpy as np
import torch
import diffusers

warnings.filterwarnings("ignore")
diffusers.utils.logging.set_verbosity_error()
torch.set_grad_enabled(False)

CLASSES = {
    "ddim": diffusers.DDIMScheduler, "ddpm": diffusers.DDPMScheduler,
    "pndm": diffusers.PNDMScheduler, "euler": diffusers.EulerDiscreteScheduler,
    "euler_a": diffusers.EulerAncestralDiscreteScheduler,
    "heun": diffusers.HeunDiscreteScheduler, "lms": diffusers.LMSDiscreteScheduler,
    "dpm++2m": diffusers.DPMSolverMultistepScheduler, "unipc": diffusers.UniPCMultistepScheduler,
    "lcm": diffusers.LCMScheduler, "dpm++2m_sde": diffusers.DPMSolverMultistepScheduler,
    "tcd": diffusers.TCDScheduler,
}
KARRAS = ["euler", "euler_a", "heun", "lms", "dpm++2m", "unipc", "dpm++2m_sde"]
SD1 = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
           num_train_timesteps=1000, steps_offset=1, clip_sample=False, set_alpha_to_one=False,
           skip_prk_steps=True)


def model(x, t):
    """The formula, in float32: test_sampler.c has the same."""
    c = np.float32(0.3 * math.cos(float(t) / 200)).item()
    return x * c + x / (x * x + 1) * np.float32(0.1).item()


def scheduler_of(method, config, karras, schedule):
    if method == "dpm++2m_sde":
        config = dict(config, algorithm_type="sde-dpmsolver++")
    if schedule == "exponential":
        config = dict(config, use_exponential_sigmas=True)
    elif schedule:
        config = dict(config, timestep_spacing=schedule)
    if karras and method != "euler_a":
        config = dict(config, use_karras_sigmas=True)
    return CLASSES[method].from_config(config)


def set_timesteps(scheduler, method, config, karras, steps, lists):
    if lists:
        return scheduler.set_timesteps(**lists)
    scheduler.set_timesteps(steps)
    if karras and method == "euler_a":           # its class has none: the lists of Euler's
        euler = CLASSES["euler"].from_config(dict(config, use_karras_sigmas=True))
        euler.set_timesteps(steps)
        scheduler.timesteps, scheduler.sigmas = euler.timesteps, euler.sigmas


def run(method, config, karras=False, steps=20, eta=0.0, strength=None, mask=False, n=256, seed=7,
        schedule=None, **lists):
    scheduler = scheduler_of(method, config, karras, schedule)
    set_timesteps(scheduler, method, config, karras, steps, lists)
    generator = torch.Generator().manual_seed(seed)
    picture = torch.sin(torch.arange(n, dtype=torch.float32) * np.float32(0.7).item())
    picture = picture[None, None, None]
    keep = (torch.arange(n) % 3 != 0).float()[None, None, None]
    noise = torch.randn((1, 1, 1, n), generator=generator)

    timesteps = scheduler.timesteps
    if strength is None:
        x = noise * scheduler.init_noise_sigma
    else:
        start = max(steps - min(int(steps * strength), steps), 0) * scheduler.order
        timesteps = timesteps[start:]
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(start)
        if mask and strength == 1:
            x = noise * scheduler.init_noise_sigma
        else:
            x = scheduler.add_noise(picture, noise, timesteps[:1])

    extra = {}
    names = inspect.signature(scheduler.step).parameters
    if "eta" in names:
        extra["eta"] = eta
    if "generator" in names:
        extra["generator"] = generator
    for i, t in enumerate(timesteps):
        prediction = model(scheduler.scale_model_input(x, t), t)
        x = scheduler.step(prediction, t, x, return_dict=False, **extra)[0]
        if mask:
            kept = picture
            if i < len(timesteps) - 1:
                kept = scheduler.add_noise(kept, noise, torch.tensor([timesteps[i + 1]]))
            x = (1 - keep) * kept + keep * x

    x = x.flatten().numpy()
    assert np.isfinite(x).all(), (method, config, karras, steps, strength)
    at = [int(i) for i in np.linspace(0, n - 1, 12)]
    case = dict(method=method, steps=steps, n=n, start=short(scheduler.init_noise_sigma),
                largest=short(np.abs(x).max()), want=[short(v) for v in x[at]])
    if strength is None or steps == 7:
        case["seen"] = [short(t) for t in timesteps]
    if karras:
        case["karras"] = True
    if schedule:
        case["schedule"] = schedule
    for name, values in lists.items():
        case[name] = values
    if eta:
        case["eta"] = eta
    if strength is not None:
        case["strength"] = strength
    if mask:
        case["mask"] = True
    return case


def short(v):
    """The fewest digits that give the same float32."""
    v = np.float32(v)
    return int(v) if v == int(v) else float(str(v))


def cases():
    """(name of the configuration, the configuration, arguments of run)"""
    for prediction in ("epsilon", "v_prediction"):
        for spacing in (None, "linspace", "leading", "trailing"):
            config = dict(SD1, prediction_type=prediction)
            if spacing:
                config["timestep_spacing"] = spacing
            name = prediction + " " + (spacing or "as the class")
            for method in CLASSES:
                for karras in (False, True) if method in KARRAS else (False,):
                    if not spacing:
                        for steps in (7, 20):
                            for strength in (0.3, 0.8, 1.0):
                                yield name, config, dict(method=method, karras=karras, steps=steps,
                                                         strength=strength, n=37)
                        for strength in (0.8, 1.0):
                            yield name, config, dict(method=method, karras=karras, steps=7,
                                                     strength=strength, mask=True)
                    elif method not in ("lcm", "tcd") or spacing == "leading":
                        for steps in (1, 2, 7, 20):
                            yield name, config, dict(method=method, karras=karras, steps=steps)
            if spacing:
                for steps in (1, 2, 7, 20):
                    yield name, config, dict(method="ddim", steps=steps, eta=0.7)
            else:
                yield name, config, dict(method="ddim", steps=7, eta=1.0, strength=0.8, n=37)
    yield from odd_cases()


def odd_cases():
    """One setting each that is not Stable Diffusion 1's."""
    def one(method, steps=7, drop=(), karras=False, strength=None, n=37, eta=0.0, schedule=None,
            timesteps=None, sigmas=None, **change):
        config = {k: v for k, v in dict(SD1, **change).items() if k not in drop}
        title = ", ".join([f"{k} {v}" for k, v in change.items()] + [f"no {k}" for k in drop])
        lists = {k: v for k, v in (("timesteps", timesteps), ("sigmas", sigmas)) if v}
        return title, config, dict(method=method, steps=steps, karras=karras, strength=strength,
                                   n=n, eta=eta, schedule=schedule, **lists)

    for method in CLASSES:                                   # the classes' own defaults
        yield one(method, drop=tuple(SD1))
        for schedule in ("linear", "squaredcos_cap_v2"):
            yield one(method, beta_schedule=schedule)
        yield one(method, num_train_timesteps=400, n=9)
        yield one(method, steps=30)
    for steps in (2, 7, 20):
        for strength in (None, 0.8):
            yield one("tcd", steps=steps, eta=0.3, strength=strength)
        yield one("tcd", steps=steps, eta=1.0, prediction_type="v_prediction")
    for method in ("euler", "heun", "lms", "dpm++2m", "unipc", "dpm++2m_sde"):
        for steps in (7, 20):
            yield one(method, steps=steps, schedule="exponential")
    for method in CLASSES:
        for schedule in ("linspace", "leading", "trailing"):
            if method not in ("lcm", "tcd"):
                yield one(method, schedule=schedule)
    falling = [999, 850, 600, 599, 300, 81, 1]
    for method in ("ddpm", "euler", "heun", "dpm++2m", "dpm++2m_sde", "lcm", "tcd"):
        yield one(method, steps=len(falling), timesteps=falling)
    yield one("euler", steps=5, sigmas=[14.6, 7.0, 3.0, 1.0, 0.3, 0.0])
    yield one("euler", steps=3, sigmas=[10.0, 4.0, 0.5, 0.03])
    for method in KARRAS:
        # strength sets the begin index; without it the reference trips over t = 999 twice
        yield one(method, karras=True, beta_schedule="squaredcos_cap_v2", steps=20, strength=1.0)
    for method in ("ddim", "ddpm", "lms", "heun", "euler", "dpm++2m", "unipc", "lcm"):
        yield one(method, prediction_type="sample")
    for method in CLASSES:
        yield one(method, prediction_type="v_prediction", rescale_betas_zero_snr=True,
                  timestep_spacing="trailing")
    for method in ("ddim", "ddpm", "lcm", "heun"):
        yield one(method, clip_sample=True, clip_sample_range=0.5)
    for prediction in ("epsilon", "v_prediction"):
        for steps in (4, 7, 20):
            yield one("pndm", steps=steps, skip_prk_steps=False, prediction_type=prediction)
        yield one("pndm", steps=20, skip_prk_steps=False, prediction_type=prediction, strength=0.8)
        yield one("pndm", steps=20, skip_prk_steps=False, prediction_type=prediction, strength=0.3)
    for spacing in ("linspace", "trailing"):
        yield one("pndm", skip_prk_steps=False, timestep_spacing=spacing)
    for to_one in (True, False):
        yield one("ddim", set_alpha_to_one=to_one, eta=1.0)
        yield one("pndm", set_alpha_to_one=to_one)
    for variance in ("fixed_small_log", "fixed_large"):
        yield one("ddpm", variance_type=variance)
    for karras in (False, True):
        yield one("euler", final_sigmas_type="sigma_min", karras=karras)
        for steps in (7, 20):
            for order in (1, 2, 3):
                yield one("dpm++2m", solver_order=order, steps=steps, karras=karras)
                yield one("unipc", solver_order=order, steps=steps, karras=karras)
                yield one("dpm++2m_sde", solver_order=order, steps=steps, karras=karras)
            yield one("dpm++2m", solver_type="heun", steps=steps, karras=karras)
            yield one("dpm++2m_sde", solver_type="heun", steps=steps, karras=karras)
            for order in (2, 3):
                yield one("unipc", solver_type="bh1", solver_order=order, steps=steps,
                          karras=karras, final_sigmas_type="sigma_min")
            yield one("dpm++2m", final_sigmas_type="sigma_min", steps=steps, karras=karras)
            yield one("unipc", final_sigmas_type="sigma_min", steps=steps, karras=karras)
    yield one("dpm++2m", final_sigmas_type="sigma_min", lower_order_final=False)
    yield one("dpm++2m", final_sigmas_type="sigma_min", lower_order_final=False,
              euler_at_final=True)
    yield one("dpm++2m", solver_order=3, final_sigmas_type="sigma_min", lower_order_final=False)
    yield one("unipc", final_sigmas_type="sigma_min", lower_order_final=False)
    for steps in (14, 15):                       # where dpm++2m stops lowering its order
        yield one("dpm++2m", steps=steps, solver_order=3)
        yield one("dpm++2m", steps=steps, final_sigmas_type="sigma_min")
    yield one("dpm++2m", solver_type="logrho", algorithm_type="deis", final_sigmas_type="sigma_min")
    yield one("dpm++2m", solver_type="bh2")
    yield one("unipc", solver_type="midpoint")
    yield one("lcm", original_inference_steps=20, steps=20, timestep_scaling=3.0)


def write_cases(path):
    configs, runs = {}, []
    for name, config, arguments in cases():
        assert configs.setdefault(name, config) == config, name
        runs.append(dict(config=name, **run(config=config, **arguments)))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        lines = ",\n".join(json.dumps(r, separators=(",", ":")) for r in runs)
        shared = json.dumps(configs, separators=(",", ":"))
        f.write('{"configs": ' + shared + ',\n"cases": [\n' + lines + "\n]}\n")
    print(len(runs), "cases,", os.path.getsize(path), "bytes")


def print_noise():
    """Per seed: FNV-1a of the bits of a series of draws; the first of randn(4) and randn(16)."""
    for seed in (0, 1, 42, 2**32 + 5, 2**64 - 1):
        generator = torch.Generator().manual_seed(seed - 2**64 if seed >= 2**63 else seed)
        total = 0xcbf29ce484222325
        for n in list(range(1, 201)) + [4096, 16384, 5, 17, 3, 16]:
            for word in torch.randn(n, generator=generator).numpy().view(np.uint32):
                total = (total ^ int(word)) * 0x100000001b3 % 2**64
        first = torch.randn(4, generator=torch.Generator().manual_seed(seed % 2**32)).numpy()
        sixteen = torch.randn(16, generator=torch.Generator().manual_seed(seed % 2**32)).numpy()
        print(f"        {{ {seed:#x}u, {total:#018x}u,")
        print("          { " + ", ".join(f"{v:.9g}f" for v in first) + " },")
        print("          { " + ", ".join(f"{v:.9g}f" for v in sixteen[:4]) + " } },")


if __name__ == "__main__":
    if sys.argv[1:] == ["noise"]:
        print_noise()
    else:
        here = os.path.dirname(os.path.abspath(__file__))
        write_cases(os.path.join(here, "sampler", "cases.json"))
