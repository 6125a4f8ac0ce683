"""The regions of a portrait: face, mouth, rigid part of the head, background."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Regions:
    """Masks (H, W) float in [0, 1] over a portrait whose mouth is closed.

    mouth: all that the mouth covers at any openness. face: the head, mouth included. rigid: the
    part of the face that moves with the head alone (no mouth, no eyelids). background: what never
    moves.
    """

    mouth: Tensor
    face: Tensor
    rigid: Tensor
    background: Tensor

    @classmethod
    def of(
        cls, face: Tensor, mouth: Tensor, eyes: Tensor | None = None, margin: int = 4
    ) -> Regions:
        """From masks of face, mouth and eyes (H, W) in [0, 1]. The `margin` pixels around the face
        belong to neither face nor background, because the head moves there.

        Raises:
            ValueError: an empty region.
        """
        moving = mouth if eyes is None else torch.maximum(mouth, eyes)
        rigid = face * (1 - grow(moving, 2))
        regions = cls(mouth, face, rigid, 1 - grow(torch.maximum(face, mouth), margin))
        for name in ("mouth", "face", "rigid", "background"):
            if not bool((getattr(regions, name) > 0.5).any()):
                raise ValueError(f"The region '{name}' is empty; check the masks.")
        return regions

    @property
    def mouth_box(self) -> tuple[int, int, int, int]:
        """Top, bottom, left, right of the mouth's pixels; bottom and right are past the last."""
        rows, columns = (self.mouth > 0.5).nonzero().unbind(1)
        top, bottom = int(rows.min()), int(rows.max()) + 1
        left, right = int(columns.min()), int(columns.max()) + 1
        return top, bottom, left, right


def grow(mask: Tensor, pixels: int) -> Tensor:
    """A mask (H, W) grown by so many pixels in every direction."""
    size = 2 * pixels + 1
    pooled = torch.nn.functional.max_pool2d(mask[None, None], size, stride=1, padding=pixels)
    return pooled[0, 0]
