"""Filters of real video: those of the paper that need no model (DESIGN §1.8).

Frames are (T, H, W, 3) uint8, sound (N,) float32 at 16 kHz.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ...geometry import FPS, SAMPLES_PER_FRAME

_THUMB = 16
_HASH = 8
FINGERPRINT_SIDE = _HASH + 1


@dataclass(frozen=True)
class FilterSettings:
    """What a video must have to be kept.

    least_seconds: of a scene. least_side: of the picture in pixels. cut: a scene cut is where the
    mean change of brightness between two frames, in [0, 1], is above this and above `cut_ratio`
    times the median change of the frames around it. voiced: least share of frames with sound;
    silence: RMS below which a frame has none. duplicate: two videos are the same if their
    fingerprints differ in at most this share of the bits.
    """

    least_seconds: float = 3.0
    least_side: int = 256
    cut: float = 0.08
    cut_ratio: float = 4.0
    voiced: float = 0.2
    silence: float = 0.003
    duplicate: float = 0.06


def thumbnails(frames: Tensor, side: int = _THUMB) -> Tensor:
    """Brightness (T, side, side) in [0, 1] of frames (T, H, W, 3) uint8."""
    weights = torch.tensor([0.299, 0.587, 0.114])
    luma = torch.stack([frame.float() @ weights for frame in frames]) / 255
    return functional.adaptive_avg_pool2d(luma.unsqueeze(1), side)[:, 0]


def scene_cuts(thumbs: Tensor, settings: FilterSettings = FilterSettings()) -> list[int]:
    """Numbers of the frames that begin a new scene, from thumbnails (T, h, w)."""
    if len(thumbs) < 2:
        return []
    change = thumbs.diff(dim=0).abs().mean(dim=(1, 2))
    around = functional.pad(change.view(1, 1, -1), (4, 4), "replicate").unfold(2, 9, 1)[0, 0]
    usual = around.median(dim=1).values
    found = (change > settings.cut) & (change > settings.cut_ratio * usual)
    return (found.nonzero()[:, 0] + 1).tolist()


def scenes(frames: int, cuts: Sequence[int]) -> list[tuple[int, int]]:
    """(start, stop) of the frames between cuts."""
    edges = [0, *cuts, frames]
    return list(zip(edges, edges[1:], strict=False))


def is_long_enough(frames: int, settings: FilterSettings = FilterSettings()) -> bool:
    return frames >= round(settings.least_seconds * FPS)


def is_large_enough(height: int, width: int, settings: FilterSettings = FilterSettings()) -> bool:
    return min(height, width) >= settings.least_side


def is_voiced(waveform: Tensor, settings: FilterSettings = FilterSettings()) -> bool:
    """Whether enough frames of the sound are louder than silence."""
    whole = len(waveform) // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME
    if not whole:
        return False
    loudness = waveform[:whole].view(-1, SAMPLES_PER_FRAME).square().mean(dim=1).sqrt()
    return float((loudness > settings.silence).float().mean()) >= settings.voiced


def fingerprint(thumbs: Tensor) -> Tensor:
    """A difference hash of a video, (256,) bool: whether brightness rises from pixel to pixel, in
    four frames spread over it. Scaling and compression hardly change it.

    thumbs: (T, 9, 9), as `thumbnails` makes them with `FINGERPRINT_SIDE`.
    """
    moments = torch.linspace(0, len(thumbs) - 1, 4).round().long()
    thumbs = thumbs[moments]
    return (thumbs[:, :_HASH, 1:] > thumbs[:, :_HASH, :-1]).flatten()


class Duplicates:
    """Finds videos that are copies of earlier ones, by their fingerprints."""

    def __init__(self, settings: FilterSettings = FilterSettings()):
        self._limit = settings.duplicate
        self._seen: list[Tensor] = []

    def is_new(self, bits: Tensor) -> bool:
        """Whether a fingerprint is unlike all earlier ones; if so, it is remembered."""
        if self._seen:
            differing = (torch.stack(self._seen) != bits).float().mean(dim=1)
            if bool((differing <= self._limit).any()):
                return False
        self._seen.append(bits)
        return True
