"""The diffusion transformer against a second, naive one in float64, on random checkpoints."""

import math
from itertools import product

import pytest
import torch

from flashhead.checkpoint.components import open_generator

CONFIGS = {
    "lite": dict(
        dim=24, ffn_dim=40, num_heads=2, num_layers=2, freq_dim=16, in_dim=8, out_dim=4,
        patch_size=[1, 1, 1], vae_stride=[8, 32, 32], audio_width=6, audio_hidden=10,
        audio_tokens=3,
    ),
    "pro": dict(
        dim=48, ffn_dim=56, num_heads=3, num_layers=3, freq_dim=10, in_dim=6, out_dim=3,
        patch_size=[1, 2, 2], vae_stride=[4, 8, 8], audio_width=4, audio_hidden=7,
        audio_tokens=5,
    ),
    "odd": dict(
        dim=20, ffn_dim=12, num_heads=1, num_layers=1, freq_dim=8, in_dim=10, out_dim=5,
        patch_size=[1, 2, 1], vae_stride=[2, 16, 16], audio_width=2, audio_hidden=9,
        audio_tokens=1,
    ),
}  # fmt: skip


def normalise(x):
    return (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-6).sqrt()


def layer_norm(w, name, x, eps=1e-6):
    variance = x.var(-1, correction=0, keepdim=True)
    return (x - x.mean(-1, keepdim=True)) / (variance + eps).sqrt() * w[f"{name}.weight"] + w[
        f"{name}.bias"
    ]


def rms_norm(w, name, x):
    return x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * w[f"{name}.weight"]


def linear(w, name, x):
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def silu(x):
    return x / (1 + torch.exp(-x))


def turn(x, positions):
    """Rotate one head's tokens (L, head_dim) as complex numbers."""
    pairs = x.shape[1] // 2
    third = pairs // 3
    out = torch.empty(len(x), pairs, dtype=torch.complex128)
    for token, position in enumerate(positions):
        pair = 0
        for coordinate, count in zip(position, (pairs - 2 * third, third, third), strict=True):
            for n in range(count):
                number = complex(x[token, 2 * pair], x[token, 2 * pair + 1])
                angle = coordinate * 10_000 ** (-n / count)
                out[token, pair] = number * complex(math.cos(angle), math.sin(angle))
                pair += 1
    return torch.view_as_real(out).flatten(1)


def attend(q, k, v, heads, positions=None):
    outputs = []
    for q1, k1, v1 in zip(*(x.chunk(heads, dim=1) for x in (q, k, v)), strict=True):
        if positions is not None:
            q1, k1 = turn(q1, positions), turn(k1, positions)
        outputs.append(torch.softmax(q1 @ k1.T / math.sqrt(q1.shape[1]), dim=1) @ v1)
    return torch.cat(outputs, dim=1)


def audio_tokens(w, c, audio):
    """(frames, 5, layers, channels) -> a list of (tokens, dim), one for each latent frame."""
    stride = c["vae_stride"][0]
    hidden = [linear(w, "audio_proj.proj1", audio[0].flatten())]
    for start in range(1, len(audio), stride):
        group = audio[start : start + stride]
        rows = [*group[0][:3], *(frame[2] for frame in group[1:-1]), *group[-1][2:]]
        hidden.append(linear(w, "audio_proj.proj1_vf", torch.cat([r.flatten() for r in rows])))
    tokens = []
    for h in hidden:
        h = linear(w, "audio_proj.proj2", h.clamp_min(0)).clamp_min(0)
        flat = linear(w, "audio_proj.proj3", h).view(c["audio_tokens"], c["dim"])
        tokens.append(layer_norm(w, "audio_proj.norm", flat, eps=1e-5))
    return tokens


