"""The audio cache of mode "stream", and the audio context that each frame sees (DESIGN §1.3)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import AudioError
from ..geometry import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from ..models.wav2vec2 import AudioEncoder

CACHE_SECONDS = 8.0
HALF_WINDOW = 2


def frame_context(features: Tensor, start: int, count: int) -> Tensor:
    """Each frame's features with two frames before and after, indices clamped to the clip.

    features (B, frames, layers, channels) -> (B, count, 5, layers, channels).
    """
    centres = torch.arange(start, start + count, device=features.device)
    offsets = torch.arange(-HALF_WINDOW, HALF_WINDOW + 1, device=features.device)
    indices = (centres[:, None] + offsets).clamp(0, features.shape[1] - 1)
    return features[:, indices]


@dataclass(frozen=True)
class AudioContextCache:
    """The last seconds of audio, (B, N) at 16 kHz. Pushing gives a new cache.

    It lives on the CPU and starts as silence. The whole of it is encoded for every chunk, so that
    features have the same amount of past whether a chunk is the first or the thousandth.
    """

    samples: Tensor

    @classmethod
    def silent(cls, batch: int = 1, seconds: float = CACHE_SECONDS) -> AudioContextCache:
        """A cache of silence; `seconds` is rounded to whole frames (1/25 s)."""
        frames = round(seconds * FPS)
        return cls(torch.zeros(batch, frames * SAMPLES_PER_FRAME, dtype=torch.float32))

    @property
    def seconds(self) -> float:
        return self.samples.shape[1] / SAMPLE_RATE

    def resized(self, seconds: float) -> AudioContextCache:
        """The last `seconds` of it, rounded to whole frames; silence first, where it is shorter."""
        length = round(seconds * FPS) * SAMPLES_PER_FRAME
        missing = length - self.samples.shape[1]
        if missing == 0:
            return self
        return replace(self, samples=functional.pad(self.samples, (missing, 0)))

    def push(self, samples: Tensor) -> AudioContextCache:
        """Append (N,) or (B, N) new samples and forget as many of the oldest."""
        new = samples.to(self.samples).expand(self.samples.shape[0], -1)
        kept = self.samples.shape[1]
        return replace(self, samples=torch.cat([self.samples, new], dim=1)[:, -kept:])

    def context(self, encoder: AudioEncoder, frames: int) -> Tensor:
        """Context of the last `frames` frames: (B, frames, 5, layers, channels).

        Raises:
            AudioError: the cache is shorter than that.
        """
        total = self.samples.shape[1] // SAMPLES_PER_FRAME
        if frames > total:
            raise AudioError(
                f"The audio cache holds {self.seconds:g} s, less than the {frames / FPS:g} s of a "
                f"chunk; give it at least that (the model was trained with {CACHE_SECONDS:g} s)."
            )
        features = encoder.encode(self.samples, total)
        return frame_context(features, total - frames, frames)
