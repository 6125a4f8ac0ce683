"""Networks to train: with new random weights, or as copies of loaded ones.

The weights of a loaded network want no gradient and may be the file itself, mapped into memory, so
a copy is trained instead. All randomness comes from the `torch.Generator` given; the global one is
left alone.
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
from ...models.ltx_vae import LTXVAE
from ...models.wan_vae import WanVAE
from ...models.wav2vec2 import AudioEncoder

Network = TypeVar("Network", Generator, AudioEncoder, LTXVAE, WanVAE)
AnyModule = TypeVar("AnyModule", bound=nn.Module)


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
    """A copy as `trainable` makes it, but for inference: no weight wants a gradient."""
    return trainable(network, device, dtype).eval().requires_grad_(False)


def new_generator(config: GeneratorConfig, rng: torch.Generator) -> Generator:
    """Xavier-uniform projections, modulations of 1 / sqrt(dim), a head that starts at zero: the
    first velocity is 0 whatever the input."""
    generator = build(lambda: Generator(config)).to_empty(device="cpu")
    fill_weights(generator, rng)
    parameters = dict(generator.named_parameters())
    for name, parameter in parameters.items():
        if name.endswith(".modulation"):
            parameter.data.normal_(std=config.dim**-0.5, generator=rng)
    for layer in (0, 2):
        parameters[f"time_embedding.{layer}.weight"].data.normal_(std=0.02, generator=rng)
    parameters["head.head.weight"].data.zero_()
    return generator.train().requires_grad_(True)


def new_audio_encoder(config: AudioEncoderConfig, rng: torch.Generator) -> AudioEncoder:
    """Kaiming-normal convolutions, Xavier-uniform projections."""
    encoder = build(lambda: AudioEncoder(config)).to_empty(device="cpu")
    fill_weights(encoder, rng)
    for name, parameter in encoder.feature_extractor.named_parameters():
        if name.endswith(".conv.weight"):
            nn.init.kaiming_normal_(parameter, nonlinearity="relu", generator=rng)
    return encoder.train().requires_grad_(True)


def fill_weights(network: nn.Module, rng: torch.Generator) -> None:
    """Fill in place: biases 0, norms 1, everything else Xavier-uniform."""
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            parameter.data.zero_()
        elif parameter.ndim == 1:  # a norm's
            parameter.data.fill_(1)
        else:
            flat = parameter.data.view(parameter.shape[0], -1)
            nn.init.xavier_uniform_(flat, generator=rng)


def new_readout(make: Callable[[], AnyModule], rng: torch.Generator) -> AnyModule:
    """A small auxiliary network with weights from `rng`, on the CPU."""
    network = build(make).to_empty(device="cpu")
    fill_weights(network, rng)
    return network.train().requires_grad_(True)
