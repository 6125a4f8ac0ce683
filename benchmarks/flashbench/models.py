"""Bundles of random weights, made on the device: any size, no files."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from flashhead import Bundle
from flashhead.checkpoint.components import channels_last
from flashhead.models.backend import Backend, build
from flashhead.models.config import WanVAEConfig
from flashhead.models.generator import Generator
from flashhead.models.ltx_vae import LTXVAE
from flashhead.models.wan_vae import WanVAE
from flashhead.models.wav2vec2 import AudioEncoder
from flashhead.testing import (
    MINIATURE,
    MINIATURE_PRO,
    PUBLISHED_LITE,
    PUBLISHED_PRO,
    CheckpointConfigs,
)

VARIANTS = ("lite", "pro")
_SIZES = {
    ("lite", False): PUBLISHED_LITE,
    ("lite", True): MINIATURE,
    ("pro", False): PUBLISHED_PRO,
    ("pro", True): MINIATURE_PRO,
}


def sizes_of(
    variant: str, *, reduced: bool = False, layers: int | None = None
) -> CheckpointConfigs:
    """The published sizes of a variant (DESIGN §1.2, §1.4).

    `reduced` is the miniature's instead; `layers` is another depth of the generator.
    """
    sizes = _SIZES[variant, reduced]
    if layers is not None:
        sizes = replace(sizes, generator=replace(sizes.generator, num_layers=layers))
    return sizes


def _fill(network: nn.Module, device: torch.device, dtype: torch.dtype, seed: int) -> None:
    """Give a network of the meta device weights that keep activations near unit size: norms 1,
    biases 0, the rest normal with variance 1 / fan-in."""
    rng = torch.Generator(device).manual_seed(seed)
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            filled = torch.empty(parameter.shape, device=device, dtype=dtype)
            if name == "bias":
                filled.zero_()
            elif name == "gamma" or parameter.ndim == 1:
                filled.fill_(1)
            else:
                fan_in = parameter[0].numel() if parameter.shape[0] > 1 else parameter.shape[-1]
                filled.normal_(std=fan_in**-0.5, generator=rng)
            setattr(module, name, nn.Parameter(filled, requires_grad=False))
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_meta:
                value = float(name == "latents_std")
                buffer = torch.full(buffer.shape, value, device=device, dtype=torch.float32)
            setattr(module, name, buffer.to(device))


def _build(
    variant: str, sizes: CheckpointConfigs, device: torch.device, dtype: torch.dtype
) -> Bundle:
    """The networks, their weights on the meta device."""
    make_vae = WanVAE if isinstance(sizes.vae, WanVAEConfig) else LTXVAE
    backend = Backend(dtype=dtype, device=device)
    float32 = replace(backend, dtype=torch.float32)
    return Bundle(
        variant=variant,
        generator=build(lambda: Generator(sizes.generator, backend)),
        vae=build(lambda: make_vae(sizes.vae, backend)),
        audio_encoder=build(lambda: AudioEncoder(sizes.audio_encoder, float32)),
    )


def abstract_bundle(variant: str, sizes: CheckpointConfigs) -> Bundle:
    """Networks without weights, to count their work by shapes alone."""
    return _build(variant, sizes, torch.device("meta"), torch.float32)


def random_bundle(
    variant: str, sizes: CheckpointConfigs, device: torch.device, dtype: torch.dtype, seed: int = 0
) -> Bundle:
    """Networks of random weights; the audio encoder's are float32 whatever the dtype."""
    bundle = _build(variant, sizes, device, dtype)
    _fill(bundle.generator, device, dtype, seed)
    _fill(bundle.vae, device, dtype, seed + 1)
    _fill(bundle.audio_encoder, device, torch.float32, seed + 2)
    if isinstance(bundle.vae, WanVAE):  # as its loader lays them out
        for parameter in bundle.vae.parameters():
            parameter.data = channels_last(parameter.data)
    return bundle
