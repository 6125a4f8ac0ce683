"""The chunk loop: a chunk's audio and a state in, its frames and the next state out (DESIGN §1.5).

Encode the audio, sample latents, decode, match colours, encode the last frames again: here and
nowhere else. `generate`, `LiveStream`, `generate_batch`, the ComfyUI nodes and the benchmark are
callers. Nothing here holds a run's state.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import PortraitWarning
from ..geometry import ChunkGeometry
from ..image.color import ColorTarget, match_color
from ..image.seams import fade_seam
from ..models.bundle import Bundle
from ..models.devices import AUDIO_DTYPE
from ..models.generator import Generator
from ..models.limits import native_fade, portrait_warnings
from ..models.tiles import FrugalVAE
from ..models.vae import VAE
from ..models.wav2vec2 import AudioEncoder
from ..variants import VARIANTS
from .finite import all_finite, non_finite
from .sampling import Predict, SamplingPlan, draw_noise, plan_sampling, sample_latents
from .settings import Settings
from .state import PortraitCondition, StreamState, encode_portrait, start_stream, switch_portrait

OnStep = Callable[[int, int, int], None]
"""Called with (chunk, steps done, steps) after each sampling step; may raise to stop."""

Recall = Callable[[str, Callable[[], Any]], Any]
"""Called with "sample" or "decode" and a function that computes this half of a chunk; returns its
result, or what an earlier run kept of it."""


@dataclass(frozen=True)
class Hooks:
    """What to call while a chunk is made. Each may raise to stop; no state is lost then.

    on_step: after each sampling step. on_stage: with a stage's name when it ends: "audio",
    "noise", "conditioning", "sample", "decode", "color", "encode".
    """

    on_step: OnStep | None = None
    on_stage: Callable[[str], None] | None = None

    def step(self, chunk: int, done: int, steps: int) -> None:
        if self.on_step is not None:
            self.on_step(chunk, done, steps)

    def stage(self, name: str) -> None:
        if self.on_stage is not None:
            self.on_stage(name)


NO_HOOKS = Hooks()


@dataclass(frozen=True)
class Chunk:
    """New frames of a stream.

    frames: (n, H, W, 3) float32 in [0, 1], on the computing device. index: number of the chunk,
    from 0. start: number of its first frame in the video.
    """

    frames: Tensor
    index: int
    start: int


@dataclass(frozen=True)
class ChunkAudio:
    """The audio of one chunk.

    samples: (N,) or (B, N) at 16 kHz, from under its new frames; silence is added where they are
    fewer than `geometry.new_samples`. shown: which of the decoded frames are new and wanted; None
    is all after the motion frames. context: audio context (1, frames, 5, layers, channels) that
    was encoded beforehand, as in mode "once"; None means to encode the audio cache.
    """

    samples: Tensor
    shown: range | None = None
    context: Tensor | None = None


@dataclass(frozen=True)
class SampledChunk:
    """A chunk between sampling and decoding.

    latents: (B, C, T, h, w) float32. shown: which of its frames will be shown. dtype: what the
    generator computed in. audio_finite: whether its audio context was, a boolean on the device.
    """

    latents: Tensor
    shown: range
    dtype: torch.dtype
    audio_finite: Tensor | None = None


def plan_stream(
    generator: Generator, variant: str, settings: Settings, shape: Sequence[int]
) -> SamplingPlan:
    """The sampling plan for latents of a shape (B, C, T, h, w), with the variant's defaults."""
    defaults = VARIANTS[variant]
    return plan_sampling(
        generator,
        shape,
        settings.steps or defaults.steps,
        settings.shift,
        sampler=defaults.sampler,
        guidance=defaults.guidance if settings.guidance is None else settings.guidance,
    )


