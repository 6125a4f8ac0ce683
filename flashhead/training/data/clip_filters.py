"""Which stretches of real video are worth training on: the paper's filters that need no model.

Frames are (T, H, W, 3) uint8, sound (N,) float32 at 16 kHz.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ...geometry import FPS, SAMPLES_PER_FRAME

_THUMB = 16
_HASH = 8


@dataclass(frozen=True)
class FilterSettings:
    """least_seconds: of a stretch without a cut. least_side: of the picture in pixels.

    cut: mean change of brightness between frames, in [0, 1], that is a scene cut if it also is
    `cut_ratio` times the change around it. voiced: least share of frames with sound; silence: RMS
    of a frame under which there is none. duplicate: fingerprints that differ in no more than this
    share of their bits are of one video.
    """

    least_seconds: float = 3.0
    least_side: int = 256
    cut: float = 0.08
    cut_ratio: float = 4.0
    voiced: float = 0.2
    silence: float = 0.003
    duplicate: float = 0.06


def thumbnails(frames: Tensor, side: int = _THUMB) -> Tensor:
    """Brightness (T, side, side) in [0, 1]."""
    weights = torch.tensor([0.299, 0.587, 0.114])
    luma = torch.stack([frame.float() @ weights for frame in frames]) / 255
    return functional.adaptive_avg_pool2d(luma.unsqueeze(1), side)[:, 0]


def scene_cuts(thumbs: Tensor, settings: FilterSettings = FilterSettings()) -> list[int]:
    """Frames that begin a new scene, of thumbnails (T, h, w)."""
    if len(thumbs) < 2:
        return []
    change = thumbs.diff(dim=0).abs().mean(dim=(1, 2))
    around = functional.pad(change.view(1, 1, -1), (4, 4), "replicate").unfold(2, 9, 1)[0, 0]
    usual = around.median(dim=1).values
    found = (change > settings.cut) & (change > settings.cut_ratio * usual)
    return (found.nonzero()[:, 0] + 1).tolist()


def stretches(
    frames: int, cuts: Sequence[int], settings: FilterSettings = FilterSettings()
) -> list[tuple[int, int]]:
    """(start, stop) of what lies between cuts and is long enough."""
    edges = [0, *cuts, frames]
    least = round(settings.least_seconds * FPS)
    return [(a, b) for a, b in zip(edges, edges[1:], strict=False) if b - a >= least]


def is_large_enough(height: int, width: int, settings: FilterSettings = FilterSettings()) -> bool:
    return min(height, width) >= settings.least_side


def is_voiced(waveform: Tensor, settings: FilterSettings = FilterSettings()) -> bool:
    """Whether enough of the sound is louder than silence."""
    whole = len(waveform) // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME
    if not whole:
        return False
    loudness = waveform[:whole].view(-1, SAMPLES_PER_FRAME).square().mean(dim=1).sqrt()
    return float((loudness > settings.silence).float().mean()) >= settings.voiced


def fingerprint(frames: Tensor) -> Tensor:
    """(256,) bool of a video: whether brightness rises from pixel to pixel, at four moments.

    It survives scaling and compression.
    """
    moments = torch.linspace(0, len(frames) - 1, 4).round().long()
    thumbs = thumbnails(frames[moments], _HASH + 1)
    return (thumbs[:, :_HASH, 1:] > thumbs[:, :_HASH, :-1]).flatten()


class Duplicates:
    """Recognises videos that came before."""

    def __init__(self, settings: FilterSettings = FilterSettings(), seen: Iterable[Tensor] = ()):
        self._limit = settings.duplicate
        self._seen = list(seen)

    def is_new(self, print_: Tensor) -> bool:
        """Whether no fingerprint so far is like this one, which is remembered."""
        if self._seen:
            differing = (torch.stack(self._seen) != print_).float().mean(dim=1)
            if bool((differing <= self._limit).any()):
                return False
        self._seen.append(print_)
        return True
