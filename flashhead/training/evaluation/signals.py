"""Comparing two signals in time: correlation and lag."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def correlation(a: Tensor, b: Tensor) -> float:
    """Pearson's correlation of two (N,) signals; 0 if one of them is constant.

    Raises:
        ValueError: unequal lengths, or fewer than two values.
    """
    if a.shape != b.shape or a.ndim != 1 or len(a) < 2:
        raise ValueError(f"Signals of shapes {tuple(a.shape)} and {tuple(b.shape)}.")
    a, b = (x.double() - x.double().mean() for x in (a, b))
    energy = (a.square().sum() * b.square().sum()).sqrt()
    return float((a * b).sum() / energy) if energy > 1e-12 else 0.0


@dataclass(frozen=True)
class Sync:
    """Lip sync: correlation at no lag, and at the lag (in frames, positive when the picture is
    late) where it is highest."""

    correlation: float
    lag: int
    at_lag: float


def lip_sync(truth: Tensor, measured: Tensor, reach: int = 8) -> Sync:
    """Compare a true openness (N,) with a measured one, at lags of up to `reach` frames."""

    def at(lag: int) -> float:
        late, early = (max(lag, 0), max(-lag, 0))
        count = len(truth) - late - early
        return correlation(truth[early : early + count], measured[late : late + count])

    lags = [lag for lag in range(-reach, reach + 1) if len(truth) - abs(lag) >= 2]
    best = max(lags, key=lambda lag: (at(lag), -abs(lag)))
    return Sync(at(0), best, at(best))


def moving_mean(values: Tensor, width: int) -> Tensor:
    """Means of (N,) values over `width` neighbours, (N - width + 1,)."""
    return values.unfold(0, width, 1).mean(1)


def psnr(squared_error: Tensor) -> Tensor:
    """Decibels of mean squared errors against a peak of 1; at most 100."""
    return -10 * torch.log10(squared_error.clamp_min(1e-10))
