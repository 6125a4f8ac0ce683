"""A client's sound, cut into the chunks that it makes: what the model hears and what is played."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

import av
import numpy as np
import torch

from ..errors import AudioError
from ..geometry import FPS, SAMPLE_RATE, ChunkGeometry, frame_count

SAMPLE_KINDS = {"float32": np.dtype("<f4"), "int16": np.dtype("<i2")}
RATES = range(8_000, 192_001)

# What a client wants done with sound that comes faster than it is rendered.
LATE = ("drop", "keep")
# Whole chunks that then wait; more would only make the answer later.
WAITING_CHUNKS = 2
LONGEST_WAIT = 120.0  # seconds of sound, where all is kept


@dataclass(frozen=True)
class Piece:
    """The sound of one chunk.

    heard: (n,) float32 at 16 kHz, a chunk's samples or, at the end, fewer. frames: of video that
    it makes. sound: the same stretch as it came. complete: when its last sample came, by
    time.perf_counter().
    """

    heard: torch.Tensor
    frames: int
    sound: np.ndarray
    complete: float


class LiveAudio:
    """Takes blocks of samples of any length and gives pieces; not safe from several threads.

    rate: of the samples, Hz. kind: a key of SAMPLE_KINDS. late: one of LATE.
    """

    def __init__(self, rate: int, kind: str, late: str, geometry: ChunkGeometry):
        self.rate = rate
        self.dropped = 0.0  # seconds that were thrown away because rendering is too slow
        self._kind, self._drops = SAMPLE_KINDS[kind], late == LATE[0]
        self._geometry = geometry
        self._sound, self._heard = _Fifo(self._kind), _Fifo(np.dtype(np.float32))
        self._resampler = None
        if rate != SAMPLE_RATE:
            # Not the library's `resample_to_speech`: it may hold seconds back.
            self._resampler = av.AudioResampler(format="fltp", layout="mono", rate=SAMPLE_RATE)
        self._taken = 0  # samples of sound that pieces, given or dropped, have had
        self._pieces = 0
        self._complete: deque[float] = deque()  # of each whole piece that waits

    def push(self, data: bytes) -> None:
        """Raises `AudioError` where the bytes are no finite samples, or too much is kept."""
        if len(data) % self._kind.itemsize:
            raise AudioError(
                f"The message has {len(data)} bytes, which is no whole number of {self._kind.name} "
                "samples; send raw little-endian mono samples."
            )
        sound = np.frombuffer(data, self._kind)
        heard = sound / np.float32(32768) if self._kind.kind == "i" else sound
        if not np.isfinite(heard).all():
            raise AudioError("The audio has samples that are NaN or infinite.")
        self._sound.put(sound)
        self._hear(heard.astype(np.float32, copy=False))
        while self._drops and self.waiting > WAITING_CHUNKS:
            self.dropped += len(self.take().sound) / self.rate
        if self._sound.count > LONGEST_WAIT * self.rate:
            raise AudioError(
                f"More than {LONGEST_WAIT:g} s of sound wait to be rendered; send it as fast as "
                "chunks come back."
            )

    @property
    def waiting(self) -> int:
        """Whole pieces that wait."""
        return len(self._complete)

    def take(self) -> Piece:
        """The oldest whole piece."""
        heard = self._heard.take(self._geometry.new_samples)
        piece = Piece(
            torch.from_numpy(heard),
            self._geometry.new_frames,
            self._sound.take(self._end(self._pieces) - self._taken),
            self._complete.popleft(),
        )
        self._taken += len(piece.sound)
        self._pieces += 1
        return piece

    def finish(self) -> None:
        """No more comes: what the resampler holds back is heard."""
        if self._resampler is not None and self._taken + self._sound.count:
            self._hear(None)

    def rest(self) -> Piece | None:
        """After all whole pieces, what is left: round(seconds x 25) frames in all."""
        count = self._sound.count
        if not count:
            return None
        frames = frame_count(self._taken + count, self.rate)
        frames -= self._pieces * self._geometry.new_frames
        if frames < 1:
            return None
        heard = self._heard.take(min(self._heard.count, self._geometry.new_samples))
        sound = self._sound.take(count)
        return Piece(torch.from_numpy(heard), frames, sound, time.perf_counter())

    def _hear(self, samples: np.ndarray | None) -> None:
        for block in [samples] if self._resampler is None else self._resampled(samples):
            self._heard.put(block)
        now = time.perf_counter()
        while self._is_whole(self.waiting):
            self._complete.append(now)

    def _resampled(self, samples: np.ndarray | None) -> list[np.ndarray]:
        frame = None
        if samples is not None:
            if not len(samples):
                return []
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(samples)[None], format="fltp", layout="mono"
            )
            frame.sample_rate = self.rate
        return [resampled.to_ndarray()[0] for resampled in self._resampler.resample(frame)]

    def _is_whole(self, ahead: int) -> bool:
        """Whether the piece that many places from here has all its samples."""
        end = self._end(self._pieces + ahead) - self._taken
        return (
            self._sound.count >= end
            and self._heard.count >= (ahead + 1) * self._geometry.new_samples
        )

    def _end(self, piece: int) -> int:
        """Samples of sound until a piece's end, rounded; the pieces together are exact."""
        return ((piece + 1) * self._geometry.new_frames * self.rate + FPS // 2) // FPS


class _Fifo:
    """Samples in, samples out, in other portions."""

    def __init__(self, dtype: np.dtype):
        self.count = 0
        self._blocks: list[np.ndarray] = [np.empty(0, dtype)]

    def put(self, block: np.ndarray) -> None:
        self._blocks.append(block)
        self.count += len(block)

    def take(self, count: int) -> np.ndarray:
        joined = np.concatenate(self._blocks)
        self._blocks = [joined[count:].copy()]
        self.count -= count
        return joined[:count]
