"""Flow matching on chunks with motion frames: stage 1's random draws, inputs and targets.

Direction and scale are the sampler's (DESIGN §1.5): sigma 1 is noise and 0 is data, the timestep is
1000 sigma, and `clean = x - sigma * velocity`. In the paper's x_t = t x1 + (1 - t) x0 that makes t
sigma, x1 the noise and x0 the clean latents, so the velocity is x1 - x0 = noise - clean.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...geometry import MOTION_LATENT_FRAMES
from ...models.generator import Generator
from ...stream.sampling import TRAIN_TIMESTEPS
from ..data.chunk_batch import ChunkBatch


def expand(values: Tensor, like: Tensor) -> Tensor:
    """(B,) values as (B, 1, 1, 1, 1), in the dtype and on the device of latents (B, C, T, h, w)."""
    return values.to(like).view(-1, *(1,) * (like.ndim - 1))


def add_noise(clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """x_sigma = sigma * noise + (1 - sigma) * clean, for sigma (B,) in [0, 1]."""
    return torch.lerp(clean, noise, expand(sigma, clean))


def predict_clean(x: Tensor, velocity: Tensor, sigma: Tensor) -> Tensor:
    """The clean latents that a velocity at x_sigma points to: x - sigma * velocity."""
    return x - expand(sigma, x) * velocity


def shift_sigma(sigma: Tensor, shift: float) -> Tensor:
    """The sampler's shift, shift * s / (1 + (shift - 1) * s), towards more noise."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def draw_sigma(batch: int, shift: float, rng: torch.Generator) -> Tensor:
    """Sigma (B,) in (0, 1], uniform before the shift."""
    return shift_sigma(1 - torch.rand(batch, generator=rng), shift)


def draw_motion(batch: int, cold_start: float, rng: torch.Generator) -> Tensor:
    """How many latent frames are given clean, (B,): 1 with probability `cold_start` (the single
    first frame, as a stream begins), else the motion frames (DESIGN §1.8)."""
    cold = torch.rand(batch, generator=rng) < cold_start
    return torch.where(cold, 1, MOTION_LATENT_FRAMES)


def new_frames(motion: Tensor, latents: Tensor) -> Tensor:
    """1 on the latent frames that a chunk has to make, 0 on its motion frames.

    motion (B,) counts, latents (B, C, T, h, w) -> (B, 1, T, 1, 1) in the latents' dtype.
    """
    frames = torch.arange(latents.shape[2], device=latents.device)
    new = frames >= motion.to(latents.device).unsqueeze(1)
    return new.to(latents.dtype)[:, None, :, None, None]


def write_motion(x: Tensor, motion: Tensor, new: Tensor) -> Tensor:
    """x with the frames where `new` is 0 taken from `motion`, as the sampler writes them."""
    return torch.where(new.bool(), x, motion)


@dataclass(frozen=True)
class FlowDraws:
    """Everything random in one step, drawn on the CPU.

    noise: (B, C, T, h, w). sigma: (B,) in (0, 1]. motion: (B,), how many latent frames are given.
    with_audio: (B,) boolean; the others get silence (zero context), which guidance needs.
    """

    noise: Tensor
    sigma: Tensor
    motion: Tensor
    with_audio: Tensor

    @classmethod
    def draw(
        cls,
        shape: torch.Size,
        rng: torch.Generator,
        *,
        shift: float = 5.0,
        cold_start: float = 0.1,
        audio_dropout: float = 0.1,
    ) -> FlowDraws:
        """Draws for latents of a shape (B, C, T, h, w)."""
        batch = shape[0]
        return cls(
            noise=torch.randn(shape, generator=rng),
            sigma=draw_sigma(batch, shift, rng),
            motion=draw_motion(batch, cold_start, rng),
            with_audio=torch.rand(batch, generator=rng) >= audio_dropout,
        )


@dataclass(frozen=True)
class FlowPrediction:
    """A velocity beside its target, both (B, C, T, h, w) float32.

    x: what the generator was given. new: (B, 1, T, 1, 1), 1 where it had to predict.
    """

    velocity: Tensor
    target: Tensor
    x: Tensor
    sigma: Tensor
    new: Tensor

    @property
    def error(self) -> Tensor:
        """Velocity minus target, zero on motion frames."""
        return (self.velocity - self.target) * self.new

    @property
    def clean(self) -> Tensor:
        """The latents predicted, motion frames as given."""
        return write_motion(predict_clean(self.x, self.velocity, self.sigma), self.x, self.new)


def run_generator(
    generator: Generator, x: Tensor, sigma: Tensor, context: Tensor, reference: Tensor
) -> Tensor:
    """Velocity at sigma (B,), in float32."""
    return generator(x, sigma.to(x.device) * TRAIN_TIMESTEPS, context, reference).float()


def predict_flow(generator: Generator, batch: ChunkBatch, draws: FlowDraws) -> FlowPrediction:
    """One prediction of stage 1, with gradients: noise added, motion frames written over it."""
    clean = batch.latents
    noise = draws.noise.to(clean)
    new = new_frames(draws.motion, clean)
    x = write_motion(add_noise(clean, noise, draws.sigma), clean, new)
    context = batch.context * expand(draws.with_audio, batch.context)
    velocity = run_generator(generator, x, draws.sigma, context, batch.reference)
    return FlowPrediction(velocity, noise - clean, x, draws.sigma, new)
