"""Numbers from PyTorch for tests/test_ops.c: every operation of tensor.h on small odd shapes.

    python tests/ops.py            writes tests/ops.safetensors (float32, CPU); developers only
"""
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

torch.manual_seed(0)
out = {}


def put(name, **tensors):
    for key, value in tensors.items():
        out[f"{name}.{key}"] = value.detach().float().contiguous()


def nhwc(x):
    return x.permute(0, 2, 3, 1)


x, w, b, r = torch.randn(2, 7, 37), torch.randn(29, 37) / 6, torch.randn(29), torch.randn(2, 7, 29)
put("linear", x=x, w=w, b=b, r=r, y=F.linear(x, w, b), plus=r + F.linear(x, w, b),
    silu=F.silu(F.linear(x, w, b)), gelu=F.gelu(F.linear(x, w, b)),
    gelu_tanh=F.gelu(F.linear(x, w, b), approximate="tanh"),
    quick_gelu=F.linear(x, w, b) * torch.sigmoid(1.702 * F.linear(x, w, b)))

x, w, b = torch.randn(1, 5, 24), torch.randn(2 * 19, 24) / 5, torch.randn(2 * 19)
a, g = F.linear(x, w, b).chunk(2, dim=-1)
put("geglu", x=x, w=w, b=b, y=a * F.gelu(g))

for name, i, o, k, h, wide, stride, pads in [
    ("conv_winograd", 16, 32, 3, 11, 6, 1, (1, 1, 1, 1)), ("conv_direct", 5, 7, 3, 9, 8, 1, (1, 1, 1, 1)),
    ("conv_down", 6, 4, 3, 9, 7, 2, (1, 1, 1, 1)), ("conv_down_vae", 6, 4, 3, 8, 6, 2, (0, 1, 0, 1)),
    ("conv_small", 16, 16, 3, 3, 9, 1, (1, 1, 1, 1)),
]:
    x, w, b = torch.randn(2, i, h, wide), torch.randn(o, i, k, k) / (3 * i ** 0.5), torch.randn(o)
    y = F.conv2d(F.pad(x, pads), w, b, stride=stride)
    put(name, x=nhwc(x), w=w, b=b, y=nhwc(y))

for name, c, h, wide, to_h, to_w in [("up_winograd", 16, 5, 4, 10, 8), ("up_odd", 16, 3, 5, 5, 9), ("up_direct", 3, 2, 3, 4, 6)]:
    x, w, b = torch.randn(1, c, h, wide), torch.randn(c, c, 3, 3) / (3 * c ** 0.5), torch.randn(c)
    y = F.conv2d(F.interpolate(x, size=(to_h, to_w), mode="nearest"), w, b, padding=1)
    put(name, x=nhwc(x), w=w, b=b, y=nhwc(y))

for name, n, m, heads, d, causal in [("attention", 19, 23, 2, 10, False), ("attention_causal", 37, 37, 3, 7, True),
                                     ("attention_long", 3, 700, 1, 5, False)]:
    q, k, v = torch.randn(2, n, heads * d), torch.randn(2, m, heads * d) * 2, torch.randn(2, m, heads * d)
    split = lambda t: t.view(2, -1, heads, d).transpose(1, 2)
    y = F.scaled_dot_product_attention(split(q), split(k), split(v), is_causal=causal)
    put(name, q=q, k=k, v=v, y=y.transpose(1, 2).reshape(2, n, heads * d))

x, w, b = torch.randn(2, 12, 7, 5) * 3 + 10, torch.randn(12), torch.randn(12)
put("group_norm", x=nhwc(x), w=w, b=b, y=nhwc(F.group_norm(x, 4, w, b, 1e-5)),
    silu=nhwc(F.silu(F.group_norm(x, 4, w, b, 1e-5))))
x, w, b = torch.randn(3, 5, 21) * 2 - 4, torch.randn(21), torch.randn(21)
put("layer_norm", x=x, w=w, b=b, y=F.layer_norm(x, (21,), w, b, 1e-5))
x, w = torch.randn(1, 3, 12, 8), torch.randn(6, 3, 4, 4)
put("patches", x=nhwc(x), w=w, y=F.conv2d(x, w, stride=4).flatten(2).transpose(1, 2))

x, w, b = torch.randn(2, 6, 21), torch.randn(9, 6, 5) / 5, torch.randn(9)
put("conv1d", x=x.transpose(1, 2), w=w, b=b, y=F.conv1d(x, w, b, padding=6, dilation=3).transpose(1, 2))
for name, k, stride, pad in [("transposed", 16, 5, 5), ("transposed_short", 3, 4, 0), ("transposed_odd", 8, 3, 2)]:
    x, w, b = torch.randn(2, 7, 11), torch.randn(7, 18, k) / 5, torch.randn(18)
    put(name, x=x.transpose(1, 2), w=w, b=b,
        y=F.conv_transpose1d(x, w, b, stride=stride, padding=pad).transpose(1, 2))
q, k, v = torch.randn(4, 9, 6), torch.randn(4, 9, 6), torch.randn(4, 9, 6)
bias, mask = torch.randn(2, 9, 9), (torch.randn(2, 9, 9) > 0.5).float() * -100
split = lambda t: t.view(4, -1, 2, 3).transpose(1, 2)
both = bias[None] + mask[[0, 1, 0, 1]][:, None]
put("attention_biased", q=q, k=k, v=v, bias=bias, mask=mask,
    y=F.scaled_dot_product_attention(split(q), split(k), split(v), attn_mask=both).transpose(1, 2).reshape(4, 9, 6))
x = torch.linspace(-9, 9, 41).view(1, 1, 41)
put("act", x=x, tanh=torch.tanh(x), relu=F.relu(x), leaky=F.leaky_relu(x, 0.1))

save_file(out, "tests/ops.safetensors")
