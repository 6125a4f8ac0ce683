"""Networks to train: with fresh weights, or as copies of loaded ones.

Loaded networks are for inference: their weights want no gradient and may be a file's own mapped
bytes. All randomness comes from the generator given; the global one is left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import torch
from torch import nn

from ...models.backend import build
from ...models.config import AudioEncoderConfig, GeneratorConfig
from ...models.generator import Generator
from ...models.wav2vec2 import AudioEncoder

Network = TypeVar("Network", bound=nn.Module)


def trainable(
    network: Network,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Network:
    """A copy with memory of its own that computes in `dtype` on `device` and wants gradients."""
    device = torch.device(device)
    backend = replace(network.backend, device=device, dtype=dtype)
    clone = build(lambda: type(network)(network.config, backend))
    state = {k: v.detach().to(device, dtype, copy=True) for k, v in network.state_dict().items()}
    clone.load_state_dict(state, assign=True)
    return clone.to(device).train().requires_grad_(True)


def frozen(
    network: Network,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Network:
    """The same, for inference: no weight wants a gradient."""
    return trainable(network, device, dtype).eval().requires_grad_(False)


def new_generator(config: GeneratorConfig, rng: torch.Generator) -> Generator:
    """Xavier-uniform projections, modulations of 1 / sqrt(dim), a head that starts at zero: the
    first velocity is 0 whatever the input."""
    generator = build(lambda: Generator(config)).to_empty(device="cpu")
    fill_weights(generator, rng)
    for block in generator.blocks:
        block.modulation.data.normal_(std=config.dim**-0.5, generator=rng)
    generator.head.modulation.data.normal_(std=config.dim**-0.5, generator=rng)
    for layer in (generator.time_embedding[0], generator.time_embedding[2]):
        layer.weight.data.normal_(std=0.02, generator=rng)
    generator.head.head.weight.data.zero_()
    return generator.train().requires_grad_(True)


def new_audio_encoder(config: AudioEncoderConfig, rng: torch.Generator) -> AudioEncoder:
    """Kaiming-normal convolutions, Xavier-uniform projections."""
    encoder = build(lambda: AudioEncoder(config)).to_empty(device="cpu")
    fill_weights(encoder, rng)
    for layer in encoder.feature_extractor.conv_layers:
        nn.init.kaiming_normal_(layer.conv.weight, nonlinearity="relu", generator=rng)
    return encoder.train().requires_grad_(True)


def fill_weights(network: nn.Module, rng: torch.Generator) -> None:
    """Zeros into biases, ones into norms, Xavier-uniform numbers into the rest."""
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            parameter.data.zero_()
        elif parameter.ndim == 1:  # a norm's
            parameter.data.fill_(1)
        else:
            flat = parameter.data.view(parameter.shape[0], -1)
            nn.init.xavier_uniform_(flat, generator=rng)


def new_readout(make: Callable[[], Network], rng: torch.Generator) -> Network:
    """A small auxiliary network with weights from `rng`, on the CPU."""
    network = build(make).to_empty(device="cpu")
    fill_weights(network, rng)
    return network.train().requires_grad_(True)
