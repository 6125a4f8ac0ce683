"""The read-out, batches and losses of the audio encoder's supervised pre-training.

The encoder gets what the audio cache holds at inference: 8 s that end anywhere in a clip, with
silence before its start. The read-out predicts the mouth from its features, and is not kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...geometry import CHUNK_FRAMES, FPS, SAMPLES_PER_FRAME
from ...models.wav2vec2 import AudioEncoder
from ...stream.audio_context import CACHE_SECONDS
from ..data.encoded_clips import cached_samples


class MouthReadout(nn.Module):
    """Features (B, frames, layers, channels) -> openness and width (B, frames, 2).

    The mean of one linear map for each layer, so that every layer learns to encode the mouth: the
    generator gets them all.
    """

    def __init__(self, layers: int, channels: int):
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(channels, 2) for _ in range(layers))

    def forward(self, features: Tensor) -> Tensor:
        layers = features.unbind(dim=2)
        read = [layer_map(x) for layer_map, x in zip(self.maps, layers, strict=True)]
        return torch.stack(read).mean(dim=0)


@dataclass(frozen=True)
class SpeechBatch:
    """waveform: (B, N) at 16 kHz, the contents of audio caches. mouth: (B, frames, 2), openness and
    width in [0, 1] of the frames that they span."""

    waveform: Tensor
    mouth: Tensor

    def to(self, device: torch.device | str) -> SpeechBatch:
        """The same on another device."""
        return SpeechBatch(self.waveform.to(device), self.mouth.to(device))


def cached_mouth(mouth: Tensor, end: int, cache_seconds: float = CACHE_SECONDS) -> Tensor:
    """The mouth at the frames that `cached_samples` spans: (F, 2) -> (cache frames, 2).

    Before the clip it is closed and as wide as in the first frame; after its end it stays as it is
    in the last.
    """
    length = round(cache_seconds * FPS)
    frames = torch.arange(end - length, end)
    known = mouth[frames.clamp(0, len(mouth) - 1)].clone()
    known[frames < 0, 0] = 0
    return known


def draw_speech(
    clips: Sequence[tuple[Tensor, Tensor]],
    rng: torch.Generator,
    *,
    noise: float = 0.02,
    cache_seconds: float = CACHE_SECONDS,
) -> SpeechBatch:
    """A training batch: the cache at a random moment of each clip, with noise of random strength.

    Args:
        clips: (speech (N,) at 16 kHz, mouth (F, 2)) each.
        noise: the largest standard deviation of white noise, relative to the speech's.
    """
    waveforms, mouths = [], []
    for speech, mouth in clips:
        end = 1 + int(torch.randint(len(mouth), (), generator=rng))
        samples = cached_samples(speech, end, cache_seconds)
        level = noise * float(torch.rand((), generator=rng)) * samples.std()
        waveforms.append(samples + level * torch.randn(samples.shape, generator=rng))
        mouths.append(cached_mouth(mouth, end, cache_seconds))
    return SpeechBatch(torch.stack(waveforms), torch.stack(mouths))


def read_mouth(encoder: AudioEncoder, readout: MouthReadout, waveform: Tensor) -> Tensor:
    """Openness and width (B, frames, 2) predicted from (B, N) at 16 kHz, with gradients."""
    return readout(encoder.encode(waveform, waveform.shape[1] // SAMPLES_PER_FRAME))


def readout_losses(
    predicted: Tensor, mouth: Tensor, *, tail_weight: float = 1.0, temporal_weight: float = 1.0
) -> dict[str, Tensor]:
    """Squared errors of (B, frames, 2), by name, and their weighted sum as "loss".

    "mouth" is over all frames. "tail" is over the last 33, a chunk's: the only ones that the
    generator gets, and those with the least audio after them. "temporal" is the error of the
    differences between neighbouring frames.
    """
    error = predicted - mouth
    parts = {
        "mouth": error.square().mean(),
        "tail": error[:, -CHUNK_FRAMES:].square().mean(),
        "temporal": error.diff(dim=1).square().mean(),
    }
    total = parts["mouth"] + tail_weight * parts["tail"] + temporal_weight * parts["temporal"]
    return {"loss": total, **parts}
