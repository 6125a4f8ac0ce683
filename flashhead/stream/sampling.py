"""The sampler of one chunk: timesteps, noise, guidance, steps (DESIGN §1.5)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import FlashHeadError
from ..models.generator import AudioCondition, Generator, TimeCondition
from ..models.memory import fits, sampling_memory

TRAIN_TIMESTEPS = 1000
_DISTILLED = {2: (1000, 500), 4: (1000, 750, 500, 250)}
OnStep = Callable[[int, int], None]
Predict = Callable[[Tensor, TimeCondition, AudioCondition, Tensor, Tensor], Tensor]
"""Noisy latents, time, audio, reference, rotary table -> velocity: a `Generator`, or what stands
before one."""


# LeapTalk's timesteps end here and not at 0, so its one step is 1.001 long.
_BRIDGE_END = -1.0


def timesteps(steps: int, shift: float = 5.0, sampler: str = "renoise") -> Tensor:
    """Timesteps from 1000 down, then 0 (of a "bridge": -1): (steps + 1,) float32.

    2 and 4 steps are those of the distilled models; any other count is spread evenly from 1000
    to 1, in whole numbers for a bridge. All are shifted on t/1000:
    t' = shift * t / (1 + (shift - 1) * t).

    Raises:
        FlashHeadError: steps not a whole number, 1 to 1000; a shift that is not positive.
    """
    if not isinstance(steps, int) or not 1 <= steps <= TRAIN_TIMESTEPS:
        raise FlashHeadError(
            f"{steps} sampling steps were asked for; expected a whole number, 1 to "
            f"{TRAIN_TIMESTEPS}."
        )
    if not 0 < shift < float("inf"):
        raise FlashHeadError(f"The timestep shift is {shift}; it must be a positive number.")
    even = np.linspace(TRAIN_TIMESTEPS, 1, steps, dtype=np.float32)
    if sampler == "bridge":
        even = even.round()
    raw = torch.tensor([*_DISTILLED.get(steps, even), 0.0], dtype=torch.float32) / TRAIN_TIMESTEPS
    shifted = shift * raw / (1 + (shift - 1) * raw) * TRAIN_TIMESTEPS
    if sampler == "bridge":
        shifted[-1] = _BRIDGE_END
    return shifted


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

    sampler: as of a `Variant`.
    """

    sigmas: tuple[float, ...]
    time: TimeCondition
    rotary: Tensor
    sampler: str
    guidance: Guidance | None

    @property
    def steps(self) -> int:
        return len(self.sigmas) - 1

    @property
    def draws(self) -> int:
        """Noise tensors that a chunk takes: the start and a renewal at each step; the start alone
        in Euler steps; in a bridge, which starts from the portrait, one after each step but the
        last."""
        return {"renoise": 1 + self.steps, "euler": 1, "bridge": self.steps - 1}[self.sampler]


@torch.no_grad()
def plan_sampling(
    generator: Generator,
    shape: Sequence[int],
    steps: int = 4,
    shift: float = 5.0,
    *,
    device: torch.device | None = None,
    sampler: str = "renoise",
    guidance: float = 1.0,
    joint_guidance: bool | None = None,
) -> SamplingPlan:
    """Prepare a run on latents of a shape (B, C, T, h, w).

    device: where to compute; None is the backend's, or the weights'. guidance: 1 is off and costs
    nothing. joint_guidance: None means where the memory for it is free.
    """
    device = device or generator.backend.device or next(generator.parameters()).device
    schedule, planned = timesteps(steps, shift, sampler), None
    if guidance != 1:
        config, (batch, _, *latents) = generator.config, shape
        if joint_guidance is None:
            needed = sampling_memory(config, generator.backend.dtype, latents)
            joint_guidance = fits(2 * batch * needed, device)
        frames = 1 + (latents[0] - 1) * config.vae_stride[0]
        silence = torch.zeros(1, frames, config.audio_window, 1, config.audio_width, device=device)
        planned = Guidance(guidance, generator.embed_audio(silence), joint_guidance)
    return SamplingPlan(
        sigmas=tuple((schedule / TRAIN_TIMESTEPS).tolist()),
        time=generator.embed_timesteps(schedule[:-1], device),
        rotary=generator.rotary(shape, device),
        sampler=sampler,
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


def _bridge_noise(sigma: float, following: float) -> float:
    """Standard deviation of the noise that a Brownian bridge gets with a step to `following`: in
    LeapTalk's terms eta of x + delta v + eta z, with delta = following - sigma and
    eta^2 = -delta (c + delta) / c, where c is the way from sigma to the end."""
    end = _BRIDGE_END / TRAIN_TIMESTEPS
    return math.sqrt((sigma - following) * (following - end) / (sigma - end))


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
        noise: (plan.draws, B, C, T, h, w), in the order of their use (a distilled model's last is
            multiplied by 0; it is drawn to keep the order of the published sampler).
        on_step: called with (steps done, steps) after each step; may raise to stop.

    Returns:
        Latents (B, C, T, h, w) float32.
    """
    kept = motion.shape[2]
    x = (reference if plan.sampler == "bridge" else noise[0]).clone()
    for step, (sigma, following) in enumerate(zip(plan.sigmas, plan.sigmas[1:], strict=False)):
        x[:, :, :kept] = motion
        velocity = _velocity(predict, plan, step, x, reference, audio)
        if plan.sampler == "renoise":
            clean = x - velocity * sigma
            x = clean if following == 0 else torch.lerp(clean, noise[step + 1], following)
        else:
            x = x - velocity * (sigma - following)
            if plan.sampler == "bridge" and step < plan.steps - 1:
                x = torch.add(x, noise[step], alpha=_bridge_noise(sigma, following))
        if on_step is not None:
            on_step(step + 1, plan.steps)
    x[:, :, :kept] = motion
    return x
