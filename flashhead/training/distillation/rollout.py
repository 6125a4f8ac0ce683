"""The student's own chunks: a rollout as in inference, and a last chunk with truncated gradients.

Stage 2 (DESIGN §1.8) trains on what the student does to itself: chunks 1 to k - 1 are sampled as in
inference, without gradients, each from the motion frames of the one before. In chunk k sampling
stops at a random step, and the gradient goes through that step alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...geometry import MOTION_LATENT_FRAMES, ChunkGeometry
from ...image.color import ColorTarget, match_color
from ...models.generator import Generator
from ...models.vae import VAE
from ...stream.sampling import plan_sampling, sample_latents
from ...stream.schedule import TRAIN_TIMESTEPS, timesteps
from ..data.chunk_batch import ChunkBatch
from ..flow.matching import run_generator

MOTION_PATHS = ("pixels", "latents")


@dataclass(frozen=True)
class MotionPath:
    """How a chunk's end becomes the next one's motion latents.

    "pixels" decodes, matches colours and encodes the last frames again, as inference does: what
    the student must learn to bear is that loop's error. "latents" hands the last latent frames on;
    it saves the VAE's time, but the first of them then codes a group of frames where inference has
    one, so it is an approximation for small machines. It needs no `vae` and no `colors`.
    """

    geometry: ChunkGeometry
    vae: VAE | None = None
    color_match: float = 1.0
    kind: str = "pixels"

    def __post_init__(self) -> None:
        if self.kind not in MOTION_PATHS:
            raise ValueError(f"Unknown motion path '{self.kind}'; expected one of {MOTION_PATHS}.")
        if self.kind == "pixels" and self.vae is None:
            raise ValueError("The motion path 'pixels' needs a VAE.")

    @torch.no_grad()
    def follow(self, latents: Tensor, colors: ColorTarget | None) -> Tensor:
        """Motion latents (B, C, m, h, w) after a chunk's latents (B, C, T, h, w)."""
        if self.kind == "latents":
            return latents[:, :, -MOTION_LATENT_FRAMES:]
        video = self.vae.decode(latents)
        if self.color_match:
            device = video.device
            colors = ColorTarget(colors.mean.to(device), colors.std.to(device))
            video = match_color(video, colors, self.color_match)
        return self.vae.encode(video[:, :, -self.geometry.motion_frames :])


@torch.no_grad()
def roll_out(
    generator: Generator,
    history: Sequence[ChunkBatch],
    motion: Tensor,
    path: MotionPath,
    colors: ColorTarget | None,
    rng: torch.Generator,
    *,
    steps: int = 4,
    shift: float = 5.0,
) -> Tensor:
    """Motion latents after the chunks of `history`, sampled one from another; no gradients.

    Of `history` only reference and context are used; none of it returns `motion` unchanged.
    """
    if not history:
        return motion
    reference = history[0].reference
    plan = plan_sampling(generator, reference, steps, shift)
    for chunk in history:
        noise = torch.randn(plan.draws, *reference.shape, generator=rng).to(reference)
        latents = sample_latents(
            generator, plan, generator.embed_audio(chunk.context), reference, motion, noise
        )
        motion = path.follow(latents, colors)
    return motion


def sample_truncated(
    generator: Generator,
    chunk: ChunkBatch,
    motion: Tensor,
    noise: Tensor,
    exit_step: int,
    *,
    steps: int = 4,
    shift: float = 5.0,
) -> Tensor:
    """A chunk's clean latents as predicted at step `exit_step` of the sampler.

    Args:
        chunk: gives reference and context.
        motion: latents (B, C, m, h, w) written over the first m frames.
        noise: (exit_step + 1, B, C, T, h, w): the start, then the renewals.
        exit_step: 0 to steps - 1. Gradients flow through this step; none through those before.

    Returns:
        (B, C, T, h, w) float32, motion frames written over.
    """
    sigmas = (timesteps(steps, shift) / TRAIN_TIMESTEPS).tolist()
    x, clean = noise[0], None
    wanted = torch.is_grad_enabled()
    for step in range(exit_step + 1):
        if clean is not None:
            x = torch.lerp(clean, noise[step], sigmas[step])
        with torch.set_grad_enabled(wanted and step == exit_step):
            clean = _predict(generator, chunk, _overwrite(x, motion), sigmas[step])
    return _overwrite(clean, motion)


def _overwrite(x: Tensor, motion: Tensor) -> Tensor:
    return torch.cat([motion, x[:, :, motion.shape[2] :]], dim=2)


def _predict(generator: Generator, chunk: ChunkBatch, x: Tensor, sigma: float) -> Tensor:
    sigmas = torch.full((x.shape[0],), sigma)
    return x - sigma * run_generator(generator, x, sigmas, chunk.context, chunk.reference)
