"""How far a mouth is open, measured in the pixels, in the face's own frame.

The inside of an open mouth is dark. In the middle columns of the mouth region the dark pixels are
counted, so the result is a height: how wide the mouth is does not enter.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .regions import Regions
from .tracking import centre_of, luma, put_back, track_pose

MIDDLE = 0.3


@dataclass(frozen=True)
class MouthMeter:
    """What counts as dark in one portrait's mouth.

    box: top, bottom, left, right of the columns that are read. dark: brightness in [0, 1] at which
    a pixel counts half; softness: from there to counting fully or not at all.
    """

    box: tuple[int, int, int, int]
    dark: float
    softness: float

    @classmethod
    def of(cls, portrait: Tensor, regions: Regions, inside: float | None = None) -> MouthMeter:
        """For a portrait (H, W, 3) in [0, 1] with a closed mouth.

        The limit lies half-way between the darkest part of the closed mouth (its lip line, the 2nd
        percentile) and the mouth's `inside`, by default 0.4 of that.
        """
        top, bottom, left, right = regions.mouth_box
        closed = luma(portrait)[top:bottom, left:right].flatten()
        lips = float(closed.quantile(0.02))
        inside = 0.4 * lips if inside is None else inside
        trim = round((right - left) * (1 - MIDDLE) / 2)
        return cls((top, bottom, left + trim, right - trim), (lips + inside) / 2, (lips - inside))

    def read(self, frames: Tensor) -> Tensor:
        """Height of the dark (T,) in pixels, of frames (T, H, W, 3) with the head in its place."""
        top, bottom, left, right = self.box
        brightness = luma(frames[:, top:bottom, left:right])
        share = ((self.dark - brightness) / self.softness + 0.5).clamp(0, 1)
        return share.sum(1).mean(1)


def openness(
    frames: Tensor, portrait: Tensor, regions: Regions, pose: Tensor | None = None
) -> Tensor:
    """Mouth openness (T,) in pixels of frames (T, H, W, 3); `pose` None means to track it."""
    if pose is None:
        pose = track_pose(frames, portrait, regions.rigid)
    placed = put_back(frames, pose, centre_of(regions.rigid))
    return MouthMeter.of(portrait, regions).read(placed)
