"""Rollouts of the student: chunks as in inference, and a last one with truncated gradients.

In stage 2 (DESIGN §1.8) the student learns on its own outputs. Chunks 1 to k - 1 are sampled as in
inference, without gradients, each from the motion frames of the one before. In chunk k sampling
stops at a random step, and the gradient goes through that step alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ...geometry import MOTION_LATENT_FRAMES, ChunkGeometry
from ...image.color import ColorTarget
from ...models.generator import Generator
from ...models.vae import VAE
from ...stream.loop import decode_and_encode
from ...stream.sampling import TRAIN_TIMESTEPS, plan_sampling, sample_latents, timesteps
from ..data.chunk_batch import ChunkBatch
from ..flow.matching import run_generator

NextMotion = Callable[[Tensor, ColorTarget], Tensor]
"""A chunk's latents (B, C, T, h, w) and the portraits' colours -> the motion latents (B, C, m, h,
w) that the next chunk begins with."""


def latent_motion(latents: Tensor, colors: ColorTarget) -> Tensor:
    """The last latent frames as they are; a `NextMotion` for small machines.

    It saves the VAE's time, but is an approximation: the first of these frames codes a group of
    frames, and the first of a stream's motion latents a single one.
    """
    return latents[:, :, -MOTION_LATENT_FRAMES:]


@torch.no_grad()
def pixel_motion(
    vae: VAE,
    geometry: ChunkGeometry,
    latents: Tensor,
    colors: ColorTarget,
    color_match: float = 1.0,
) -> Tensor:
    """Decode, match colours, and encode the last frames again, as inference does (DESIGN §1.5).

    With its first two arguments given, it is a `NextMotion`. The errors that this loop makes are
    what the student has to learn to correct. `color_match` is the strength, in [0, 1].
    """
    _, motion = decode_and_encode(vae, geometry, latents, colors, color_match)
    return motion


@torch.no_grad()
def roll_out(
    generator: Generator,
    history: Sequence[ChunkBatch],
    motion: Tensor,
    next_motion: NextMotion,
    colors: ColorTarget,
    rng: torch.Generator,
    *,
    steps: int = 4,
    shift: float = 5.0,
) -> Tensor:
    """Sample the chunks of `history` one after another, and return the motion latents after them.

    Args:
        generator: the student.
        history: chunks (reference and context are used); without any, `motion` is returned.
        motion: latents (B, C, m, h, w) that the first chunk begins with.
        next_motion: how the chunks are joined.
        colors: of the portraits.
        rng: of the noise.
        steps, shift: of the sampler.
    """
    if not history:
        return motion
    reference = history[0].reference
    plan = plan_sampling(generator, reference.shape, steps, shift, device=reference.device)
    for chunk in history:
        noise = torch.randn(plan.draws, *reference.shape, generator=rng).to(reference)
        latents = sample_latents(
            generator, plan, generator.embed_audio(chunk.context), reference, motion, noise
        )
        motion = next_motion(latents, colors)
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
    x = noise[0]
    for step in range(exit_step):
        with torch.no_grad():
            clean = _predict(generator, chunk, _overwrite(x, motion), sigmas[step])
        x = torch.lerp(clean, noise[step + 1], sigmas[step + 1])
    clean = _predict(generator, chunk, _overwrite(x, motion), sigmas[exit_step])
    return _overwrite(clean, motion)


def _overwrite(x: Tensor, motion: Tensor) -> Tensor:
    return torch.cat([motion, x[:, :, motion.shape[2] :]], dim=2)


def _predict(generator: Generator, chunk: ChunkBatch, x: Tensor, sigma: float) -> Tensor:
    sigmas = torch.full((x.shape[0],), sigma)
    return x - sigma * run_generator(generator, x, sigmas, chunk.context, chunk.reference)
