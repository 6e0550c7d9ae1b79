"""layouts.py PROGRAM DIR - the models that tests/test_original.c writes, read by the references.

    LAYOUTS=DIR build/test_original write_layouts && python tests/layouts.py ./fusion DIR

Checks, for developers: what diffusers' own converters make of the checkpoints are the tensors of
tests/models; open_clip gives the embeddings that PROGRAM gives, with pictures of odd sizes;
checkpoints of the published sizes (files full of holes, of 2 GB each, next to DIR's) are bound to
the last tensor by the configs that PROGRAM makes of their shapes.  Needs torch, diffusers,
transformers, open_clip, safetensors."""
import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy
import open_clip
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders import single_file_utils as reference
from PIL import Image
from safetensors.torch import load_file
from transformers import CLIPTextConfig, CLIPTextModel

program, made = sys.argv[1], Path(sys.argv[2])
models = Path('tests/models')


def same(name, got, want):
    lacks = [k for k in want if k not in got and not k.endswith('position_ids')]
    other = [k for k in want if k in got and not torch.equal(got[k].reshape(want[k].shape), want[k])]
    print(f'{name}: {len(want)} tensors, {len(lacks)} missing, {len(other)} differ')
    assert not lacks and not other, (lacks[:3], other[:3])


def weights(folder):
    return load_file(next(folder.glob('*.safetensors')))


OLD = {'query': 'to_q', 'key': 'to_k', 'value': 'to_v', 'proj_attn': 'to_out.0'}


def modern(name):
    for old, new in OLD.items():
        name = name.replace(f'attentions.0.{old}.', f'attentions.0.{new}.')
    return name


def converted(model):
    checkpoint = load_file(made / model / 'model.safetensors')
    unet, vae = (json.loads((models / model / part / 'config.json').read_text()) for part in ('unet', 'vae'))
    same(model + ' unet', reference.convert_ldm_unet_checkpoint(dict(checkpoint), unet), weights(models / model / 'unet'))
    same(model + ' vae', reference.convert_ldm_vae_checkpoint(dict(checkpoint), vae),
         {modern(k): v for k, v in weights(models / model / 'vae').items()})
    want = {k.removeprefix('text_model.'): v for k, v in weights(models / model / 'text_encoder').items()}
    if model == 'sd1':
        got = reference.convert_ldm_clip_checkpoint(dict(checkpoint))
    else:
        config = CLIPTextConfig.from_pretrained(models / model / 'text_encoder')
        got = reference.convert_open_clip_checkpoint(CLIPTextModel(config), dict(checkpoint))
    same(model + ' text', {k.removeprefix('text_model.'): v for k, v in got.items()}, want)


def embedded(folder, ids, pictures):
    config = json.loads((folder / 'open_clip_config.json').read_text())
    model = open_clip.CLIP(**config['model_cfg']).eval()
    stored = load_file(folder / 'open_clip_model.safetensors')
    model.load_state_dict({k: v.float() for k, v in stored.items()}, strict=True)
    given = config['preprocess_cfg']
    prepare = open_clip.image_transform(
        model.visual.image_size, is_train=False, mean=given.get('mean'), std=given.get('std'),
        interpolation=given.get('interpolation'), resize_mode=given.get('resize_mode'))
    with torch.no_grad():
        text = model.encode_text(ids)
        seen = model.encode_image(torch.stack([prepare(Image.open(p)) for p in pictures]))
    return text.numpy(), seen.numpy()


def run(*words):
    return subprocess.run([program, *map(str, words)], check=True, capture_output=True, text=True).stdout


def compared(name):
    folder = made / name
    pictures = []
    for w, h in ((40, 71), (71, 40), (33, 98), (97, 32), (32, 35), (64, 64)):
        noise = numpy.random.default_rng(w).integers(0, 256, (h, w, 3), dtype=numpy.uint8)
        pictures.append(made / f'{name}-{w}x{h}.png')
        Image.fromarray(noise).save(pictures[-1])
    text = 'x y z'
    ids = torch.zeros(1, 77, dtype=torch.long)
    found = [int(i) for i in run('tokenize', '-m', folder, '-p', text).split()]
    ids[0, :len(found)] = torch.tensor(found)
    want = numpy.concatenate(embedded(folder, ids, pictures))
    run('embed', '-m', folder, '-p', text, *pictures, '-o', made / 'vectors.safetensors', '-q')
    got = load_file(made / 'vectors.safetensors')
    got = numpy.concatenate([got['text_embeds'].numpy(), got['image_embeds'].numpy()])
    error = abs(got - want).max() / abs(want).max()
    print(f'{name}: {len(want)} embeddings, largest error {error:.1e} of the largest value')
    assert error < 1e-5


