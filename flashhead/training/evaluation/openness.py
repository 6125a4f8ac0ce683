"""How far a mouth is open, measured in the pixels, in the face's own frame.

In the middle columns of the mouth region the pixels are counted that have a colour of a mouth's
inside, so the result is a height: how wide the mouth is does not enter.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..faces.head_pose import undo_pose
from .regions import Regions
from .tracking import centre_of, track_pose

Color = tuple[float, float, float]

INSIDE: tuple[Color, ...] = ((0.22, 0.05, 0.07),)
"""The dark of it. Teeth and tongue come and go with the vowel, so counting them is less linear."""
MIDDLE = 0.3
LEAST = 0.15


@dataclass(frozen=True)
class MouthMeter:
    """What counts as a mouth's inside in one portrait.

    box: top, bottom, left, right of the pixels that are read. inside: (colours, 3) sRGB in [0, 1].
    limits: (colours,), the distance in RGB from each at which a pixel does not count any more; up
    to there its share falls linearly, as that of a pixel at an edge does.
    """

    box: tuple[int, int, int, int]
    inside: Tensor
    limits: Tensor

    @classmethod
    def of(
        cls, portrait: Tensor, regions: Regions, inside: tuple[Color, ...] = INSIDE
    ) -> MouthMeter:
        """For a portrait (H, W, 3) in [0, 1] with a closed mouth.

        Each limit is the distance of what comes nearest to a colour in the closed mouth's
        surroundings (2nd percentile), such as lips or a beard. A colour that they have themselves
        is left out, but never all of them.
        """
        top, bottom, left, right = regions.mouth_box
        trim = round((right - left) * (1 - MIDDLE) / 2)
        box = (top, bottom, left + trim, right - trim)
        colors = portrait.new_tensor(inside)
        distances = _distances(portrait[None], box, colors).flatten(0, 2)
        limits = distances.quantile(0.02, dim=0)
        kept = (limits > LEAST) | (limits == limits.max())
        return cls(box, colors[kept], limits[kept].clamp_min(1e-6))

    def read(self, frames: Tensor) -> Tensor:
        """Height of the inside (T,) in pixels, of frames (T, H, W, 3) with the head in place."""
        distances = _distances(frames, self.box, self.inside) / self.limits
        share = (1 - distances.amin(3)).clamp(0, 1)
        return share.sum(1).mean(1)


def _distances(frames: Tensor, box: tuple[int, int, int, int], colors: Tensor) -> Tensor:
    """Of each pixel in the box from each colour, (T, rows, columns, colours)."""
    top, bottom, left, right = box
    pixels = frames[:, top:bottom, left:right, None]
    return torch.linalg.vector_norm(pixels - colors, dim=4)


def openness(
    frames: Tensor, portrait: Tensor, regions: Regions, pose: Tensor | None = None
) -> Tensor:
    """Mouth openness (T,) in pixels of frames (T, H, W, 3); `pose` None means to track it."""
    if pose is None:
        pose = track_pose(frames, portrait, regions.rigid)
    placed = undo_pose(frames, pose, centre_of(regions.rigid))
    return MouthMeter.of(portrait, regions).read(placed)