@dataclass(frozen=True)
class ChunkSampler:
    """First half of the loop: audio and state to latents.

    plan: of all chunks of a run. cache_seconds: past audio that is encoded with each chunk.
    predict: stands before the generator where a host has wrapped it; None is the generator.
    """

    generator: Generator
    audio_encoder: AudioEncoder
    plan: SamplingPlan
    cache_seconds: float
    predict: Predict | None = None
    hooks: Hooks = NO_HOOKS

    @torch.no_grad()
    def sample(self, audio: ChunkAudio, state: StreamState) -> tuple[SampledChunk, StreamState]:
        """The next chunk's latents, and the state with its audio taken in and its noise drawn."""
        context, state = self.encode_audio(audio, state)
        generator, geometry = self.generator, self.generator.config.geometry
        reference = generator.backend.to(state.portrait.latents, torch.float32)
        noise, rng = draw_noise(state.rng, self.plan.draws, tuple(reference.shape[1:]))
        pinned = reference.device.type == "cuda"
        noise = noise.pin_memory() if pinned else noise
        # Others, such as MPS, may read what is not pinned when something else is there already.
        noise = noise.to(reference.device, non_blocking=pinned)
        self.hooks.stage("noise")
        condition = generator.embed_audio(context)
        self.hooks.stage("conditioning")
        latents = sample_latents(
            self.predict or generator,
            self.plan,
            condition,
            reference,
            generator.backend.to(state.motion, torch.float32),
            noise,
            lambda done, steps: self.hooks.step(state.index, done, steps),
        )
        self.hooks.stage("sample")
        new = range(geometry.motion_frames, geometry.frames)
        shown = new if audio.shown is None else audio.shown
        sampled = SampledChunk(latents, shown, generator.backend.dtype, all_finite(context))
        return sampled, replace(state, rng=rng)

    @torch.no_grad()
    def encode_audio(self, audio: ChunkAudio, state: StreamState) -> tuple[Tensor, StreamState]:
        """A chunk's audio context (B, frames, 5, layers, channels), and the state whose cache has
        its samples."""
        geometry = self.generator.config.geometry
        missing = max(0, geometry.new_samples - audio.samples.shape[-1])
        samples = functional.pad(audio.samples, (0, missing))
        state = replace(state, audio=state.audio.resized(self.cache_seconds).push(samples))
        context = audio.context
        if context is None:
            context = state.audio.context(self.audio_encoder, geometry.frames)
        self.hooks.stage("audio")
        return context, state


@torch.no_grad()
def decode_and_encode(
    vae: VAE,
    geometry: ChunkGeometry,
    latents: Tensor,
    colors: ColorTarget,
    strength: float,
    hooks: Hooks = NO_HOOKS,
) -> tuple[Tensor, Tensor]:
    """A chunk's latents (B, C, T, h, w) to its video (B, 3, frames, H, W) with matched colours, and
    the motion latents (B, C, m, h, w) that the next chunk starts from."""
    video = vae.decode(latents)
    hooks.stage("decode")
    video = match_color(video, colors.to(video.device), strength)
    hooks.stage("color")
    motion = vae.encode(video[:, :, -geometry.motion_frames :])
    hooks.stage("encode")
    return video, motion


@dataclass(frozen=True)
class ChunkDecoder:
    """Second half of the loop: latents to frames, and the state to go on from.

    color_match: strength of the colour matching, 0 (off) to 1. seam_fade: frames over which the
    jump at a chunk's first new frame fades out, 0 for none.
    """

    vae: VAE
    geometry: ChunkGeometry
    color_match: float
    seam_fade: int
    hooks: Hooks = NO_HOOKS

    @torch.no_grad()
    def decode(self, sampled: SampledChunk, state: StreamState) -> tuple[Tensor, StreamState]:
        """The shown frames (B, n, H, W, 3) float32 in [0, 1], and the next chunk's state.

        Raises:
            NonFiniteError: NaN or infinity in the frames or in what the next chunk starts from.
        """
        colors, repeated = state.portrait.color, self.geometry.motion_frames
        video, motion = decode_and_encode(
            self.vae, self.geometry, sampled.latents, colors, self.color_match, self.hooks
        )
        frames = ((video + 1) / 2).clamp(0, 1).permute(0, 2, 3, 4, 1)
        last = None
        if self.seam_fade:
            frames = fade_seam(frames, state.shown, repeated, self.seam_fade)
            # Not a view, which would keep the whole chunk.
            last = frames[:, -1].clone(memory_format=torch.contiguous_format)
        # Waits for the device, so it stands at the end. The frames hide infinity: they are clamped.
        if not bool(all_finite(video) & all_finite(motion)):
            network, dtype = "VAE decoder", self.vae.dtype
            if sampled.audio_finite is not None and not sampled.audio_finite:
                network, dtype = "audio encoder", AUDIO_DTYPE
            elif not all_finite(sampled.latents):
                network, dtype = "generator", sampled.dtype
            elif all_finite(video):
                network = "VAE encoder"
            raise non_finite(f"Chunk {state.index}", network, dtype, video.device)
        wanted = frames[:, sampled.shown.start : sampled.shown.stop]
        return wanted, replace(state, motion=motion, index=state.index + 1, shown=last)


