"""The tiny random AudioLDM folder of tests/models and what diffusers says of it.  For developers;
the product and `make test` need neither this file nor Python.

    python tests/audioldm.py [DIR]           tests/models/audioldm
    python tests/audioldm.py big DIR s|m|l   the real configuration with random F16 weights, not
                                             committed: waveform against ./fusion, times as ratios

A folder as the published ones are, in small: four levels of which the first does not attend,
cross_attention_dim by level, time and class embedding side by side, mels that do not halve evenly,
a vocoder whose first stage makes one sample more.  Beside the parts that the pipeline reads
    unet-added          class embedding added to that of the time, heads by level, no middle
    vocoder-g           weight_g and weight_v; three kernels; normalize_before
    vocoder-original    the same weights as parametrizations.weight.original0 and 1
reference.safetensors holds inputs, outputs and inner activations by module path, and whole runs:
RUNS below, in the order of the names run.0, run.1, ...; its metadata hold the texts."""
import os
import sys
import warnings

import numpy as np
import torch
from safetensors.torch import save_file

import diffusers
import transformers
from transformers.audio_utils import mel_filter_bank
from clap import learn_merges, random_weights as clap_weights, wave, write_tokenizer
from reference import (MODELS, SAMPLERS, TEXTS, WITH_KARRAS, on_meta, random_weights, read_json,
                       save_model, seeded, vae_config, watch, write_json)

PROMPT, NEGATIVE = "Un marché animé avec des conversations.", "low quality"
RATE, HOP, MELS, DIM = 8000, 40, 20, 20

# method, schedule, guidance, seconds, steps, strength (0: from noise alone)
RUNS = [("ddim", "discrete", 2.5, 0.1777, 4, 0), ("ddim", "discrete", 1, 0.2951, 4, 0),
        ("pndm", "discrete", 2.5, 0.1777, 6, 0), ("dpm++2m", "discrete", 2.5, 0.17771, 5, 0),
        ("dpm++2m", "karras", 1, 0.0339, 5, 0), ("euler_a", "discrete", 2.5, 0.1777, 4, 0),
        ("ddim", "discrete", 2.5, 0.1777, 8, 0.5), ("euler", "karras", 1, 0.1777, 6, 0.7)]

SCHEDULER = {"_class_name": "DDIMScheduler", "_diffusers_version": "0.15.0.dev0",
             "beta_end": 0.0195, "beta_schedule": "scaled_linear", "beta_start": 0.0015,
             "clip_sample": False, "clip_sample_range": 1.0, "num_train_timesteps": 1000,
             "prediction_type": "epsilon", "set_alpha_to_one": False, "steps_offset": 1,
             "trained_betas": None}

MODEL_INDEX = {
    "_class_name": "AudioLDMPipeline", "_diffusers_version": "0.15.0.dev0",
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "ClapTextModelWithProjection"],
    "tokenizer": ["transformers", "RobertaTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
    "vocoder": ["transformers", "SpeechT5HifiGan"]}


# ---- the folder ----------------------------------------------------------------------------------

def unet_config(channels, heads, concat, **more):
    attending = len(channels) - 1
    return {"_class_name": "UNet2DConditionModel", "_diffusers_version": "0.15.0.dev0",
            "act_fn": "silu", "attention_head_dim": heads, "block_out_channels": channels,
            "center_input_sample": False, "class_embed_type": "simple_projection",
            "class_embeddings_concat": concat, "conv_in_kernel": 3, "conv_out_kernel": 3,
            "cross_attention_dim": channels,
            "down_block_types": ["DownBlock2D"] + ["CrossAttnDownBlock2D"] * attending,
            "downsample_padding": 1, "dual_cross_attention": False, "flip_sin_to_cos": True,
            "freq_shift": 0, "in_channels": 4, "layers_per_block": 1,
            "mid_block_scale_factor": 1, "mid_block_type": "UNetMidBlock2DCrossAttn",
            "norm_eps": 1e-05, "norm_num_groups": 2, "num_class_embeds": None,
            "only_cross_attention": False, "out_channels": 4,
            "projection_class_embeddings_input_dim": DIM, "resnet_time_scale_shift": "default",
            "sample_size": 12, "time_embedding_type": "positional",
            "up_block_types": ["CrossAttnUpBlock2D"] * attending + ["UpBlock2D"],
            "upcast_attention": False, "use_linear_projection": False, **more}