RESNET = {'norm1': 'in_layers.0', 'conv1': 'in_layers.2', 'time_emb_proj': 'emb_layers.1', 'norm2': 'out_layers.0',
          'conv2': 'out_layers.3', 'conv_shortcut': 'skip_connection'}
UNET = {'time_embedding.linear_1': 'time_embed.0', 'time_embedding.linear_2': 'time_embed.2',
        'conv_in': 'input_blocks.0.0', 'conv_norm_out': 'out.0', 'conv_out': 'out.2'}


def unet_name(name):
    """Two resnets a level, as in the published models."""
    way, *rest = name.split('.')
    if way in ('conv_in', 'conv_norm_out', 'conv_out', 'time_embedding'):
        for ours, theirs in UNET.items():
            name = name.replace(ours, theirs)
        return name
    if way == 'mid_block':
        kind, n, *rest = rest
        block = f'middle_block.{2 * int(n) if kind == "resnets" else 1}'
    else:
        level, kind, n, *rest = rest
        level, n = int(level), int(n)
        if kind == 'downsamplers':
            return f'input_blocks.{3 * level + 3}.0.op.{rest[1]}'
        if kind == 'upsamplers':
            return f'output_blocks.{3 * level + 2}.{2 if level else 1}.conv.{rest[1]}'
        number = 1 + 3 * level + n if way == 'down_blocks' else 3 * level + n
        block = f'{"in" if way == "down_blocks" else "out"}put_blocks.{number}.{int(kind == "attentions")}'
    return '.'.join([block, RESNET.get(rest[0], rest[0]) if kind == 'resnets' else rest[0], *rest[1:]])


VAE = [('conv_norm_out', 'norm_out'), ('conv_shortcut', 'nin_shortcut'), ('mid_block.resnets.0', 'mid.block_1'),
       ('mid_block.resnets.1', 'mid.block_2'), ('mid_block.attentions.0', 'mid.attn_1'), ('group_norm', 'norm'),
       ('to_q', 'q'), ('to_k', 'k'), ('to_v', 'v'), ('to_out.0', 'proj_out'), ('downsamplers.0', 'downsample'),
       ('upsamplers.0', 'upsample'), ('resnets', 'block'), ('down_blocks', 'down')]


def vae_name(name):
    for ours, theirs in VAE:
        name = name.replace(ours, theirs)
    for level in range(4):
        if f'up_blocks.{level}.' in name:
            return name.replace(f'up_blocks.{level}.', f'up.{3 - level}.')
    return name


def published(sd):
    with torch.device('meta'):
        unet = UNet2DConditionModel(
            sample_size=64, cross_attention_dim=768 if sd == 1 else 1024, use_linear_projection=sd == 2,
            attention_head_dim=8 if sd == 1 else [5, 10, 20, 20])
        vae = AutoencoderKL(
            down_block_types=['DownEncoderBlock2D'] * 4, up_block_types=['UpDecoderBlock2D'] * 4,
            block_out_channels=[128, 256, 512, 512], layers_per_block=2, latent_channels=4)
        text = CLIPTextModel(CLIPTextConfig())
        if sd == 2:
            text = open_clip.CLIP(1024, dict(layers=1, width=64), dict(width=1024, heads=16, layers=24))
    shapes = {'model.diffusion_model.' + unet_name(k): v.shape for k, v in unet.state_dict().items()}
    for k, v in vae.state_dict().items():
        attention = 'mid_block.attentions' in k and v.dim() == 2
        shapes['first_stage_model.' + vae_name(k)] = [*v.shape, 1, 1] if attention else v.shape
    for k, v in text.state_dict().items():
        if sd == 1:
            shapes['cond_stage_model.transformer.text_model.' + k.removeprefix('text_model.')] = v.shape
        elif not k.startswith('visual.'):
            shapes['cond_stage_model.model.' + k] = v.shape
    shapes |= {'betas': [1000], 'alphas_cumprod': [1000], 'model_ema.decay': []}
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 2 * int(numpy.prod(shape))
        header[name] = dict(dtype='F16', shape=list(shape), data_offsets=[end, end + size])
        end += size
    text = json.dumps(header).encode()
    path = made / f'published{sd}.safetensors'
    with open(path, 'wb') as f:
        f.write(struct.pack('<Q', len(text)) + text)
        f.truncate(8 + len(text) + end)
    told = run('inspect', path)
    path.unlink()
    parts = [line for line in told.splitlines() if line.endswith('missing') or line.startswith('rest')]
    print(*parts, sep='\n')
    assert '686 tensors\t686 bound' in parts[1] and '248 tensors\t248 bound' in parts[2], parts
    assert all('\t0 unknown' in p for p in parts), parts
    assert ('196 tensors\t196 bound' if sd == 1 else '\t280 bound') in parts[0], parts


converted('sd1')
converted('sd2')
compared('clip')
compared('clip-gelu')
published(1)
published(2)
