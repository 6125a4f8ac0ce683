"""Signals in time: correlation, lag, smoothing, and errors in decibels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


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
    """Lip sync. correlation: without a lag. lag: in frames, the one with the highest correlation,
    positive when the picture is late. at_lag: that correlation."""

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


def smooth(values: Tensor, frames: float) -> Tensor:
    """Values (..., T) smoothed by a Gaussian of a standard deviation of `frames`; beyond the ends
    the first and last value are repeated."""
    reach = max(1, math.ceil(3 * frames))
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / frames) ** 2)
    flat = functional.pad(values.reshape(-1, 1, values.shape[-1]), (reach, reach), "replicate")
    return functional.conv1d(flat, (kernel / kernel.sum()).view(1, 1, -1)).view(values.shape)


def psnr(squared_error: Tensor) -> Tensor:
    """PSNR in dB, at most 100, of mean squared errors of values in [0, 1]."""
    return -10 * torch.log10(squared_error.clamp_min(1e-10))
