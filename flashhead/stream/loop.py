"""The loop: a chunk of audio in, a chunk of frames and the next state out (DESIGN §1.5)."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import NonFiniteError, PortraitWarning
from ..geometry import ChunkGeometry
from ..image.color import match_color
from ..image.seams import fade_seam
from ..models.bundle import Bundle
from ..models.generator import Generator
from ..models.limits import native_fade, portrait_warnings
from ..models.vae import VAE
from ..models.wav2vec2 import AudioEncoder
from ..variants import VARIANTS
from .sampling import OnStep, Predict, SamplingPlan, draw_noise, plan_sampling, sample_latents
from .settings import Settings
from .state import PortraitCondition, StreamState, encode_portrait


@dataclass(frozen=True)
class Chunk:
    """New frames of a stream.

    frames: (n, H, W, 3) float32 in [0, 1], on the computing device. index: number of the chunk,
    from 0. start: number of its first frame in the video.
    """

    frames: Tensor
    index: int
    start: int

    def head(self, count: int) -> Chunk:
        """The chunk's first `count` frames."""
        return replace(self, frames=self.frames[:count])


OnStage = Callable[[str], None]
"""Told the name of each stage of a chunk when it ends: audio, sample, decode, color, encode."""


def ignore_stage(stage: str) -> None:
    """An `OnStage` for who does not care."""


@torch.no_grad()
def hear_chunk(
    encoder: AudioEncoder,
    geometry: ChunkGeometry,
    samples: Tensor,
    state: StreamState,
    on_stage: OnStage = ignore_stage,
) -> tuple[Tensor, StreamState]:
    """Push a chunk's new samples, (N,) or (B, N) at 16 kHz, and encode what is now in the cache.

    Returns the audio context of the chunk's frames, (B, frames, 5, layers, channels), and the
    state that has heard it.
    """
    state = replace(state, audio=state.audio.push(samples))
    context = state.audio.context(encoder, geometry.frames)
    on_stage("audio")
    return context, state


@torch.no_grad()
def sample_chunk(
    generator: Generator,
    plan: SamplingPlan,
    context: Tensor,
    state: StreamState,
    on_step: OnStep | None = None,
    on_stage: OnStage = ignore_stage,
    predict: Predict | None = None,
) -> tuple[Tensor, StreamState]:
    """Latents (B, C, T, h, w) of the next chunk, and the state with its noise drawn.

    `context` are the audio context of the chunk's frames (B, frames, 5, layers, channels).
    `predict` stands before the generator, when given.
    """
    reference = generator.backend.to(state.portrait.latents, torch.float32)
    noise, rng = draw_noise(state.rng, plan.draws, tuple(reference.shape[1:]))
    if reference.device.type == "cuda":
        noise = noise.pin_memory()
    latents = sample_latents(
        predict or generator,
        plan,
        generator.embed_audio(context),
        reference,
        generator.backend.to(state.motion, torch.float32),
        noise.to(reference.device, non_blocking=True),
        on_step,
    )
    on_stage("sample")
    return latents, replace(state, rng=rng)


@torch.no_grad()
def decode_chunk(
    vae: VAE,
    geometry: ChunkGeometry,
    latents: Tensor,
    state: StreamState,
    color_strength: float = 1.0,
    on_stage: OnStage = ignore_stage,
    seam_fade: int = 0,
) -> tuple[Tensor, StreamState]:
    """All frames of a chunk, and the state that the next chunk starts from.

    Returns (B, frames, H, W, 3) float32 in [0, 1]; the first `geometry.motion_frames` of them
    repeat the chunk before. Matching is skipped at strength 0, and fading seams at 0 frames.
    """
    video = vae.decode(latents)
    on_stage("decode")
    video = match_color(video, state.portrait.color.to(video.device), color_strength)
    on_stage("color")
    motion = vae.encode(video[:, :, -geometry.motion_frames :])
    on_stage("encode")
    frames = ((video + 1) / 2).clamp(0, 1).permute(0, 2, 3, 4, 1)
    shown = None
    if seam_fade:
        frames = fade_seam(frames, state.shown, geometry.motion_frames, seam_fade)
        # Not a view, which would keep the whole chunk.
        shown = frames[:, -1].clone(memory_format=torch.contiguous_format)
    return frames, replace(state, motion=motion, index=state.index + 1, shown=shown)


def condition_on(bundle: Bundle, portraits: Tensor) -> PortraitCondition:
    """Portraits (B, 3, H, W) in [-1, 1] -> their condition; a `PortraitWarning` for each that a
    small checkpoint cannot animate."""
    condition = encode_portrait(bundle.vae, bundle.geometry, portraits)
    for portrait in portraits:
        for text in portrait_warnings(bundle.limits, portrait):
            warnings.warn(text, PortraitWarning, stacklevel=2)
    return condition


def plan_stream(
    generator: Generator, variant_name: str, settings: Settings, latents: Tensor
) -> SamplingPlan:
    """The sampling plan of a stream whose latents are like these, with the variant's defaults."""
    variant = VARIANTS[variant_name]
    return plan_sampling(
        generator,
        latents,
        settings.steps or variant.steps,
        settings.shift,
        renoise=variant.sampler == "renoise",
        guidance=variant.guidance if settings.guidance is None else settings.guidance,
    )


def render_chunk(
    bundle: Bundle,
    plan: SamplingPlan,
    context: Tensor,
    state: StreamState,
    settings: Settings,
    on_step: OnStep | None = None,
) -> tuple[Tensor, StreamState]:
    """`sample_chunk`, then `decode_chunk`, and the check that the frames are finite."""
    latents, state = sample_chunk(bundle.generator, plan, context, state, on_step)
    frames, state = decode_chunk(
        bundle.vae,
        bundle.geometry,
        latents,
        state,
        settings.color_match,
        seam_fade=native_fade(bundle.limits) if settings.seam_fade is None else settings.seam_fade,
    )
    check_finite(frames, state, bundle.dtype)
    return frames, state


def check_finite(frames: Tensor, state: StreamState, dtype: torch.dtype) -> None:
    """Raise `NonFiniteError` if a chunk's frames or motion latents hold NaN or infinity, with
    advice for the dtype that it was computed in.

    Waits for the device, so it belongs at the end of a chunk.
    """
    if bool(torch.isfinite(frames).all() & torch.isfinite(state.motion).all()):
        return
    advice = {
        torch.float16: "try bfloat16 or float32",
        torch.bfloat16: "try float32",
    }.get(dtype, "the weights seem damaged: download them again")
    raise NonFiniteError(
        f"Chunk {state.index - 1} came out as NaN or infinity in "
        f"{str(dtype).removeprefix('torch.')}; {advice}."
    )
