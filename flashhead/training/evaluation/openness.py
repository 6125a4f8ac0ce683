"""How far a mouth is open, measured in the pixels after the head's movement is undone.

In the middle columns of the mouth region, the pixels with a colour of a mouth's inside are counted.
So the result is a height, and does not depend on the mouth's width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .regions import Regions

Color = tuple[float, float, float]

INSIDE: tuple[Color, ...] = ((0.22, 0.05, 0.07),)
"""Its dark. Which teeth and how much of the tongue show depends on the vowel; counting them too
would be less linear in the openness."""
MIDDLE = 0.3
LEAST = 0.15


@dataclass(frozen=True)
class MouthMeter:
    """What counts as a mouth's inside in one portrait.

    box: top, bottom, left, right of the pixels that are read. inside: (colours, 3) sRGB in [0, 1].
    limits: (colours,) distances in RGB. A pixel of the very colour counts 1, one at this distance
    from it 0, and linearly between, as a pixel at the mouth's edge is a mixture of colours.
    """

    box: tuple[int, int, int, int]
    inside: Tensor
    limits: Tensor

    @classmethod
    def of(
        cls, portrait: Tensor, regions: Regions, inside: tuple[Color, ...] = INSIDE
    ) -> MouthMeter:
        """For a portrait (H, W, 3) in [0, 1] with a closed mouth.

        A colour's limit is its distance from the most similar pixels of the closed mouth (the 2nd
        percentile), such as lips or a beard. A colour that the closed mouth itself has is left out,
        but never all of them.
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
        """Height of the inside (T,) in pixels, of frames (T, H, W, 3) in [0, 1] without head
        movement."""
        distances = _distances(frames, self.box, self.inside) / self.limits
        share = (1 - distances.amin(3)).clamp(0, 1)
        return share.sum(1).mean(1)


def _distances(frames: Tensor, box: tuple[int, int, int, int], colors: Tensor) -> Tensor:
    """Of each pixel in the box from each colour, (T, rows, columns, colours)."""
    top, bottom, left, right = box
    pixels = frames[:, top:bottom, left:right, None]
    return torch.linalg.vector_norm(pixels - colors, dim=4)