class ChunkLoop:
    """Makes the chunks of a run: `start` gives a state, `step` a chunk and the next state.

    Args:
        bundle: networks and limits.
        settings: of the run; what is None in them is the checkpoint's or the variant's own.
        sessions: how many portraits are made side by side.
        predict: stands before the generator where a host has wrapped it.
        hooks: see `Hooks`.

    Raises:
        SizeError: a frame size that the checkpoint cannot make.
    """

    def __init__(
        self,
        bundle: Bundle,
        settings: Settings,
        *,
        sessions: int = 1,
        predict: Predict | None = None,
        hooks: Hooks = NO_HOOKS,
    ):
        self.bundle, self.settings, self.geometry = bundle, settings, bundle.geometry
        self.size = settings.size or bundle.native_size
        shape = (sessions, *self.geometry.latent_shape(self.size))
        # One for all of a run's calls, where it is not the caller's own already.
        vae = bundle.vae
        self.vae = vae if isinstance(vae, FrugalVAE) else FrugalVAE(vae)
        plan = plan_stream(bundle.generator, bundle.variant, settings, shape)
        cache, encoder = settings.cache_seconds, bundle.audio_encoder
        self.sampler = ChunkSampler(bundle.generator, encoder, plan, cache, predict, hooks)
        fade = native_fade(bundle.limits) if settings.seam_fade is None else settings.seam_fade
        self.decoder = ChunkDecoder(self.vae, self.geometry, settings.color_match, fade, hooks)

    def start(self, portraits: Tensor, seeds: int | tuple[int, ...] | None = None) -> StreamState:
        """The state before the first chunk of portraits (3, H, W) or (B, 3, H, W) in [-1, 1].

        seeds: one for each portrait; None is the settings' seed, for one portrait.
        """
        seeds = self.settings.seed if seeds is None else seeds
        return start_stream(self._condition(portraits), seeds, self.settings.cache_seconds)

    def switch(self, state: StreamState, portrait: Tensor) -> StreamState:
        """The same stream with another portrait (3, H, W) in [-1, 1] from the next chunk on."""
        return switch_portrait(state, self._condition(portrait))

    def _condition(self, portraits: Tensor) -> PortraitCondition:
        condition = encode_portrait(self.vae, self.geometry, portraits)
        for portrait in portraits if portraits.ndim == 4 else portraits.unsqueeze(0):
            for text in portrait_warnings(self.bundle.limits, portrait):
                warnings.warn(text, PortraitWarning, stacklevel=4)
        return condition

    def step(
        self, audio: ChunkAudio, state: StreamState, recall: Recall | None = None
    ) -> tuple[Tensor, StreamState]:
        """One chunk: its shown frames (B, n, H, W, 3) float32 in [0, 1], and the next state.

        Raises `NonFiniteError`, as `ChunkDecoder.decode` does.
        """
        recall = recall or (lambda _, compute: compute())
        sampled, state = recall("sample", lambda: self.sampler.sample(audio, state))
        return recall("decode", lambda: self.decoder.decode(sampled, state))
