"""The interface of a video autoencoder, and what the two families share."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class VAE(Protocol):
    """A video autoencoder: `LTXVAE`, `WanVAE` or a host's.

    stride: frames, rows and columns per latent, (t, h, w).
    """

    latent_channels: int
    stride: tuple[int, int, int]

    def encode(self, video: Tensor) -> Tensor:
        """Video (B, 3, T, H, W) in [-1, 1] -> normalised latents (B, C, t, h, w) float32."""

    def decode(self, latents: Tensor) -> Tensor:
        """Normalised latents (B, C, t, h, w) -> video (B, 3, T, H, W), about [-1, 1]."""

    def normalize(self, latents: Tensor) -> Tensor:
        """Latents as ComfyUI's nodes of this family exchange them -> normalised."""

    def denormalize(self, latents: Tensor) -> Tensor:
        """Normalised latents -> as ComfyUI's nodes of this family exchange them."""


def check_video(video: Tensor, stride: tuple[int, int, int]) -> None:
    """Raise `ValueError` unless a VAE of this stride can encode a video (B, 3, T, H, W)."""
    t, h, w = video.shape[2:]
    if (t - 1) % stride[0] or h % stride[1] or w % stride[2]:
        raise ValueError(
            f"A video of {t} frames at {w}x{h} does not fit the VAE: expected 1 + n * {stride[0]} "
            f"frames, width and height multiples of {stride[1]}."
        )


def channel_energy(x: Tensor) -> Tensor:
    """Sum of squares over the channels of (B, C, ...): (B, 1, ...) float32."""
    if x.dtype == torch.float32:
        # Five times as fast as vector_norm on a CPU.
        return x.square().sum(dim=1, keepdim=True)
    # One pass, in float32: float16 could not hold the squares.
    return torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=torch.float32).square()
