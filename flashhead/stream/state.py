"""Everything that a stream carries from chunk to chunk, frozen (DESIGN §3.3)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import PortraitError
from ..geometry import ChunkGeometry
from ..image.color import ColorTarget, color_target
from ..models.vae import VAE
from .audio_context import CACHE_SECONDS, AudioContextCache
from .finite import all_finite, non_finite


@dataclass(frozen=True)
class PortraitCondition:
    """What the model knows of a portrait: latents (B, C, T, h, w) and the colours to keep."""

    latents: Tensor
    color: ColorTarget

    def to(self, device: torch.device) -> PortraitCondition:
        """The same on another device; itself if it is there."""
        if self.latents.device == device:
            return self
        return PortraitCondition(self.latents.to(device), self.color.to(device))


@dataclass(frozen=True)
class StreamState:
    """One value in, a new one out; nothing in it is ever written to.

    portrait: what is animated. motion: latents (B, C, m, h, w) of the last frames. audio: the
    last seconds of it. rng: each session's CPU generator state. index: chunks done. shown: the last
    frame (B, H, W, 3) in [0, 1], where seams are faded; None before the first chunk.
    """

    portrait: PortraitCondition
    motion: Tensor
    audio: AudioContextCache
    rng: tuple[Tensor, ...]
    index: int = 0
    shown: Tensor | None = None

    def to(self, device: torch.device) -> StreamState:
        """The same with portrait, motion and frame on another device. Audio and noise stay on the
        CPU."""
        return replace(
            self,
            portrait=self.portrait.to(device),
            motion=self.motion.to(device),
            shown=None if self.shown is None else self.shown.to(device),
        )


@torch.no_grad()
def encode_portrait(vae: VAE, geometry: ChunkGeometry, portrait: Tensor) -> PortraitCondition:
    """Portrait (3, H, W) or (B, 3, H, W) in [-1, 1] -> its condition, where the VAE computes.

    Raises `NonFiniteError` where its latents are not finite.
    """
    still = (portrait if portrait.ndim == 4 else portrait.unsqueeze(0)).unsqueeze(2)
    geometry.check_size((still.shape[3], still.shape[4]))
    latents = vae.encode(still.expand(-1, -1, geometry.frames, -1, -1))
    if not all_finite(latents):
        raise non_finite("The portrait", "VAE encoder", vae.dtype, latents.device)
    return PortraitCondition(latents, color_target(still.to(latents.device)))


def select_sessions(state: StreamState, sessions: list[int]) -> StreamState:
    """The state of some of a batch's sessions, by position."""
    portrait = state.portrait
    return replace(
        state,
        portrait=PortraitCondition(
            portrait.latents[sessions],
            ColorTarget(portrait.color.mean[sessions], portrait.color.std[sessions]),
        ),
        motion=state.motion[sessions],
        audio=AudioContextCache(state.audio.samples[sessions]),
        rng=tuple(state.rng[session] for session in sessions),
        shown=None if state.shown is None else state.shown[sessions],
    )


def switch_portrait(state: StreamState, portrait: PortraitCondition) -> StreamState:
    """The same stream with another portrait: motion starts afresh, audio and noise go on."""
    return replace(state, portrait=portrait, motion=portrait.latents[:, :, :1], shown=None)


def start_stream(
    portrait: PortraitCondition,
    seeds: int | tuple[int, ...] = 42,
    cache_seconds: float = CACHE_SECONDS,
) -> StreamState:
    """The state before the first chunk: silent audio, motion from the portrait's first latent.

    `seeds` holds one seed for each portrait of the batch (an int serves for one).
    """
    batch = portrait.latents.shape[0]
    seeds = (seeds,) if isinstance(seeds, int) else tuple(seeds)
    if len(seeds) != batch:
        raise PortraitError(f"{batch} portraits came with {len(seeds)} seeds; give one seed each.")
    return StreamState(
        portrait=portrait,
        motion=portrait.latents[:, :, :1],
        audio=AudioContextCache.silent(batch, cache_seconds),
        rng=tuple(torch.Generator().manual_seed(seed).get_state() for seed in seeds),
    )
