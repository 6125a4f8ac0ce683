"""A clip of speech cut into the chunks that it makes, any of which can be asked for.

`generate` streams its audio and holds none of it. This is for a host that has the audio in memory
anyway and makes chunks one by one, in an order and at a time of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import AudioError
from ..geometry import SAMPLE_RATE, SAMPLES_PER_FRAME, ChunkGeometry, frame_count
from ..media.audio_source import AudioSource, speech_blocks
from ..media.resample import speech_length
from ..models.wav2vec2 import AudioEncoder
from .audio_context import CACHE_SECONDS, frame_context
from .generate import AUDIO_MODES, chunk_count, once_samples
from .loop import OnStage, hear_chunk, ignore_stage
from .settings import Settings
from .state import StreamState


@dataclass(frozen=True)
class Speech:
    """What is said, ready to be heard chunk by chunk.

    samples: (N,) at 16 kHz mono. frames: of the video it makes. cache_seconds: the past that
    stream mode hears. features: in once mode those of the whole clip, (1, frames, layers,
    channels), padded for chunks of `geometry`.
    """

    samples: Tensor
    frames: int
    cache_seconds: float = CACHE_SECONDS
    features: Tensor | None = None
    geometry: ChunkGeometry | None = None

    @classmethod
    def of(cls, source: AudioSource, cache_seconds: float = CACHE_SECONDS) -> Speech:
        """All of a source, for stream mode. Raises `AudioError` or `FlashHeadError`."""
        Settings(cache_seconds=cache_seconds)  # checks its range
        count = speech_length(source.samples, source.sample_rate)
        samples = torch.cat(list(speech_blocks(source, SAMPLE_RATE)))[:count]
        return cls(samples, frame_count(source.samples, source.sample_rate), cache_seconds)

    @property
    def mode(self) -> str:
        return AUDIO_MODES[0 if self.features is None else 1]

    @torch.no_grad()
    def encoded(self, encoder: AudioEncoder, geometry: ChunkGeometry) -> Speech:
        """The same for once mode, encoded whole; the features are kept on the CPU."""
        padded = torch.zeros(1, once_samples(geometry, len(self.samples)))
        padded[0, : len(self.samples)] = self.samples
        return replace(self, features=encoder.encode(padded).cpu(), geometry=geometry)

    def chunks(self, geometry: ChunkGeometry) -> int:
        """How many chunks it takes."""
        return chunk_count(geometry, self.frames, self.mode)

    def span(self, geometry: ChunkGeometry, chunk: int) -> range:
        """Numbers of the video's frames that a chunk adds."""
        extra = geometry.motion_frames if self.features is not None else 0
        start = chunk * geometry.new_frames + (extra if chunk else 0)
        return range(start, min(self.frames, (chunk + 1) * geometry.new_frames + extra))

    def new_frames(self, geometry: ChunkGeometry, chunk: int) -> range:
        """Which of a chunk's decoded frames are to be shown; the others repeat or are surplus."""
        whole = self.features is not None and chunk == 0
        skip = 0 if whole else geometry.motion_frames
        return range(skip, skip + len(self.span(geometry, chunk)))

    def heard(self, geometry: ChunkGeometry, chunk: int) -> Tensor:
        """The samples under a chunk's new frames, the last one's filled up with silence."""
        start = self.span(geometry, chunk).start * SAMPLES_PER_FRAME
        whole = self.features is not None and chunk == 0
        count = geometry.frames * SAMPLES_PER_FRAME if whole else geometry.new_samples
        part = self.samples[start : start + count]
        return torch.nn.functional.pad(part, (0, count - len(part)))

    def hear(
        self,
        encoder: AudioEncoder,
        geometry: ChunkGeometry,
        chunk: int,
        state: StreamState,
        on_stage: OnStage = ignore_stage,
    ) -> tuple[Tensor, StreamState]:
        """Audio context of a chunk (1, frames, 5, layers, channels), and the state that heard it.

        Raises `AudioError` for a chunk that is not there, or features for other chunks.
        """
        self.check(geometry, chunk)
        state = replace(state, audio=state.audio.resized(self.cache_seconds))
        samples = self.heard(geometry, chunk)
        if self.features is None:
            return hear_chunk(encoder, geometry, samples, state, on_stage)
        context = frame_context(self.features, chunk * geometry.new_frames, geometry.frames)
        on_stage("audio")
        return context, replace(state, audio=state.audio.push(samples))

    def check(self, geometry: ChunkGeometry, chunk: int = 0) -> None:
        """Raise `AudioError` unless a generator of such chunks can hear this chunk."""
        if self.geometry not in (None, geometry):
            raise AudioError(
                f"The audio was encoded whole for chunks of {self.geometry.new_frames} frames, and "
                f"this model makes {geometry.new_frames}; encode it with the audio encoder from "
                "the model's own checkpoint, or in stream mode."
            )
        if not 0 <= chunk < self.chunks(geometry):
            raise AudioError(
                f"Chunk {chunk} was asked for; this audio of {self.frames} frames makes chunks 0 "
                f"to {self.chunks(geometry) - 1}."
            )
