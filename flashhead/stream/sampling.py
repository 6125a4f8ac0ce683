"""The sampler of one chunk: timesteps, noise, guidance, steps (DESIGN §1.5)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import FlashHeadError
from ..models.generator import AudioCondition, Generator, TimeCondition
from ..models.memory import fits, transformer_memory

TRAIN_TIMESTEPS = 1000
_DISTILLED = {2: (1000, 500), 4: (1000, 750, 500, 250)}
OnStep = Callable[[int, int], None]
Predict = Callable[[Tensor, TimeCondition, AudioCondition, Tensor, Tensor], Tensor]
"""Noisy latents, time, audio, reference, rotary table -> velocity: a `Generator`, or what stands
before one."""


def timesteps(steps: int, shift: float = 5.0) -> Tensor:
    """Timesteps from 1000 down, then 0: (steps + 1,) float32.

    2 and 4 steps are those of the distilled models; any other count is spread evenly from 1000
    to 1. All are shifted on t/1000: t' = shift * t / (1 + (shift - 1) * t).

    Raises:
        FlashHeadError: steps not a whole number, or below 1; a shift that is not positive.
    """
    if not isinstance(steps, int) or steps < 1:
        raise FlashHeadError(
            f"{steps} sampling steps were asked for; expected a whole number, at least 1."
        )
    if not 0 < shift < float("inf"):
        raise FlashHeadError(f"The timestep shift is {shift}; it must be a positive number.")
    even = np.linspace(TRAIN_TIMESTEPS, 1, steps, dtype=np.float32)
    raw = torch.tensor([*_DISTILLED.get(steps, even), 0.0], dtype=torch.float32) / TRAIN_TIMESTEPS
    return shift * raw / (1 + (shift - 1) * raw) * TRAIN_TIMESTEPS


@dataclass(frozen=True)
class Guidance:
    """Audio guidance: v = v_silent + scale * (v_audio - v_silent).

    silent: the condition of zero audio features, of one sample. joint: both velocities in one
    batch, which needs the memory of twice the sessions.
    """

    scale: float
    silent: AudioCondition
    joint: bool


@dataclass(frozen=True)
class SamplingPlan:
    """What all chunks of a run share: sigmas, modulations of every step, rotary table, guidance.

    renoise: predict the clean latents and add fresh noise (the distilled models); otherwise Euler
    steps (the teacher).
    """

    sigmas: tuple[float, ...]
    time: TimeCondition
    rotary: Tensor
    renoise: bool
    guidance: Guidance | None

    @property
    def steps(self) -> int:
        return len(self.sigmas) - 1

    @property
    def draws(self) -> int:
        """Noise tensors that a chunk takes: the start, then one renewal a step."""
        return 1 + self.steps if self.renoise else 1


@torch.no_grad()
def plan_sampling(
    generator: Generator,
    shape: Sequence[int],
    steps: int = 4,
    shift: float = 5.0,
    *,
    device: torch.device | None = None,
    renoise: bool = True,
    guidance: float = 1.0,
    joint_guidance: bool | None = None,
) -> SamplingPlan:
    """Prepare a run on latents of a shape (B, C, T, h, w).

    device: where to compute; None is the backend's, or the weights'. guidance: 1 is off and costs
    nothing. joint_guidance: None means where the memory for it is free.
    """
    device = device or generator.backend.device or next(generator.parameters()).device
    schedule, planned = timesteps(steps, shift), None
    if guidance != 1:
        config, (batch, _, *latents) = generator.config, shape
        if joint_guidance is None:
            needed = transformer_memory(config, generator.backend.dtype, latents)
            joint_guidance = fits(2 * batch * needed, device)
        frames = 1 + (latents[0] - 1) * config.vae_stride[0]
        silence = torch.zeros(1, frames, config.audio_window, 1, config.audio_width, device=device)
        planned = Guidance(guidance, generator.embed_audio(silence), joint_guidance)
    return SamplingPlan(
        sigmas=tuple((schedule / TRAIN_TIMESTEPS).tolist()),
        time=generator.embed_timesteps(schedule[:-1].to(device)),
        rotary=generator.rotary(shape, device),
        renoise=renoise,
        guidance=planned,
    )


def draw_noise(
    rngs: tuple[Tensor, ...], draws: int, shape: tuple[int, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Gaussian noise from each session's CPU generator state.

    All draws of a chunk are made at once, in the order in which sampling uses them, so that they
    reach the device in one copy. Returns (draws, B, *shape) float32 and the new states.
    """
    noise = torch.empty(draws, len(rngs), *shape, dtype=torch.float32)
    after = []
    for session, state in enumerate(rngs):
        rng = torch.Generator()
        rng.set_state(state)
        for draw in range(draws):
            torch.randn(shape, generator=rng, out=noise[draw, session])
        after.append(rng.get_state())
    return noise, tuple(after)


def _velocity(
    predict: Predict,
    plan: SamplingPlan,
    step: int,
    x: Tensor,
    reference: Tensor,
    audio: AudioCondition,
) -> Tensor:
    time, guidance = plan.time[step : step + 1], plan.guidance
    if guidance is None:
        return predict(x, time, audio, reference, plan.rotary).float()
    silence = guidance.silent.repeat(x.shape[0])
    if guidance.joint:
        twice, references = torch.cat([x, x]), torch.cat([reference, reference])
        both = predict(twice, time, audio.join(silence), references, plan.rotary)
        with_audio, silent = both.float().chunk(2)
    else:
        with_audio, silent = (
            predict(x, time, condition, reference, plan.rotary).float()
            for condition in (audio, silence)
        )
    return torch.lerp(silent, with_audio, guidance.scale)


@torch.no_grad()
def sample_latents(
    predict: Predict,
    plan: SamplingPlan,
    audio: AudioCondition,
    reference: Tensor,
    motion: Tensor,
    noise: Tensor,
    on_step: OnStep | None = None,
) -> Tensor:
    """Denoise one chunk.

    Args:
        predict: the generator.
        reference: the portrait's latents (B, C, T, h, w) float32.
        motion: latents of the frames before, (B, C, m, h, w); they overwrite the first m latent
            frames before every step and at the end.
        noise: (plan.draws, B, C, T, h, w): the start, then the renewals (the last is multiplied
            by 0; it is drawn to keep the order of the published sampler).
        on_step: called with (steps done, steps) after each step; may raise to stop.

    Returns:
        Latents (B, C, T, h, w) float32.
    """
    kept = motion.shape[2]
    x = noise[0].clone()
    for step, (sigma, following) in enumerate(zip(plan.sigmas, plan.sigmas[1:], strict=False)):
        x[:, :, :kept] = motion
        velocity = _velocity(predict, plan, step, x, reference, audio)
        if plan.renoise:
            clean = x - velocity * sigma
            x = clean if following == 0 else torch.lerp(clean, noise[step + 1], following)
        else:
            x = x - velocity * (sigma - following)
        if on_step is not None:
            on_step(step + 1, plan.steps)
    x[:, :, :kept] = motion
    return x
