"""Speed beside PyTorch, ONNX Runtime and OpenVINO: the same parts of the same models, float32, two threads each, in
turns, the best of some rounds.  For developers; needs 16 GB and an idle machine.

    python tests/reference.py big DIR; python tests/audioldm.py big DIR s
    pip install openvino onnx onnxruntime           what is not there is left out
    python tests/bench_peers.py DIR [--part NAME ...] [--rounds 3] [--bf16] [--isa avx2] [--without NAME ...]

Weights are F16 or F32 on disk; peers compute with a float32 copy made before the clock starts, fusion reads the file
in its turn.  A ratio is fusion's time over the peer's; --bf16 adds OpenVINO at that precision, which is another
result.  fusion's times are those of `fusion bench -m`.  The part `memory` is the largest RssAnon of a run of 512x512,
which is what the process itself holds: mapped weights are the page cache's."""
import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings

import numpy as np
import torch

import audioldm
import reference
from reference import seeded

THREADS = 2


class Call(torch.nn.Module):
    """A module whose forward is a function of tensors alone."""

    def __init__(self, module, forward):
        super().__init__()
        self.module, self.call = module, forward

    def forward(self, *inputs):
        return self.call(self.module, *inputs)


def unet_step(folder):
    from diffusers import UNet2DConditionModel
    unet = UNet2DConditionModel.from_pretrained(f"{folder}/sd15/unet", torch_dtype=torch.float32)
    x, states = torch.randn(2, 4, 64, 64, generator=seeded(1)), torch.randn(2, 77, 768, generator=seeded(2))
    return Call(unet, lambda u, x, s: u(x, 501, s, return_dict=False)[0]), (x, states)


def decode(folder):
    from diffusers import AutoencoderKL
    vae = AutoencoderKL.from_pretrained(f"{folder}/sd15/vae", torch_dtype=torch.float32)
    return Call(vae, lambda v, z: v.decode(z, return_dict=False)[0]), (torch.randn(1, 4, 64, 64, generator=seeded(1)),)


def clip_picture(name):
    def make(folder):
        clip = reference.Clip(f"{folder}/{name}")
        return Call(clip.model, lambda c, x: c.get_image_features(x).pooler_output), \
            (torch.randn(1, 3, 224, 224, generator=seeded(1)),)
    return make


def audio_step(folder):
    pipe = audioldm.pipe_of(f"{folder}/audioldm-s")
    x, label = torch.randn(2, 8, 256, 16, generator=seeded(1)), torch.randn(2, 512, generator=seeded(2))
    return Call(pipe.unet, lambda u, x, c: u(x, 501, None, class_labels=c, return_dict=False)[0]), (x, label)


def vocoder(folder):
    pipe = audioldm.pipe_of(f"{folder}/audioldm-s")
    return Call(pipe.vocoder, lambda v, mel: v(mel)), (torch.randn(1, 1024, 64, generator=seeded(1)),)


# part: how the reference is made; the folder, and the line of `fusion bench -m` that measures the same
PARTS = {
    "step": (unet_step, "sd15", "sd unet, a guided step"),
    "decode": (decode, "sd15", "sd vae decoder"),
    "clip-b32": (clip_picture("clip-b32"), "clip-b32", "clip picture"),
    "clip-l14": (clip_picture("clip-l14"), "clip-l14", "clip picture"),
    "audio-step": (audio_step, "audioldm-s", "audioldm unet, a guided step"),
    "vocoder": (vocoder, "audioldm-s", "audioldm vocoder, 10.24 s"),
}


def fusion(part):
    _, model, name = PARTS[part]

    def run():
        words = [options.fusion, "bench", "-m", f"{options.folder}/{model}", "-t", str(THREADS), "--json"]
        done = subprocess.run(words + (["--isa", options.isa] if options.isa else []), capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"fusion: {done.stderr}")
        lines = map(json.loads, filter(None, done.stdout.splitlines()))
        return next(line["seconds"] for line in lines if line.get("name") == name)
    return run


def memory():
    """MB, at default and with --scratch."""
    with tempfile.TemporaryDirectory() as folder:
        for more in [], ["--scratch", f"{folder}/scratch"]:
            process = subprocess.Popen([options.fusion, "image", "-m", f"{options.folder}/sd15", "-p", "a cat", "--seed", "1",
                                        "--steps", "1", "-W", "512", "-H", "512", "-q", "-o", f"{folder}/x.png", *more])
            peak = 0
            while process.poll() is None:
                with open(f"/proc/{process.pid}/status") as f:
                    peak = max([peak] + [int(line.split()[1]) for line in f if line.startswith("RssAnon")])
                time.sleep(0.02)
            print(f"memory      {peak * 1024 / 1e6:.0f} MB {' '.join(more[:1])}", flush=True)


def timed(call):
    def run():
        start = time.perf_counter()
        call()
        return time.perf_counter() - start
    return run


def by_torch(module, inputs):
    torch.set_num_threads(THREADS)
    return timed(lambda: module(*inputs))


def by_openvino(module, inputs, precision):
    import openvino
    compiled = openvino.compile_model(openvino.convert_model(module, example_input=inputs), "CPU", {
        "INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": THREADS, "NUM_STREAMS": 1})
    request, given = compiled.create_infer_request(), [np.asarray(x) for x in inputs]
    return timed(lambda: request.infer(given))


def by_onnxruntime(module, inputs):
    import onnxruntime
    with tempfile.TemporaryDirectory() as folder:
        torch.onnx.export(module, inputs, f"{folder}/x.onnx", dynamo=False, opset_version=17)
        how = onnxruntime.SessionOptions()
        how.intra_op_num_threads = THREADS
        session = onnxruntime.InferenceSession(f"{folder}/x.onnx", how, ["CPUExecutionProvider"])
    given = dict(zip((i.name for i in session.get_inputs()), (np.asarray(x) for x in inputs)))
    return timed(lambda: session.run(None, given))


@torch.no_grad()
def measure(part):
    module, inputs = PARTS[part][0](options.folder)
    module.eval()
    peers = {"fusion": fusion(part), "torch": by_torch(module, inputs)}
    for name, make in (("openvino", lambda: by_openvino(module, inputs, "f32")),
                       ("openvino bf16", lambda: by_openvino(module, inputs, "bf16") if options.bf16 else None),
                       ("onnxruntime", lambda: by_onnxruntime(module, inputs))):
        if name.split()[0] in options.without or not importlib.util.find_spec(name.split()[0]):
            continue
        try:
            peers[name] = make()
        except Exception as error:                             # a peer that cannot is left out, and said
            print(f"{part}: {name} left out: {str(error).splitlines()[0][:100]}", flush=True)
    times = {name: [] for name, run in peers.items() if run}
    for _ in range(options.rounds):
        for name in times:
            times[name].append(peers[name]())
    best = {name: min(seconds) for name, seconds in times.items()}
    print(f"{part:11}", f"fusion {best['fusion']:.3f} s", *(
        f"  {name} {seconds:.3f} s, ratio {best['fusion'] / seconds:.2f}"
        for name, seconds in best.items() if name != "fusion"), flush=True)


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder")
    p.add_argument("--part", nargs="*", default=[*PARTS, "memory"],
                   choices=[*PARTS, "memory"])
    p.add_argument("--fusion", default=os.path.join(reference.HERE, "..", "fusion"))
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--bf16", action="store_true")
    p.add_argument("--without", nargs="*", default=[])
    p.add_argument("--isa", default="")
    options = p.parse_args()
    warnings.simplefilter("ignore")
    for name in options.part:
        memory() if name == "memory" else measure(name)
