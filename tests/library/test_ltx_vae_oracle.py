"""The LTX VAE against a second one in float64, on random checkpoints of other sizes."""

import json
from collections import defaultdict

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from flashhead.checkpoint.components import open_vae

CONFIGS = {
    "wide": dict(block_out_channels=[6, 6, 10, 12], layers_per_block=[1, 2, 1, 2, 1]),
    "narrow": dict(block_out_channels=[2, 4, 8, 8], layers_per_block=[2, 1, 1, 1, 3]),
}
CHANNELS = 5


class Weights(defaultdict):
    """Draws a convolution's or norm's parameters when they are first asked for."""

    def __init__(self, seed):
        super().__init__()
        self.rng = torch.Generator().manual_seed(seed)

    def draw(self, name, *shape):
        if name not in self:
            fan_in = torch.Size(shape[1:]).numel()
            self[name] = torch.randn(shape, generator=self.rng) * fan_in**-0.5
        return self[name].double()


def conv(w, name, x, out, *, causal, kernel=3, stride=1):
    weight = w.draw(f"{name}.conv.weight", out, x.shape[1], kernel, kernel, kernel)
    bias = w.draw(f"{name}.conv.bias", out)
    front = kernel - 1 if causal else kernel // 2
    back = kernel - 1 - front
    frames = [x[:, :, :1]] * front + [x] + [x[:, :, -1:]] * back
    half = kernel // 2
    return functional.conv3d(torch.cat(frames, 2), weight, bias, stride, (0, half, half))


def activate(x):
    return functional.silu(x / (x.pow(2).mean(1, keepdim=True) + 1e-8).sqrt())


def resnet(w, name, x, out, causal):
    h = conv(w, f"{name}.conv1", activate(x), out, causal=causal)
    h = conv(w, f"{name}.conv2", activate(h), out, causal=causal)
    if x.shape[1] != out:
        scale, shift = (w.draw(f"{name}.norm3.{p}", x.shape[1]) for p in ("weight", "bias"))
        mean, variance = x.mean(1, keepdim=True), x.var(1, correction=0, keepdim=True)
        x = (x - mean) / (variance + 1e-6).sqrt()
        x = x * scale.view(1, -1, 1, 1, 1) + shift.view(1, -1, 1, 1, 1)
        x = conv(w, f"{name}.conv_shortcut", x, out, causal=causal, kernel=1)
    return x + h


def resnets(w, name, x, count, causal):
    for n in range(count):
        x = resnet(w, f"{name}.resnets.{n}", x, x.shape[1], causal)
    return x


def statistics(w):
    mean = w.draw("latents_mean", CHANNELS)
    if "latents_std" not in w:
        w["latents_std"] = torch.linspace(0.5, 2, CHANNELS)
    return mean.view(1, -1, 1, 1, 1), w["latents_std"].double().view(1, -1, 1, 1, 1)


def encode(w, c, video):
    b, _, t, height, width = video.shape
    x = video.view(b, 3, t, height // 4, 4, width // 4, 4)
    x = x.permute(0, 1, 6, 4, 2, 3, 5).reshape(b, 48, t, height // 4, width // 4)
    widths, layers = c["block_out_channels"], c["layers_per_block"]
    x = conv(w, "encoder.conv_in", x, widths[0], causal=True)
    for n, wider in enumerate([*widths[1:], widths[-1]]):
        block = f"encoder.down_blocks.{n}"
        x = resnets(w, block, x, layers[n], True)
        if n < 3:
            x = conv(w, f"{block}.downsamplers.0", x, x.shape[1], causal=True, stride=2)
        if wider != x.shape[1]:
            x = resnet(w, f"{block}.conv_out", x, wider, True)
    x = resnets(w, "encoder.mid_block", x, layers[-1], True)
    x = conv(w, "encoder.conv_out", activate(x), CHANNELS + 1, causal=True)
    mean, std = statistics(w)
    return (x[:, :CHANNELS] - mean) / std


def decode(w, c, latents):
    mean, std = statistics(w)
    widths, layers = c["block_out_channels"][::-1], c["layers_per_block"][::-1]
    x = conv(w, "decoder.conv_in", latents * std + mean, widths[0], causal=False)
    x = resnets(w, "decoder.mid_block", x, layers[0], False)
    for n, narrower in enumerate(widths):
        block = f"decoder.up_blocks.{n}"
        if narrower != x.shape[1]:
            x = resnet(w, f"{block}.conv_in", x, narrower, False)
        if n > 0:
            x = conv(w, f"{block}.upsamplers.0.conv", x, 8 * narrower, causal=False)
            b, _, t, height, width = x.shape
            x = x.view(b, narrower, 2, 2, 2, t, height, width).permute(0, 1, 5, 2, 6, 3, 7, 4)
            x = x.reshape(b, narrower, 2 * t, 2 * height, 2 * width)[:, :, 1:]
        x = resnets(w, block, x, layers[n + 1], False)
    x = conv(w, "decoder.conv_out", activate(x), 48, causal=False)
    b, _, t, height, width = x.shape
    x = x.view(b, 3, 4, 4, t, height, width).permute(0, 1, 4, 5, 3, 6, 2)
    return x.reshape(b, 3, t, 4 * height, 4 * width)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("shape", [(1, 32, 64), (17, 64, 32)])
@torch.no_grad()
def test_equals_a_naive_float64_vae(name, shape, tmp_path, deviation):
    config, weights = CONFIGS[name], Weights(seed=shape[0])
    rng = torch.Generator().manual_seed(0)
    video = torch.rand(2, 3, *shape, generator=rng) * 2 - 1
    latents = encode(weights, config, video.double())
    decoded = decode(weights, config, latents)
    save_file(dict(weights), tmp_path / "diffusion_pytorch_model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"latent_channels": CHANNELS, **config}))
    vae = open_vae(tmp_path).load(dtype=torch.float32)
    assert deviation(vae.encode(video), latents) < 3e-5
    assert decoded.shape == video.shape
    assert deviation(vae.decode(latents.float()), decoded) < 3e-5
