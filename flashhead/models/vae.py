"""The interface of a video autoencoder, and what the families share."""

from typing import Protocol

import torch
from torch import Tensor, nn

from .backend import Backend


class VAE(Protocol):
    """A video autoencoder: `LTXVAE`, `WanVAE`, `TinyVAE` or a host's.

    stride: frames, rows and columns per latent, (t, h, w). dtype: what it computes in. tiles: into
    how many pieces a side the picture is cut where it takes most memory.
    """

    latent_channels: int
    stride: tuple[int, int, int]

    @property
    def dtype(self) -> torch.dtype: ...

    def encode(self, video: Tensor, tiles: int = 1) -> Tensor:
        """Video (B, 3, T, H, W) in [-1, 1] -> normalised latents (B, C, t, h, w) float32."""

    def decode(self, latents: Tensor, tiles: int = 1) -> Tensor:
        """Normalised latents (B, C, t, h, w) -> video (B, 3, T, H, W), about [-1, 1]."""

    def normalize(self, latents: Tensor) -> Tensor:
        """Latents as ComfyUI's nodes of this family exchange them -> normalised."""

    def denormalize(self, latents: Tensor) -> Tensor:
        """Normalised latents -> as ComfyUI's nodes of this family exchange them."""


class VideoAutoencoder(nn.Module):
    """The base of all families, whose latents are standardised channel by channel."""

    latents_mean: Tensor
    latents_std: Tensor

    def __init__(self, latent_channels: int, stride: tuple[int, int, int], backend: Backend):
        super().__init__()
        self.latent_channels = latent_channels
        self.stride = stride
        self.backend = backend

    @property
    def dtype(self) -> torch.dtype:
        return self.backend.dtype

    def encode(self, video: Tensor, tiles: int = 1) -> Tensor:
        """Video (B, 3, T, H, W) in [-1, 1] -> normalised latents (B, C, t, h, w) float32.

        They are the posterior's mean: nothing is random. Raises `ValueError` as `check_video`.
        """
        self.check_video(video)
        return self.standardize(self.moments(video, tiles)[:, : self.latent_channels].float())

    def check_video(self, video: Tensor) -> None:
        """Raise `ValueError` unless T is 1 + a multiple of the temporal stride, and H and W are
        multiples of the spatial stride."""
        (t, h, w), stride = video.shape[2:], self.stride
        if (t - 1) % stride[0] or h % stride[1] or w % stride[2]:
            raise ValueError(
                f"A video of {t} frames at {w}x{h} does not fit the VAE: expected 1 + n * "
                f"{stride[0]} frames, width and height multiples of {stride[1]}."
            )

    def check_latents(self, latents: Tensor) -> None:
        """Raise `ValueError` unless they are (B, C, t, h, w)."""
        if latents.ndim != 5 or latents.shape[1] != self.latent_channels:
            raise ValueError(
                f"Latents of shape {tuple(latents.shape)} do not fit the VAE: expected "
                f"(batch, {self.latent_channels}, frames, height, width)."
            )

    def moments(self, video: Tensor, tiles: int = 1) -> Tensor:
        """The encoder's channels for a video that fits it: means (B, C, t, h, w), log-variances."""
        raise NotImplementedError

    def standardize(self, latents: Tensor) -> Tensor:
        """The encoder's latents (B, C, t, h, w) float32 -> zero mean and unit variance."""
        mean, std = self._statistics(latents.device)
        return (latents - mean) / std

    def unstandardize(self, latents: Tensor) -> Tensor:
        """The inverse of `standardize`."""
        mean, std = self._statistics(latents.device)
        return latents * std + mean

    def _statistics(self, device: torch.device) -> tuple[Tensor, Tensor]:
        mean = self.backend.cast(self.latents_mean, torch.float32, device)
        std = self.backend.cast(self.latents_std, torch.float32, device)
        return mean.view(1, -1, 1, 1, 1), std.view(1, -1, 1, 1, 1)


def channel_energy(x: Tensor) -> Tensor:
    """Sum of squares over the channels of (B, C, ...): (B, 1, ...) float32."""
    if x.dtype == torch.float32:
        # Five times as fast as vector_norm on a CPU.
        return x.square().sum(dim=1, keepdim=True)
    # One pass, in float32: float16 could not hold the squares.
    return torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=torch.float32).square()
