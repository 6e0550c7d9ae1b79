"""Adapters of the tiny model sd1, and what diffusers makes with them.  For developers (needs peft
beside tests/requirements.txt); the product and `make test` need neither this file nor Python.

    python tests/adapters.py         writes tests/models/adapters

    lora-kohya, lora-diffusers      one LoRA of attention, feed-forward and text encoder under the
                                    names of kohya's scripts (with alpha) and of diffusers
    lora-conv                       kohya's, of 3x3 and 1x1 convolutions
    lora-processor                  diffusers' older names, under .processor, bare
    cat-toy                         a new word of two vectors, as A1111 stores it
    word                            the same vectors under "<cat-toy>", as diffusers does
    latents-NAME                    final latents [1,C,h,w] of the runs in RUNS"""
import os

import torch
from safetensors.torch import load_file, save_file

import diffusers
from reference import MODELS, load_pipe, seeded

FOLDER, PROMPT = f"{MODELS}/adapters", "a photo of a cat"
# name: prompt, LoRA files with weights
RUNS = {"plain": (PROMPT, {}), "lora": (PROMPT, {"lora-kohya": 0.7}),
        "conv": (PROMPT, {"lora-conv": 1.0}),
        "both": (PROMPT, {"lora-kohya": 0.5, "lora-conv": -0.6}),
        "word": ("a photo of <cat-toy>, red", {})}


def modules(pipe):
    """path -> weight of what the LoRAs change; a kind of convolution, of linear layer, of text."""
    linear, conv = {}, {}
    for name, module in pipe.unet.named_modules():
        if any(part in name for part in ("attn1.to_q", "attn2.to_v", "attn1.to_out.0", "ff.net.0.proj")):
            linear[f"unet.{name}"] = module.weight
        if name.endswith(("resnets.0.conv1", "proj_in")):
            conv[f"unet.{name}"] = module.weight
    for name, module in pipe.text_encoder.named_modules():
        if name.endswith(("q_proj", "fc1")):
            name = name if name.startswith("text_model.") else f"text_model.{name}"
            linear[f"text_encoder.{name}"] = module.weight
    return linear, conv


def halves(weights, rank, seed):
    """down and up with changes about as large as the weights."""
    noise, out = seeded(seed), {}
    for name, w in weights.items():
        down = torch.randn(rank, *w.shape[1:], generator=noise)
        up = torch.randn(w.shape[0], rank, *[1] * (w.dim() - 2), generator=noise)
        out[name] = (down * 0.3, up * 0.5 * w.std().item())
    return out


def kohya(parts, alpha):
    out = {}
    for name, (down, up) in parts.items():
        name = name.replace("text_encoder.", "lora_te_").replace("unet.", "lora_unet_")
        key = name.replace(".", "_")
        out |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up,
                f"{key}.alpha": torch.tensor(alpha)}
    return out


def peft(parts, scale):
    out = {}
    for name, (down, up) in parts.items():
        out |= {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up * scale}
    return out


def processor(parts, scale):
    out = {}
    for name, (down, up) in parts.items():
        if ".attn" not in name:
            continue
        name = name.removeprefix("unet.").replace("to_out.0", "to_out")
        name = name.replace(".to_", ".processor.to_")
        out |= {f"{name}_lora.down.weight": down, f"{name}_lora.up.weight": up * scale}
    return out


def merged(pipe, parts, scale):
    """W + scale up down, into the pipe."""
    for name, (down, up) in parts.items():
        part, path = name.split(".", 1)
        model = pipe.unet if part == "unet" else pipe.text_encoder
        if part != "unet" and not hasattr(model, "text_model"):
            path = path.removeprefix("text_model.")
        weight = model.get_submodule(path).weight
        weight.data += scale * (up.flatten(1) @ down.flatten(1)).view_as(weight)


def latents(pipe, prompt):
    return pipe(prompt, negative_prompt="dark", num_inference_steps=4, guidance_scale=5,
                width=64, height=64, generator=seeded(7), output_type="latent").images


@torch.no_grad()
def main():
    folder = f"{MODELS}/sd1"
    new = lambda: load_pipe(folder, diffusers.StableDiffusionPipeline, "ddim")
    linear, conv = modules(new())
    # alpha, then alpha / rank
    files = {"lora-kohya": (halves(linear, 3, 1), 2.0, 2 / 3), "lora-conv": (halves(conv, 2, 2), 1.0, 0.5)}
    vectors = 0.5 * torch.randn(2, 32, generator=seeded(3))
    os.makedirs(FOLDER, exist_ok=True)
    for name, (parts, alpha, _) in files.items():
        save_file({n: t.half() if t.dim() else t for n, t in kohya(parts, alpha).items()},
                  f"{FOLDER}/{name}.safetensors")
    parts = {n: (d.half().float(), u.half().float()) for n, (d, u) in files["lora-kohya"][0].items()}
    save_file(peft(parts, 2 / 3), f"{FOLDER}/lora-diffusers.safetensors")
    save_file(processor(parts, 2 / 3), f"{FOLDER}/lora-processor.safetensors")
    save_file({"emb_params": vectors}, f"{FOLDER}/cat-toy.safetensors")
    save_file({"<cat-toy>": vectors}, f"{FOLDER}/word.safetensors")
    out = {}
    for name, (prompt, loras) in RUNS.items():
        pipe = new()
        for lora, weight in loras.items():
            rounded = {n: (d.half().float(), u.half().float()) for n, (d, u) in files[lora][0].items()}
            merged(pipe, rounded, weight * files[lora][2])
        if "<" in prompt:
            pipe.load_textual_inversion(f"{FOLDER}/word.safetensors", token="<cat-toy>")
        out[f"latents.{name}"] = latents(pipe, prompt)
    # diffusers 0.42 finds no text model in transformers 5: only the UNet's half can be held to it
    pipe, ours = new(), new()
    unet = {n: p for n, p in load_file(f"{FOLDER}/lora-kohya.safetensors").items() if "_unet_" in n}
    pipe.load_lora_weights(unet, adapter_name="x")
    pipe.set_adapters(["x"], [0.7])
    merged(ours, {n: p for n, p in parts.items() if n.startswith("unet")}, 0.7 * 2 / 3)
    theirs, ours = latents(pipe, PROMPT), latents(ours, PROMPT)
    print("kohya's names through peft and merged by hand: off by",
          f"{(theirs - ours).abs().max() / theirs.abs().max():.1e}")
    for name, t in out.items():
        print(name, "off from plain by", f"{(t - out['latents.plain']).abs().max().item():.2f}")
    for name, t in out.items():
        save_file({"latents": t.contiguous()}, f"{FOLDER}/{name.replace('.', '-')}.safetensors")


if __name__ == "__main__":
    main()
