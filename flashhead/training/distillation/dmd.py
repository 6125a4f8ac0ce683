"""Distribution matching distillation: losses of student and fake score (DESIGN §1.8).

Noise is added to the student's latents, and two score networks predict the clean latents from
them: the frozen real score, trained on the data, and the fake score, trained on the student's
outputs. The difference of the two is the gradient that moves the student's distribution to that of
the data (arXiv 2311.18828, equations 7 and 8).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...models.generator import Generator
from ..data.chunk_batch import ChunkBatch
from ..flow.losses import weighted_mean
from ..flow.matching import add_noise, expand, predict_clean, run_generator, shift_sigma


@dataclass(frozen=True)
class ScoreDraws:
    """The random draws of a score's update, on the CPU: noise (B, C, T, h, w) and sigma (B,)."""

    noise: Tensor
    sigma: Tensor

    @classmethod
    def draw(
        cls,
        shape: torch.Size,
        rng: torch.Generator,
        *,
        shift: float = 5.0,
        sigma_range: tuple[float, float] = (0.02, 0.98),
    ) -> ScoreDraws:
        """Sigma is uniform before the shift, then clamped to `sigma_range`: without noise, and with
        noise alone, both scores predict the same."""
        noise = torch.randn(shape, generator=rng)
        sigma = shift_sigma(torch.rand(shape[0], generator=rng), shift)
        return cls(noise, sigma.clamp(*sigma_range))


def noise_with_motion(latents: Tensor, motion: Tensor, draws: ScoreDraws) -> Tensor:
    """The latents noised, with `motion` (B, C, m, h, w) clean over the first m frames."""
    x = add_noise(latents, draws.noise.to(latents), draws.sigma)
    return torch.cat([motion, x[:, :, motion.shape[2] :]], dim=2)


def guided_velocity(
    generator: Generator, x: Tensor, sigma: Tensor, chunk: ChunkBatch, guidance: float
) -> Tensor:
    """v_silent + guidance * (v_audio - v_silent), silent being zero context (DESIGN §1.5)."""
    with_audio = run_generator(generator, x, sigma, chunk.context, chunk.reference)
    if guidance == 1:
        return with_audio
    silence = torch.zeros_like(chunk.context)
    silent = run_generator(generator, x, sigma, silence, chunk.reference)
    return torch.lerp(silent, with_audio, guidance)


def dmd_gradient(student: Tensor, real: Tensor, fake: Tensor, new: Tensor) -> Tensor:
    """(fake - real) divided by each sample's mean of |student - real|; 0 on motion frames.

    All are clean latents (B, C, T, h, w); `new` is 1 on the frames to make and 0 on motion frames,
    (B, 1, T, 1, 1) or (1, 1, T, 1, 1).
    """
    distance = (student - real).abs() * new
    count = new.expand_as(distance).sum(dim=(1, 2, 3, 4))
    scale = distance.sum(dim=(1, 2, 3, 4)) / count
    return (fake - real) * new / expand(scale.clamp_min(1e-6), student)


@torch.no_grad()
def score_gradient(
    student: Tensor,
    chunk: ChunkBatch,
    motion: Tensor,
    oracle: Tensor,
    real: Generator,
    fake: Generator,
    draws: ScoreDraws,
    new: Tensor,
    guidance: float = 3.0,
) -> Tensor:
    """The DMD gradient at a student's latents (B, C, T, h, w).

    motion: the student's motion frames, which the fake score gets. oracle: the motion frames that
    the real score gets: the ground truth's, or `motion` again without the oracle.
    """
    noisy = noise_with_motion(student, oracle, draws)
    velocity = guided_velocity(real, noisy, draws.sigma, chunk, guidance)
    real_clean = predict_clean(noisy, velocity, draws.sigma)
    noisy = noise_with_motion(student, motion, draws)
    velocity = run_generator(fake, noisy, draws.sigma, chunk.context, chunk.reference)
    fake_clean = predict_clean(noisy, velocity, draws.sigma)
    return dmd_gradient(student, real_clean, fake_clean, new)


def dmd_loss(student: Tensor, gradient: Tensor, new: Tensor) -> Tensor:
    """A loss whose gradient at the student's latents is `gradient` over the number of elements."""
    target = (student - gradient).detach()
    return 0.5 * weighted_mean((student - target).square(), new)


def regression_loss(student: Tensor, truth: Tensor, new: Tensor) -> Tensor:
    """Mean of |z_student - z_gt|^2 over the frames to make."""
    return weighted_mean((student - truth).square(), new)


def fake_score_loss(
    fake: Generator,
    student: Tensor,
    chunk: ChunkBatch,
    motion: Tensor,
    draws: ScoreDraws,
    new: Tensor,
) -> Tensor:
    """Flow matching loss of the fake score on the student's latents, which get no gradient."""
    student = student.detach()
    noisy = noise_with_motion(student, motion, draws)
    velocity = run_generator(fake, noisy, draws.sigma, chunk.context, chunk.reference)
    target = draws.noise.to(student) - student
    return weighted_mean((velocity - target).square(), new)
