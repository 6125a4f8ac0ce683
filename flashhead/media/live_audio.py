"""Live audio from a client, cut into chunks as its samples arrive in blocks of any length."""

from __future__ import annotations

import time
from array import array
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..errors import AudioError
from ..geometry import FPS, SAMPLE_RATE, ChunkGeometry, frame_count
from .audio_source import loudness_warning, peak_of
from .resample import StreamResampler

SAMPLE_KINDS: dict[str, np.dtype[Any]] = {"float32": np.dtype("<f4"), "int16": np.dtype("<i2")}
RATES = range(8_000, 192_001)

# What is done with audio that comes faster than it is rendered: the oldest goes, or all waits.
LATE = ("drop", "keep")
# Whole chunks that wait under "drop"; more would only make the answer later.
WAITING_CHUNKS = 2
LONGEST_WAIT = 120.0  # seconds of audio that may wait under "keep"


@dataclass(frozen=True)
class Piece:
    """The audio of one chunk.

    speech: (n,) float32 at 16 kHz, for the audio encoder; a chunk's samples or, at the end, fewer.
    frames: how many frames of video it makes. sound: the same stretch as the client sent it, to
    be played with them. complete_at: when its last sample came, by time.perf_counter(). warning:
    of samples far above full scale until then, or nothing.
    """

    speech: torch.Tensor
    frames: int
    sound: np.ndarray
    complete_at: float
    warning: str


class LiveAudio:
    """Takes blocks of samples of any length and gives pieces; not safe from several threads.

    rate: of the samples, Hz. kind: a key of SAMPLE_KINDS. late: one of LATE.
    """

    def __init__(self, rate: int, kind: str, late: str, geometry: ChunkGeometry) -> None:
        self.rate = rate
        self.dropped = 0.0  # seconds that were thrown away because rendering is too slow
        self._kind, self._drops = SAMPLE_KINDS[kind], late == LATE[0]
        self._geometry = geometry
        self._sound, self._speech = array(self._kind.char), array("f")
        # Not `resample_to_speech`, which may hold seconds back.
        self._resampler = StreamResampler(rate, SAMPLE_RATE) if rate != SAMPLE_RATE else None
        self._taken = 0  # samples of sound in pieces that were given or dropped
        self._pieces = 0
        self._peak = 0.0  # of all sound so far
        self._complete_at: deque[float] = deque()  # of each whole piece that waits

    def push(self, data: bytes) -> None:
        """Takes raw little-endian mono samples.

        Raises `AudioError` for half a sample, one that is NaN, infinite or above `HIGHEST`, or if
        too much waits.
        """
        if len(data) % self._kind.itemsize:
            raise AudioError(
                f"The message has {len(data)} bytes, which is no whole number of {self._kind.name} "
                "samples; send raw little-endian mono samples."
            )
        speech = torch.from_numpy(np.frombuffer(data, self._kind).astype(np.float32))
        if self._kind.kind == "i":
            speech /= 2**15
        if len(speech):
            at = self._taken + len(self._sound)
            self._peak = max(self._peak, peak_of(speech, "the audio", at, self.rate))
        self._sound.frombytes(data)
        self._add_speech(speech if self._resampler is None else self._resampler.push(speech))
        while self._drops and self.waiting > WAITING_CHUNKS:
            self.dropped += len(self.take().sound) / self.rate
        if len(self._sound) > LONGEST_WAIT * self.rate:
            raise AudioError(
                f"More than {LONGEST_WAIT:g} s of sound wait to be rendered; send it as fast as "
                "chunks come back."
            )

    @property
    def waiting(self) -> int:
        """Whole pieces that wait."""
        return len(self._complete_at)

    def take(self) -> Piece:
        """The oldest whole piece. Raises `IndexError` if none waits."""
        complete_at = self._complete_at.popleft()
        speech = torch.from_numpy(_take(self._speech, self._geometry.new_samples))
        sound = _take(self._sound, self._end(self._pieces) - self._taken)
        self._taken += len(sound)
        self._pieces += 1
        return Piece(speech, self._geometry.new_frames, sound, complete_at, self._warning)

    def finish(self) -> None:
        """No more audio comes: adds what the resampler holds back."""
        if self._resampler is not None:
            self._add_speech(self._resampler.flush())

    def rest(self) -> Piece | None:
        """What is left after all whole pieces, with what is missing of round(seconds x 25) frames;
        None where none is missing."""
        count = len(self._sound)
        if not count:
            return None
        total = frame_count(self._taken + count, self.rate)
        frames = total - self._pieces * self._geometry.new_frames
        if frames < 1:
            return None
        speech = torch.from_numpy(_take(self._speech, self._geometry.new_samples))
        sound, now = _take(self._sound, count), time.perf_counter()
        return Piece(speech, frames, sound, now, self._warning)

    @property
    def _warning(self) -> str:
        return loudness_warning("the audio", self._peak)

    def _add_speech(self, samples: torch.Tensor) -> None:
        self._speech.frombytes(samples.numpy().tobytes())
        while (
            len(self._speech) >= (self.waiting + 1) * self._geometry.new_samples
            and len(self._sound) >= self._end(self._pieces + self.waiting) - self._taken
        ):
            self._complete_at.append(time.perf_counter())

    def _end(self, piece: int) -> int:
        """Samples of sound until a piece's end, rounded; the pieces together are exact."""
        return ((piece + 1) * self._geometry.new_frames * self.rate + FPS // 2) // FPS


def _take(samples: array[Any], count: int) -> np.ndarray:
    """Removes the first `count` samples, or all if there are fewer, and gives them."""
    taken = np.array(samples[:count])
    del samples[:count]
    return taken