def vocoder_config(width, rates, ups, kernels, dilations, normalize):
    return {"architectures": ["SpeechT5HifiGan"], "initializer_range": 0.01,
            "leaky_relu_slope": 0.1, "model_in_dim": MELS, "model_type": "hifigan",
            "normalize_before": normalize, "resblock_dilation_sizes": dilations,
            "resblock_kernel_sizes": kernels, "sampling_rate": RATE, "torch_dtype": "float32",
            "upsample_initial_channel": width, "upsample_kernel_sizes": ups,
            "upsample_rates": rates}


def text_config(vocabulary):
    return {"architectures": ["ClapTextModelWithProjection"], "model_type": "clap_text_model",
            "vocab_size": vocabulary, "hidden_size": 12, "num_hidden_layers": 2,
            "num_attention_heads": 3, "intermediate_size": 20, "hidden_act": "gelu",
            "max_position_embeddings": 66, "type_vocab_size": 1, "layer_norm_eps": 1e-12,
            "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "projection_dim": DIM,
            "projection_hidden_act": "relu"}


def write_unet(folder, config, seed):
    """Texts must count: a class embedding has length 1, where other inputs have one a value."""
    weights = random_weights(on_meta(diffusers.UNet2DConditionModel.from_config, config), seed)
    weights["class_embedding.weight"] *= DIM ** 0.5
    save_model(folder, "diffusion_pytorch_model", config, {n: w.half() for n, w in weights.items()})


def vocoder_weights(config, seed):
    model = on_meta(transformers.SpeechT5HifiGan, transformers.SpeechT5HifiGanConfig(**config))
    weights = random_weights(model, seed)
    for name in weights:
        if name.endswith("weight"):
            weights[name] *= 1.3
    noise = seeded(seed + 1)
    return weights | {"mean": 0.5 * torch.randn(MELS, generator=noise),
                      "scale": 1.2 + 0.3 * torch.rand(MELS, generator=noise)}


def under_weight_norm(weights, g, v):
    """w as g v / |v|, v of another length than w."""
    out = {}
    for name, w in weights.items():
        if not name.endswith("weight"):
            out[name] = w
            continue
        length = w.flatten(1).norm(dim=1)[:, None, None]
        out[name.replace("weight", g)] = length
        out[name.replace("weight", v)] = 1.7 * w
    return out


def make_folder(folder):
    merges = learn_merges(TEXTS[:8] + [PROMPT, NEGATIVE], 60)
    size = write_tokenizer(f"{folder}/tokenizer", 40, merges)
    text = text_config(size)
    encoder = on_meta(transformers.ClapTextModelWithProjection, transformers.ClapTextConfig(**text))
    save_model(f"{folder}/text_encoder", "model", text,
               {name: w.half() for name, w in clap_weights(encoder, 60).items()})
    write_unet(f"{folder}/unet", unet_config([4, 4, 8, 8], 2, True), 61)
    write_unet(f"{folder}/unet-added", unet_config(
        [4, 8], [2, 4], False, cross_attention_dim=[32, 8], use_linear_projection=True,
        mid_block_type=None), 62)
    vae = vae_config([4, 4, 8], 1, groups=2, sample=64, in_channels=1, out_channels=1,
                     scaling_factor=0.9227)
    weights = random_weights(on_meta(diffusers.AutoencoderKL.from_config, vae), 63)
    save_model(f"{folder}/vae", "diffusion_pytorch_model", vae,
               {name: w.half() for name, w in weights.items()})
    vocoder = vocoder_config(16, [5, 4, 2], [16, 16, 8], [3, 5], [[1, 3], [1, 2, 3]], False)
    save_model(f"{folder}/vocoder", "model", vocoder,
               {name: w.half() for name, w in vocoder_weights(vocoder, 64).items()})
    other = vocoder_config(9, [4, 3], [7, 6], [3, 7, 11], [[1, 5], [3], [2]], True)
    plain = vocoder_weights(other, 66)
    save_model(f"{folder}/vocoder-g", "model", other,
               under_weight_norm(plain, "weight_g", "weight_v"))
    save_model(f"{folder}/vocoder-original", "model", other,
               under_weight_norm(plain, "parametrizations.weight.original0",
                                 "parametrizations.weight.original1"))
    os.makedirs(f"{folder}/scheduler", exist_ok=True)
    write_json(f"{folder}/scheduler/scheduler_config.json", SCHEDULER)
    write_json(f"{folder}/model_index.json", MODEL_INDEX)
    return plain, other


