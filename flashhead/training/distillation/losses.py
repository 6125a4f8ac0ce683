"""Stage 2, oracle-guided bidirectional distillation: the losses of student and fake score.

Student, real score and fake score all begin as the generator of stage 1. For every update of the
student the fake score gets five (DESIGN §1.8).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...geometry import MOTION_LATENT_FRAMES
from ...image.color import ColorTarget
from ...models.generator import Generator
from ..data.chunk_batch import ChunkBatch
from ..flow.matching import new_frames
from ..settings import Settings
from .dmd import ScoreDraws, dmd_loss, fake_score_loss, regression_loss, score_gradient
from .rollout import NextMotion, roll_out, sample_truncated


class DistillationSettings(Settings):
    """Stage 2's rollouts and losses; the defaults are the paper's where it gives one.

    chunks: the longest rollout; its length is uniform from 1. steps, shift: of the student's
    sampler. cold_start: share of the rollouts that begin with a single first frame instead of
    ground-truth motion frames; 0 is the ablation. oracle: ground-truth motion frames for the real
    score; False, the ablation, gives it the student's. guidance: audio guidance of the real score.
    regression: weight of the latent regression. sigma_range: noise levels of the scores.
    """

    chunks: int = 5
    steps: int = 4
    shift: float = 5.0
    cold_start: float = 0.1
    oracle: bool = True
    guidance: float = 3.0
    regression: float = 0.25
    sigma_range: tuple[float, float] = (0.02, 0.98)


@dataclass(frozen=True)
class StudentStart:
    """What the student's last chunk begins with.

    chunk: its ground truth. motion: its motion latents (B, C, m, h, w), made by the student.
    oracle: the ground truth's latents of the same frames.
    """

    chunk: ChunkBatch
    motion: Tensor
    oracle: Tensor

    @property
    def new(self) -> Tensor:
        """(1, 1, T, 1, 1): 1 on the frames to make."""
        return new_frames(torch.tensor([self.motion.shape[2]]), self.chunk.latents)


def start_student(
    student: Generator,
    chunks: Sequence[ChunkBatch],
    next_motion: NextMotion,
    colors: ColorTarget,
    settings: DistillationSettings,
    rng: torch.Generator,
) -> StudentStart:
    """Roll out all but the last of `chunks` (consecutive, of the same clips) without gradients."""
    cold = float(torch.rand((), generator=rng)) < settings.cold_start
    first = chunks[0].latents[:, :, : 1 if cold else MOTION_LATENT_FRAMES]
    motion = roll_out(
        student,
        chunks[:-1],
        first,
        next_motion,
        colors,
        rng,
        steps=settings.steps,
        shift=settings.shift,
    )
    last = chunks[-1]
    return StudentStart(last, motion, last.latents[:, :, : motion.shape[2]])


def sample_student(
    student: Generator, start: StudentStart, settings: DistillationSettings, rng: torch.Generator
) -> Tensor:
    """The last chunk's latents (B, C, T, h, w), with gradients through one random step."""
    exit_step = int(torch.randint(settings.steps, (), generator=rng))
    latents = start.chunk.latents
    noise = torch.randn(exit_step + 1, *latents.shape, generator=rng).to(latents)
    return sample_truncated(
        student,
        start.chunk,
        start.motion,
        noise,
        exit_step,
        steps=settings.steps,
        shift=settings.shift,
    )


def _draw(start: StudentStart, settings: DistillationSettings, rng: torch.Generator) -> ScoreDraws:
    return ScoreDraws.draw(
        start.chunk.latents.shape, rng, shift=settings.shift, sigma_range=settings.sigma_range
    )


def student_losses(
    student: Generator,
    real: Generator,
    fake: Generator,
    start: StudentStart,
    settings: DistillationSettings,
    rng: torch.Generator,
) -> dict[str, Tensor]:
    """The student's losses "dmd" and "regression", and their weighted sum as "loss"."""
    latents = sample_student(student, start, settings, rng)
    gradient = score_gradient(
        latents.detach(),
        start.chunk,
        start.motion,
        start.oracle if settings.oracle else start.motion,
        real,
        fake,
        _draw(start, settings, rng),
        start.new,
        settings.guidance,
    )
    matching = dmd_loss(latents, gradient, start.new)
    regression = regression_loss(latents, start.chunk.latents, start.new)
    return {
        "loss": matching + settings.regression * regression,
        "dmd": matching,
        "regression": regression,
    }


def fake_losses(
    student: Generator,
    fake: Generator,
    start: StudentStart,
    settings: DistillationSettings,
    rng: torch.Generator,
) -> dict[str, Tensor]:
    """The fake score's loss as "loss" and "fake", on a chunk that the student samples without
    gradients."""
    with torch.no_grad():
        latents = sample_student(student, start, settings, rng)
    loss = fake_score_loss(
        fake, latents, start.chunk, start.motion, _draw(start, settings, rng), start.new
    )
    return {"loss": loss, "fake": loss}
