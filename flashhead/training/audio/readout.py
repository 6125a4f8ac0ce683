"""Supervised pre-training of the audio encoder on speech whose mouth is known.

The encoder hears what the audio cache holds at inference: 8 s that end anywhere in a clip, with
silence before its start. What it learns there is kept, and the read-out is thrown away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...geometry import CHUNK_FRAMES, FPS, SAMPLES_PER_FRAME
from ...models.wav2vec2 import AudioEncoder
from ...stream.audio_context import CACHE_SECONDS
from ..data.encoded_clips import heard_samples


class MouthReadout(nn.Module):
    """Features (B, frames, layers, channels) -> openness and width (B, frames, 2).

    A linear map of each layer, and their mean: every layer must carry the mouth by itself, since
    the generator gets them all.
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
    """waveform (B, N) at 16 kHz, as the cache holds it; mouth (B, frames, 2) in [0, 1]."""

    waveform: Tensor
    mouth: Tensor

    def to(self, device: torch.device | str) -> SpeechBatch:
        """The same on another device."""
        return SpeechBatch(self.waveform.to(device), self.mouth.to(device))


def heard_mouth(mouth: Tensor, end: int, cache_seconds: float = CACHE_SECONDS) -> Tensor:
    """The mouth beside `heard_samples`: (F, 2) -> (cache frames, 2), closed (0, as the first
    frame's width) before the clip, and held after its end."""
    length = round(cache_seconds * FPS)
    frames = torch.arange(end - length, end)
    heard = mouth[frames.clamp(0, len(mouth) - 1)].clone()
    heard[frames < 0, 0] = 0
    return heard


def draw_speech(
    clips: Sequence[tuple[Tensor, Tensor]],
    rng: torch.Generator,
    *,
    noise: float = 0.02,
    cache_seconds: float = CACHE_SECONDS,
) -> SpeechBatch:
    """A training batch: each clip's cache at a random moment, some of them noisy.

    Args:
        clips: (speech (N,) at 16 kHz, mouth (F, 2)) each.
        noise: the largest standard deviation of white noise, relative to the speech's.
    """
    waveforms, mouths = [], []
    for speech, mouth in clips:
        end = 1 + int(torch.randint(len(mouth), (), generator=rng))
        heard = heard_samples(speech, end, cache_seconds)
        level = noise * float(torch.rand((), generator=rng)) * heard.std()
        waveforms.append(heard + level * torch.randn(heard.shape, generator=rng))
        mouths.append(heard_mouth(mouth, end, cache_seconds))
    return SpeechBatch(torch.stack(waveforms), torch.stack(mouths))


def read_mouth(encoder: AudioEncoder, readout: MouthReadout, waveform: Tensor) -> Tensor:
    """Openness and width (B, frames, 2) heard in (B, N) at 16 kHz, with gradients."""
    return readout(encoder.encode(waveform, waveform.shape[1] // SAMPLES_PER_FRAME))


def readout_losses(
    predicted: Tensor, mouth: Tensor, *, tail_weight: float = 1.0, temporal_weight: float = 1.0
) -> dict[str, Tensor]:
    """Squared errors of (B, frames, 2), by name, and their weighted sum as "loss".

    "tail" is the error over a chunk's frames at the end, which are those that the generator gets
    and that have the least future; "temporal" is that of the frame-to-frame differences.
    """
    error = predicted - mouth
    parts = {
        "mouth": error.square().mean(),
        "tail": error[:, -CHUNK_FRAMES:].square().mean(),
        "temporal": error.diff(dim=1).square().mean(),
    }
    total = parts["mouth"] + tail_weight * parts["tail"] + temporal_weight * parts["temporal"]
    return {"loss": total, **parts}
