"""The sampler of one chunk: noise to latents in a few steps (DESIGN §1.5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .generator import AudioCondition, Generator, TimeCondition
from .schedule import TRAIN_TIMESTEPS, timesteps

OnStep = Callable[[int, int], None]


@dataclass(frozen=True)
class SamplingPlan:
    """What all chunks of a run share: sigmas, modulations of every step, rotary table."""

    sigmas: tuple[float, ...]
    time: TimeCondition
    rotary: Tensor

    @property
    def steps(self) -> int:
        return len(self.sigmas) - 1


@torch.no_grad()
def plan_sampling(
    generator: Generator, reference: Tensor, steps: int = 4, shift: float = 5.0
) -> SamplingPlan:
    """Prepare a run on latents like `reference` (B, C, T, h, w)."""
    schedule = timesteps(steps, shift)
    return SamplingPlan(
        sigmas=tuple((schedule / TRAIN_TIMESTEPS).tolist()),
        time=generator.embed_timesteps(schedule[:-1].to(reference.device)),
        rotary=generator.rotary(reference),
    )


def draw_noise(
    rngs: tuple[Tensor, ...], draws: int, shape: tuple[int, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Gaussian noise from each session's CPU generator state.

    All draws of a chunk are made at once, in the order in which sampling uses them, so that they
    reach the device in one copy. Returns (draws, B, *shape) float32 and the new states.
    """
    noise = torch.empty(draws, len(rngs), *shape)
    after = []
    for session, state in enumerate(rngs):
        rng = torch.Generator()
        rng.set_state(state)
        for draw in range(draws):
            torch.randn(shape, generator=rng, out=noise[draw, session])
        after.append(rng.get_state())
    return noise, tuple(after)


@torch.no_grad()
def sample_latents(
    generator: Generator,
    plan: SamplingPlan,
    audio: AudioCondition,
    reference: Tensor,
    motion: Tensor,
    noise: Tensor,
    on_step: OnStep | None = None,
) -> Tensor:
    """Denoise one chunk.

    Args:
        reference: the portrait's latents (B, C, T, h, w) float32.
        motion: latents of the frames before, (B, C, m, h, w); they overwrite the first m latent
            frames before every step and at the end.
        noise: (steps + 1, B, C, T, h, w): the start, then one renewal a step (the last is
            multiplied by 0; it is drawn to keep the order of the published sampler).
        on_step: called with (steps done, steps) after each step; may raise to stop.

    Returns:
        Latents (B, C, T, h, w) float32.
    """
    kept = motion.shape[2]
    x = noise[0].clone()
    for step, (sigma, following) in enumerate(zip(plan.sigmas, plan.sigmas[1:], strict=False)):
        x[:, :, :kept] = motion
        velocity = generator.denoise(
            x, reference, plan.time[step : step + 1], audio, plan.rotary
        ).float()
        clean = x - velocity * sigma
        x = clean if following == 0 else torch.lerp(clean, noise[step + 1], following)
        if on_step is not None:
            on_step(step + 1, plan.steps)
    x[:, :, :kept] = motion
    return x
