"""An LTX VAE with new random weights, and its encoder and decoder with gradients."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...models.backend import build
from ...models.config import LTXVAEConfig
from ...models.ltx_vae import LTXVAE
from ..networks.initialisation import fill_weights
from ..settings import Settings


class VAESizes(Settings):
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
    """A VAE with random weights whose residual branches begin at zero.

    The statistics of its latents are mean 0 and deviation 1 until `fit_statistics`.

    Args:
        config: its sizes.
        rng: of the weights.
        log_variance: of the posterior at first; -6 is latents almost without noise.
    """
    vae = build(lambda: LTXVAE(config)).to_empty(device="cpu")
    fill_weights(vae, rng)
    parameters = dict(vae.named_parameters())
    for name, parameter in parameters.items():
        if parameter.ndim > 1:
            fan_in = math.prod(parameter.shape[1:])
            parameter.data.normal_(std=fan_in**-0.5, generator=rng)
            if name.endswith("conv2.conv.weight"):
                parameter.data.zero_()
    parameters["encoder.conv_out.conv.weight"].data[-1].zero_()
    parameters["encoder.conv_out.conv.bias"].data[-1] = log_variance
    vae.get_buffer("latents_mean").zero_()
    vae.get_buffer("latents_std").fill_(1)
    return vae.train().requires_grad_(True)


def encode_distribution(vae: LTXVAE, video: Tensor) -> tuple[Tensor, Tensor]:
    """The posterior of video (B, 3, T, H, W): means (B, C, t, h, w) and log-variances (B, 1, t, h,
    w), with gradients and not normalised."""
    patches = vae.patches(video)
    mean, log_variance = vae.encoder(patches).float().split([vae.latent_channels, 1], dim=1)
    return mean, log_variance.clamp(-20, 10)


def decode_raw(vae: LTXVAE, latents: Tensor) -> Tensor:
    """Latents (B, C, t, h, w) that are not normalised -> video (B, 3, T, H, W), with gradients."""
    return vae.from_patches(vae.decoder(latents))
