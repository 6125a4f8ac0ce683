"""A clip of speech cut into chunks: which frames each one adds, and the audio that it needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import AudioError
from ..geometry import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME, ChunkGeometry, frame_count
from ..media.audio_source import AudioSource, speech_blocks
from ..media.resample import speech_length
from ..models.wav2vec2 import AudioEncoder
from .audio_context import CACHE_SECONDS, frame_context
from .loop import ChunkAudio
from .settings import Settings

AUDIO_MODES = ("stream", "once")
"""stream: each chunk is encoded with the past seconds; once: the clip is encoded whole."""


@dataclass(frozen=True)
class ClipPlan:
    """How a clip of `frames` frames is cut; `once`: in that audio mode, whose first chunk is shown
    whole, where in mode "stream" it drops its motion frames like every other."""

    geometry: ChunkGeometry
    frames: int
    once: bool = False

    @property
    def _extra(self) -> int:
        """Frames that the first chunk shows more than the others."""
        return self.geometry.motion_frames if self.once else 0

    @property
    def chunks(self) -> int:
        after_first = max(0, self.frames - self.geometry.new_frames - self._extra)
        return 1 + math.ceil(after_first / self.geometry.new_frames)

    def span(self, chunk: int) -> range:
        """Numbers of the video's frames that a chunk adds."""
        new = self.geometry.new_frames
        start = chunk * new + (self._extra if chunk else 0)
        return range(start, min(self.frames, (chunk + 1) * new + self._extra))

    def shown(self, chunk: int) -> range:
        """Which of a chunk's decoded frames those are; the others repeat or are surplus."""
        skip = 0 if self.once and chunk == 0 else self.geometry.motion_frames
        return range(skip, skip + len(self.span(chunk)))

    def samples(self, chunk: int) -> range:
        """The 16 kHz samples under a chunk's new frames; the last chunk's reach past the clip."""
        start = self.span(chunk).start * SAMPLES_PER_FRAME
        frames = self.geometry.new_frames + (0 if chunk else self._extra)
        return range(start, start + frames * SAMPLES_PER_FRAME)


def is_due(switch: float, frame: int) -> bool:
    """Whether a switch at so many seconds comes at a chunk that starts with this frame, unless it
    came before. 1.12 s is frame 28, though 1.12 x 25 is a little more in floating point."""
    return frame >= switch * FPS - 1e-6


def switch_notes(plan: ClipPlan, times: Sequence[float]) -> tuple[list[str], list[str]]:
    """Sentences about switches at `times`, in seconds: on those that never show, and on those that
    come later than asked for, because a chunk is shown whole."""
    starts = [plan.span(chunk).start for chunk in range(plan.chunks)]
    never, late, following = [], [], None
    for at in sorted(times, reverse=True):
        start = next((start for start in starts if is_due(at, start)), None)
        if start is None:
            why = f"the last chunk starts at {starts[-1] / FPS:g} s"
            never.append(f"The switch at {at:g} s never comes: {why}.")
        elif start == following:
            why = f"another comes at {start / FPS:g} s as well, where the next chunk starts"
            never.append(f"The switch at {at:g} s is never seen: {why}.")
        elif start / FPS - at > 1e-6:
            when = f"comes at {start / FPS:g} s, where the next chunk starts"
            late.append(f"The switch at {at:g} s {when}.")
        following = start
    return never[::-1], late[::-1]


@dataclass(frozen=True)
class SpeechClip:
    """Speech that is in memory, any of whose chunks can be asked for.

    samples: (N,) at 16 kHz mono. frames: of the video it makes. cache_seconds: past audio that is
    encoded with each chunk in mode "stream". features: in mode "once" those of the whole clip,
    (1, frames, layers, channels), padded for chunks of `geometry`.
    """

    samples: Tensor
    frames: int
    cache_seconds: float = CACHE_SECONDS
    features: Tensor | None = None
    geometry: ChunkGeometry | None = None

    @classmethod
    def of(cls, source: AudioSource, cache_seconds: float = CACHE_SECONDS) -> SpeechClip:
        """All of a source, for mode "stream". Raises `AudioError` or `FlashHeadError`."""
        Settings(cache_seconds=cache_seconds)  # checks its range
        count = speech_length(source.samples, source.sample_rate)
        # Filled block by block: an hour takes 230 MB, and not twice that on the way.
        rest = samples = torch.zeros(count, dtype=torch.float32, device="cpu")
        for block in speech_blocks(source, SAMPLE_RATE):
            rest[: len(block)] = block[: len(rest)]
            rest = rest[len(block) :]
        return cls(samples, frame_count(source.samples, source.sample_rate), cache_seconds)

    @torch.no_grad()
    def encoded(self, encoder: AudioEncoder, geometry: ChunkGeometry) -> SpeechClip:
        """The same for mode "once": encoded whole, padded with silence to whole chunks. The
        features are kept on the CPU."""
        first = geometry.frames * SAMPLES_PER_FRAME
        slices = math.ceil(max(0, len(self.samples) - first) / geometry.new_samples)
        missing = first + slices * geometry.new_samples - len(self.samples)
        features = encoder.encode(functional.pad(self.samples, (0, missing))[None]).cpu()
        return replace(self, features=features, geometry=geometry)

    def plan(self, geometry: ChunkGeometry) -> ClipPlan:
        """How it is cut for a generator of such chunks."""
        return ClipPlan(geometry, self.frames, once=self.features is not None)

    def chunk_audio(self, geometry: ChunkGeometry, chunk: int) -> ChunkAudio:
        """What the chunk loop needs for one chunk. Raises `AudioError`, as `check` does."""
        self.check(geometry, chunk)
        plan, context = self.plan(geometry), None
        span = plan.samples(chunk)
        samples = self.samples[span.start : span.stop]
        samples = functional.pad(samples, (0, len(span) - len(samples)))
        if self.features is not None:
            start = chunk * geometry.new_frames
            context = frame_context(self.features, start, geometry.frames)
        return ChunkAudio(samples, plan.shown(chunk), context)

    def check(self, geometry: ChunkGeometry, chunk: int = 0) -> None:
        """Raise `AudioError` unless the clip has this chunk for a generator of such chunks."""
        if self.geometry is not None and self.geometry != geometry:
            raise AudioError(
                f"The audio was encoded whole for chunks of {self.geometry.new_frames} frames, and "
                f"this model makes {geometry.new_frames}; encode it with the audio encoder from "
                "the model's own checkpoint, or in stream mode."
            )
        chunks = self.plan(geometry).chunks
        if not 0 <= chunk < chunks:
            raise AudioError(
                f"Chunk {chunk} was asked for; this audio of {self.frames} frames makes chunks 0 "
                f"to {chunks - 1}."
            )
