"""An LTX VAE with fresh weights, and its two halves with gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...models.backend import build
from ...models.config import LTXVAEConfig
from ...models.ltx_vae import LTXVAE
from ..networks.initialisation import fill_weights


@dataclass(frozen=True)
class VAESizes:
    """As diffusers names them; see `LTXVAEConfig`."""

    block_out_channels: tuple[int, ...] = (32, 64, 128)
    layers_per_block: tuple[int, ...] = (1, 1, 1, 1)
    spatio_temporal_scaling: tuple[bool, ...] = (True, True, False)
    latent_channels: int = 32
    patch_size: int = 4
    decoder_layers_per_block: tuple[int, ...] | None = None

    def config(self) -> LTXVAEConfig:
        return LTXVAEConfig(
            self.block_out_channels,
            self.layers_per_block,
            self.spatio_temporal_scaling,
            self.latent_channels,
            patch_size=self.patch_size,
            decoder_layers_per_block=self.decoder_layers_per_block,
        )


def new_vae(config: LTXVAEConfig, rng: torch.Generator, log_variance: float = -6.0) -> LTXVAE:
    """Fresh weights: residual branches that start at zero, latents that start almost without noise.

    The latents' statistics are mean 0 and deviation 1 until `fit_statistics`.
    """
    vae = build(lambda: LTXVAE(config)).to_empty(device="cpu")
    fill_weights(vae, rng)
    for name, parameter in vae.named_parameters():
        if parameter.ndim > 1:
            fan_in = math.prod(parameter.shape[1:])
            parameter.data.normal_(std=fan_in**-0.5, generator=rng)
            if name.endswith("conv2.conv.weight"):
                parameter.data.zero_()
    vae.encoder.conv_out.conv.weight.data[-1].zero_()
    vae.encoder.conv_out.conv.bias.data[-1] = log_variance
    vae.latents_mean.zero_()
    vae.latents_std.fill_(1)
    return vae.train().requires_grad_(True)


def encode_distribution(vae: LTXVAE, video: Tensor) -> tuple[Tensor, Tensor]:
    """Means (B, C, t, h, w) and log-variances (B, 1, t, h, w), with gradients."""
    patches = vae.patches(video)
    mean, log_variance = vae.encoder(patches).float().split([vae.latent_channels, 1], dim=1)
    return mean, log_variance.clamp(-20, 10)


def decode_raw(vae: LTXVAE, latents: Tensor) -> Tensor:
    """Latents that are not normalised -> video."""
    return vae.from_patches(vae.decoder(latents))
