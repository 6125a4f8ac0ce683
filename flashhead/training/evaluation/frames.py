"""Measures of each frame of a video, taken block by block; summaries are made from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ..faces.head_pose import undo_pose
from ..signals import psnr
from .openness import INSIDE, Color, MouthMeter
from .regions import Regions
from .tracking import centre_of, luma, track_pose


@dataclass(frozen=True)
class FrameMeasures:
    """A value for each of T frames.

    openness: of the mouth, in pixels. pose: (T, 3) of the head, see `track_pose`. identity: PSNR in
    dB of the head's rigid part against the portrait's, after the head's movement is undone.
    background: PSNR in dB of the background. change: mean absolute difference to the frame before,
    in [0, 1]; the first frame's is NaN. flicker: the change in the background alone. brightness:
    mean in [0, 1]. clipped: share of pixels with a channel at an end of its range, in [0, 1].
    """

    openness: Tensor
    pose: Tensor
    identity: Tensor
    background: Tensor
    change: Tensor
    flicker: Tensor
    brightness: Tensor
    clipped: Tensor

    def __len__(self) -> int:
        return len(self.openness)


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """Means over (T, H, W) by a mask (H, W)."""
    return (values * mask).sum((1, 2)) / mask.sum()


def measure_frames(
    blocks: Iterable[Tensor],
    portrait: Tensor,
    regions: Regions,
    *,
    inside: tuple[Color, ...] = INSIDE,
) -> FrameMeasures:
    """Measure a video given in blocks of frames (n, H, W, 3) in [0, 1]; memory is one block's.

    Args:
        portrait: (H, W, 3) in [0, 1], mouth closed.
        inside: sRGB colours of the mouth's inside in [0, 1].
    """
    meter = MouthMeter.of(portrait, regions, inside)
    parts: list[FrameMeasures] = []
    before: Tensor | None = None
    for block in blocks:
        frames = block.detach().to("cpu", torch.float32)
        pose = track_pose(frames, portrait, regions.rigid)
        aligned = undo_pose(frames, pose, centre_of(regions.rigid))
        first = frames[:1] if before is None else before
        change = (frames - torch.cat([first, frames[:-1]])).abs().mean(3)
        moved, flicker = change.mean((1, 2)), _mean(change, regions.background)
        if before is None:
            moved[0] = flicker[0] = torch.nan
        error = (aligned - portrait).square().mean(3)
        still = (frames - portrait).square().mean(3)
        clipped = ((frames <= 0.5 / 255) | (frames >= 254.5 / 255)).any(3).float()
        parts.append(
            FrameMeasures(
                openness=meter.read(aligned),
                pose=pose,
                identity=psnr(_mean(error, regions.rigid)),
                background=psnr(_mean(still, regions.background)),
                change=moved,
                flicker=flicker,
                brightness=luma(frames).mean((1, 2)),
                clipped=clipped.mean((1, 2)),
            )
        )
        before = frames[-1:]
    if not parts:
        raise ValueError("The video has no frames.")
    return FrameMeasures(
        **{f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(FrameMeasures)}
    )
