"""From values per frame to the figures of a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ...geometry import FPS
from ..signals import Sync, lip_sync
from .frames import FrameMeasures

STILL = 0.1 / 255
FROZEN_FRAMES = 5
BLACK = 0.02
CLIPPED_MORE = 0.3
CLOSED = 0.05


@dataclass(frozen=True)
class Drift:
    """How much PSNR is lost over a video, in dB.

    early: the mean over the second that begins at second 5 (or earlier in a shorter video). late:
    over the last second.
    """

    early: float
    late: float

    @property
    def loss(self) -> float:
        return self.early - self.late


def drift(psnr: Tensor, early_second: float = 5.0) -> Drift:
    """The drift of a PSNR in dB for each frame (T,)."""
    start = min(round(early_second * FPS), max(0, len(psnr) - FPS))
    return Drift(float(psnr[start : start + FPS].mean()), float(psnr[-FPS:].mean()))


def seam_ratio(change: Tensor, starts: Sequence[int]) -> float:
    """Mean difference where a chunk begins, over the mean difference elsewhere.

    change: (T,), to the frame before. starts: first frames of chunks; frame 0 is no seam. 1 is a
    stream without seams; NaN without any seam, or when nothing moves elsewhere.
    """
    seam = torch.zeros(len(change), dtype=torch.bool)
    seam[[s for s in starts if 0 < s < len(change)]] = True
    ordinary = ~seam
    ordinary[0] = False
    if not bool(seam.any()) or not bool(change[ordinary].sum() > 0):
        return float("nan")
    return float(change[seam].mean() / change[ordinary].mean())


def frozen_frames(change: Tensor, least: int = FROZEN_FRAMES) -> int:
    """Frames in runs of at least `least` that do not differ from the frame before."""
    total = run = 0
    for still in [*(change < STILL).tolist(), False]:
        if still:
            run += 1
            continue
        total += run if run >= least else 0
        run = 0
    return total


@dataclass(frozen=True)
class Summary:
    """The figures of one video.

    sync: None without a true openness. closed_in_silence: measured openness where the true one is
    shut, over that where it is open by half or more (0 is shut); NaN without such frames.
    flicker: mean difference between frames in the background, in 1/255.
    """

    frames: int
    sync: Sync | None
    closed_in_silence: float
    identity: Drift
    background: Drift
    seams: float
    flicker: float
    frozen: int
    black: int
    saturated: int

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is not a number becomes None."""
        values = asdict(self)
        for name in ("identity", "background"):
            values[name]["loss"] = getattr(self, name).loss
        return _without_nan(values)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(v) for key, v in value.items()}
    return None if isinstance(value, float) and value != value else value


def summarize(
    measures: FrameMeasures,
    *,
    truth: Tensor | None = None,
    starts: Sequence[int] = (),
    portrait_clipped: float = 0.0,
) -> Summary:
    """Figures from a video's measures.

    Args:
        truth: openness (T,) in [0, 1] that the audio asks for.
        starts: first frames of the chunks.
        portrait_clipped: share of the portrait's pixels at an end of their range; a frame is
            saturated when it has 0.3 more than that.
    """
    sync, closed = None, float("nan")
    if truth is not None:
        count = min(len(truth), len(measures))
        truth, opened = truth[:count], measures.openness[:count]
        sync = lip_sync(truth, opened)
        shut, wide = truth <= CLOSED, truth >= 0.5 * truth.max()
        if bool(shut.any()) and bool(wide.any()) and bool(truth.max() > CLOSED):
            closed = float(opened[shut].mean() / opened[wide].mean().clamp_min(1e-6))
    return Summary(
        frames=len(measures),
        sync=sync,
        closed_in_silence=closed,
        identity=drift(measures.identity),
        background=drift(measures.background),
        seams=seam_ratio(measures.change, starts),
        flicker=255 * float(measures.flicker.nanmean()),
        frozen=frozen_frames(measures.change),
        black=int((measures.brightness < BLACK).sum()),
        saturated=int((measures.clipped > portrait_clipped + CLIPPED_MORE).sum()),
    )