def velocity(w, c, x, t, audio, y):
    """DESIGN §1.2 to the letter, for one sample."""
    pt, ph, pw = c["patch_size"]
    z = torch.cat([x, y])
    grid = (z.shape[1] // pt, z.shape[2] // ph, z.shape[3] // pw)
    positions = list(product(*(range(n) for n in grid)))
    patch_weight = w["patch_embedding.weight"].flatten(1)
    tokens = torch.stack(
        [
            patch_weight
            @ z[:, i * pt : (i + 1) * pt, j * ph : (j + 1) * ph, k * pw : (k + 1) * pw].flatten()
            + w["patch_embedding.bias"]
            for i, j, k in positions
        ]
    )
    half = c["freq_dim"] // 2
    angles = [t * 10_000 ** (-i / half) for i in range(half)]
    sinusoid = [*map(math.cos, angles), *map(math.sin, angles)]
    sinusoid = torch.tensor(sinusoid, dtype=torch.float64)
    e = linear(w, "time_embedding.2", silu(linear(w, "time_embedding.0", sinusoid)))
    modulation = linear(w, "time_projection.1", silu(e)).view(6, -1)
    context = audio_tokens(w, c, audio)
    for block in (f"blocks.{n}" for n in range(c["num_layers"])):
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation + w[f"{block}.modulation"][0]

        def qkv(name, queries, context, block=block):
            at = f"{block}.{name}"
            return (
                rms_norm(w, f"{at}.norm_q", linear(w, f"{at}.q", queries)),
                rms_norm(w, f"{at}.norm_k", linear(w, f"{at}.k", context)),
                linear(w, f"{at}.v", context),
            )

        h = normalise(tokens) * (1 + scale1) + shift1
        out = attend(*qkv("self_attn", h, h), c["num_heads"], positions)
        tokens = tokens + linear(w, f"{block}.self_attn.o", out) * gate1
        h = layer_norm(w, f"{block}.norm3", tokens)
        out = torch.cat(
            [
                attend(*qkv("cross_attn", h[n : n + 1], context[position[0]]), c["num_heads"])
                for n, position in enumerate(positions)
            ]
        )
        tokens = tokens + linear(w, f"{block}.cross_attn.o", out)
        h = linear(w, f"{block}.ffn.0", normalise(tokens) * (1 + scale2) + shift2)
        h = 0.5 * h * (1 + torch.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))
        tokens = tokens + linear(w, f"{block}.ffn.2", h) * gate2
    shift, scale = w["head.modulation"][0] + e
    patches = linear(w, "head.head", normalise(tokens) * (1 + scale) + shift)
    out = torch.empty(c["out_dim"], *z.shape[1:], dtype=torch.float64)
    for (i, j, k), patch in zip(positions, patches, strict=True):
        out[:, i * pt : (i + 1) * pt, j * ph : (j + 1) * ph, k * pw : (k + 1) * pw] = patch.view(
            pt, ph, pw, -1
        ).movedim(-1, 0)
    return out


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_a_naive_float64_model(name, seed, tmp_path, write_generator, deviation):
    config = CONFIGS[name]
    weights = write_generator(tmp_path, seed=seed, **config)
    generator = open_generator(tmp_path).load()
    rng = torch.Generator().manual_seed(seed)
    frames, (_, ph, pw) = 3 + seed, config["patch_size"]
    x, y = torch.randn(2, 2, config["out_dim"], frames, 2 * ph, 3 * pw, generator=rng)
    y = torch.cat([y] * 2, 1)[:, : config["in_dim"] - config["out_dim"]]
    count = 1 + (frames - 1) * config["vae_stride"][0]
    audio = torch.randn(2, count, 5, 1, config["audio_width"], generator=rng)
    timestep = torch.tensor([937.5, 12.25])
    actual = generator(x, timestep, audio, y)
    weights = {key: tensor.double() for key, tensor in weights.items()}
    for n in range(2):
        expected = velocity(
            weights, config, x[n].double(), timestep[n].item(), audio[n].double(), y[n].double()
        )
        assert deviation(actual[n], expected) < 1e-5
