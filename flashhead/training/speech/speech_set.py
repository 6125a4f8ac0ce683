"""A data set of speech and the mouth that belongs to it, without pictures, in one file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from ...geometry import FPS
from ..files import save_tensors
from ..settings import Settings
from .tracks import SpeechSettings, SpeechTrack, speech_track

SpeechSet = list[tuple[Tensor, Tensor]]
"""(waveform (N,) at 16 kHz, openness and width (F, 2)) of each track."""


class SpeechSetSettings(Settings):
    """How many tracks, of how many seconds each, from which seed.

    held_out: voices and sentences that training never uses.
    """

    tracks: int = 400
    seconds: float = 12.0
    seed: int = 1
    held_out: bool = False


def make_speech_set(
    settings: SpeechSetSettings,
    path: str | Path,
    make: Callable[[int, torch.Generator, SpeechSettings], SpeechTrack] = speech_track,
) -> SpeechSet:
    """Synthesise the tracks and store them in a file, or read the file if it is there already.

    Args:
        settings: which tracks; track n depends on the seed and n alone.
        path: of the safetensors file, in float16.
        make: makes a track from its number of frames, random numbers and settings.
    """
    path = Path(path)
    if not path.is_file():
        frames = round(settings.seconds * FPS)
        spoken = []
        for number in range(settings.tracks):
            rng = torch.Generator().manual_seed(settings.seed * 1_000_003 + number)
            spoken.append(make(frames, rng, SpeechSettings(held_out=settings.held_out)))
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {
            name: torch.stack([getattr(track, name) for track in spoken]).half()
            for name in ("waveform", "openness", "width")
        }
        save_tensors(path, tensors)
    stored = load_file(path)
    mouths = torch.stack([stored["openness"], stored["width"]], dim=2).float()
    return list(zip(stored["waveform"].float(), mouths, strict=True))