# ---- runs ----------------------------------------------------------------------------------------

def pipe_of(folder, method=None, schedule="discrete"):
    """The samplers' table of reference.py, over this pipeline."""
    pipe = diffusers.AudioLDMPipeline.from_pretrained(folder, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    if method:
        more = {"use_karras_sigmas": schedule == "karras"} if method in WITH_KARRAS else {}
        config = read_json(f"{folder}/scheduler/scheduler_config.json")
        pipe.scheduler = getattr(diffusers, SAMPLERS[method]).from_config(config, **more)
    return pipe


def log_mel(wave, frames):
    """The original's TacotronSTFT, of a sound centred, its peak 0.5, zeros behind it."""
    wave = wave - wave.mean()
    wave = torch.nn.functional.pad(0.5 * wave / wave.abs().max(), (0, frames * HOP))[:frames * HOP]
    size = torch.stft(wave, 1024, HOP, window=torch.hann_window(1024), pad_mode="reflect",
                      return_complex=True).abs()[:, :frames]
    bank = mel_filter_bank(513, MELS, 0, RATE / 2, RATE, norm="slaney", mel_scale="slaney")
    return (torch.from_numpy(bank).float().T @ size).clamp_min(1e-5).log().T[None, None]


@torch.no_grad()
def restyled(pipe, sound, guidance, seconds, steps, strength, seed):
    """Style transfer as StableDiffusionImg2ImgPipeline treats a picture."""
    noise = seeded(seed)
    frames = -(-round(seconds * RATE) // (4 * HOP)) * 4
    moments = pipe.vae.encode(log_mel(sound, frames)).latent_dist
    start = pipe.vae.config.scaling_factor * moments.sample(noise)
    pipe.scheduler.set_timesteps(steps)
    first = max(steps - min(int(steps * strength), steps), 0) * pipe.scheduler.order
    times = pipe.scheduler.timesteps[first:]
    if hasattr(pipe.scheduler, "set_begin_index"):
        pipe.scheduler.set_begin_index(first)
    x = pipe.scheduler.add_noise(start, torch.randn(start.shape, generator=noise), times[:1])
    label = pipe._encode_prompt(PROMPT, "cpu", 1, guidance > 1, NEGATIVE)
    for t in times:
        twice = torch.cat([x] * (2 if guidance > 1 else 1))
        twice = pipe.scheduler.scale_model_input(twice, t)
        e = pipe.unet(twice, t, None, class_labels=label).sample
        if guidance > 1:
            e = e[:1] + guidance * (e[1:] - e[:1])
        x = pipe.scheduler.step(e, t, x).prev_sample
    return pipe.mel_spectrogram_to_waveform(pipe.decode_latents(x))


def run(folder, sound, method, schedule, guidance, seconds, steps, strength):
    pipe = pipe_of(folder, method, schedule)
    if strength:
        return restyled(pipe, sound, guidance, seconds, steps, strength, 7)
    return pipe(PROMPT, audio_length_in_s=seconds, num_inference_steps=steps,
                guidance_scale=guidance, negative_prompt=NEGATIVE, generator=seeded(7),
                output_type="pt").audios


# ---- what the reference says, beside the model ---------------------------------------------------

INNER = """unet.time_embedding unet.class_embedding unet.conv_in unet.down_blocks.0
    unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2 unet.down_blocks.1
    unet.down_blocks.2 unet.down_blocks.3 unet.mid_block unet.up_blocks.0 unet.up_blocks.1
    unet.up_blocks.2 unet.up_blocks.3 unet vae.encoder.down_blocks.0 vae.encoder.mid_block
    vae.encoder vae.quant_conv vae.post_quant_conv vae.decoder.mid_block vae.decoder.up_blocks.0
    vae.decoder vocoder.conv_pre vocoder.upsampler.0""".split()


@torch.no_grad()
def write_reference(folder, plain, other):
    pipe, seen = pipe_of(folder), {}
    added = diffusers.UNet2DConditionModel.from_pretrained(f"{folder}/unet-added")
    normed = transformers.SpeechT5HifiGan(transformers.SpeechT5HifiGanConfig(**other)).eval()
    normed.load_state_dict(plain)
    for prefix, part in ("unet.", pipe.unet), ("vae.", pipe.vae), ("vocoder.", pipe.vocoder):
        watch(part, prefix, seen.__setitem__)
    inputs = {"sample": torch.randn(2, 4, 9, 5, generator=seeded(1)),
              "sample15": torch.randn(1, 4, 15, 5, generator=seeded(2)),
              "class": torch.nn.functional.normalize(torch.randn(2, DIM, generator=seeded(3))),
              "timestep": torch.tensor([481.0]),
              "latents": 1.5 * torch.randn(1, 4, 9, 5, generator=seeded(4)),
              "mel": torch.randn(1, 36, MELS, generator=seeded(5)),
              "sound": torch.from_numpy(wave(1111, 6, RATE))}
    t, label = inputs["timestep"], inputs["class"]
    out = {"unet15": pipe.unet(inputs["sample15"], t, None, class_labels=label[:1]).sample,
           "unet-added": added(inputs["sample"], t, None, class_labels=label).sample,
           "vocoder-g": normed(inputs["mel"])}
    pipe.unet(inputs["sample"], t, None, class_labels=label, return_dict=False)
    pipe.vae.encode(inputs["mel"][:, None])
    pipe.vae.decode(inputs["latents"])
    out["vocoder"] = pipe.vocoder(inputs["mel"])
    seen["unet.time_embedding"] = seen["unet.time_embedding"][:1]
    assert len(pipe.tokenizer(NEGATIVE).input_ids) <= DIM     # where the reference would cut it
    out |= {f"run.{i}": run(folder, inputs["sound"], *how) for i, how in enumerate(RUNS)}
    spread = {name: t.std().item() for name, t in (seen | out).items()}
    low, high = min(spread, key=spread.get), max(spread, key=spread.get)
    print(f"deviations {spread[low]:.2f} ({low}) to {spread[high]:.2f} ({high})")
    assert 0.05 < spread[low] and spread[high] < 20
    loud = max((t.abs() > 0.99).float().mean().item() for n, t in out.items() if n[:3] == "run")
    print(f"samples near full scale: at most {loud:.2f}")
    assert loud < 0.2
    save_file({name: t.float().contiguous() for name, t in
               (inputs | out | {name: seen[name] for name in INNER}).items()},
              f"{folder}/reference.safetensors", {"prompt": PROMPT, "negative": NEGATIVE})


# ---- the real sizes ------------------------------------------------------------------------------

def make_big(folder, size):
    """The published configurations of audioldm-s, -m and -l, as diffusers converts them."""
    global MELS, RATE, DIM
    MELS, RATE, DIM = 64, 16000, 512
    first = {"s": 128, "m": 192, "l": 256}[size]
    merges = learn_merges(TEXTS[:8] + [PROMPT, NEGATIVE], 60)
    vocabulary = write_tokenizer(f"{folder}/tokenizer", 512, merges)
    text = text_config(vocabulary) | {
        "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
        "intermediate_size": 3072, "max_position_embeddings": 514}
    encoder = on_meta(transformers.ClapTextModelWithProjection, transformers.ClapTextConfig(**text))
    save_model(f"{folder}/text_encoder", "model", text,
               {name: w.half() for name, w in clap_weights(encoder, 60).items()})
    write_unet(f"{folder}/unet", unet_config(
        [first, 2 * first, 3 * first, 5 * first], 8, True, norm_num_groups=32, in_channels=8,
        out_channels=8, layers_per_block=2, sample_size=64), 61)
    vae = vae_config([128, 256, 512], 2, groups=32, sample=512, in_channels=1, out_channels=1,
                     scaling_factor=0.9227, latent_channels=8)
    weights = random_weights(on_meta(diffusers.AutoencoderKL.from_config, vae), 63)
    save_model(f"{folder}/vae", "diffusion_pytorch_model", vae,
               {name: w.half() for name, w in weights.items()})
    vocoder = vocoder_config(1024, [5, 4, 2, 2, 2], [16, 16, 8, 4, 4], [3, 7, 11],
                             [[1, 3, 5]] * 3, False)
    save_model(f"{folder}/vocoder", "model", vocoder,
               {name: w.half() for name, w in vocoder_weights(vocoder, 64).items()})
    os.makedirs(f"{folder}/scheduler", exist_ok=True)
    write_json(f"{folder}/scheduler/scheduler_config.json", SCHEDULER)
    write_json(f"{folder}/model_index.json", MODEL_INDEX)


def big(folder, size):
    """One sound of 10.24 s by both, two threads each: SNR, and the best of three times of a guided
    step and of the vocoder."""
    import json
    import subprocess
    import time
    if not os.path.exists(f"{folder}/model_index.json"):
        make_big(folder, size)
    torch.set_num_threads(2)
    pipe = pipe_of(folder)
    frames, steps = 1024, 2
    noise = torch.randn(1, 8, frames // 4, 16, generator=seeded(5))
    save_file({"latents": noise}, f"{folder}/latents.safetensors")
    spent = {}

    def timed(name, module):
        run = module.forward

        def forward(*args, **kwargs):
            start = time.time()
            out = run(*args, **kwargs)
            spent[name] = min(spent.get(name, 1e9), time.time() - start)
            return out
        module.forward = forward

    timed("unet", pipe.unet)
    timed("vocoder", pipe.vocoder)
    command = ["./fusion", "audio", "-m", folder, "-p", PROMPT, "-n", NEGATIVE, "--seconds",
               "10.24", "--steps", str(steps), "--latents", f"{folder}/latents.safetensors",
               "--float", "--seed", "1", "-t", "2", "--json", "-o", f"{folder}/x.wav"]
    ours = {}
    for _ in range(3):
        want = pipe(PROMPT, negative_prompt=NEGATIVE, audio_length_in_s=10.24, latents=noise,
                    num_inference_steps=steps, guidance_scale=2.5).audios[0]
        said = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        for name, value in said["seconds"].items():
            value /= steps if name == "unet" else 1
            ours[name] = min(ours.get(name, 1e9), value)
    from scipy.io import wavfile
    got = wavfile.read(f"{folder}/x.wav")[1]
    print(f"samples {len(got)} and {len(want)}, SNR "
          f"{10 * np.log10((want ** 2).sum() / ((want - got) ** 2).sum()):.1f} dB")
    for name, value in spent.items():
        print(f"{name}: {ours[name]:.2f} s, torch {value:.2f}, ratio {ours[name] / value:.2f}")


def main():
    if sys.argv[1:2] == ["big"]:
        warnings.simplefilter("ignore")
        return big(f"{sys.argv[2]}/audioldm-{sys.argv[3]}", sys.argv[3])
    folder = (sys.argv[1] if sys.argv[1:] else MODELS) + "/audioldm"
    warnings.simplefilter("ignore")
    plain, other = make_folder(folder)
    write_reference(folder, plain, other)
    print(sum(os.path.getsize(f"{at}/{name}") for at, _, names in os.walk(folder)
              for name in names), "bytes")


if __name__ == "__main__":
    main()
