"""What a small checkpoint was trained on, which forbids another size and other faces.

A bundle's metadata may say it. The published checkpoints say nothing: they are 512x512 and take any
portrait.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import CheckpointError
from ..geometry import LONGEST_SEAM_FADE
from ..variants import REPOSITORY

PUBLISHED_SIZE = (512, 512)
_SIDE = 12
# Root mean square difference of thumbnails, in [0, 1]. Faces of the pocket checkpoint that move and
# speak stay below 0.14 of their own picture; photographs are above 0.25 of all.
_FOREIGN = 0.16


def thumbnail(portrait: Tensor) -> bytes:
    """What a portrait (3, H, W) in [-1, 1] is known by: 12x12 pixels of 8 bits, channels first."""
    small = functional.adaptive_avg_pool2d(portrait.float().cpu(), _SIDE)
    return small.add(1).mul(127.5).round().clamp(0, 255).byte().numpy().tobytes()


@dataclass(frozen=True)
class Trained:
    """size: (height, width) in pixels, the only one that it can make well. faces: thumbnails.
    seam_fade: frames that its seams are best faded over, 0 for none."""

    size: tuple[int, int]
    faces: tuple[bytes, ...]
    seam_fade: int = 0

    def to_metadata(self) -> dict[str, Any]:
        return {
            "size": list(self.size),
            "faces": [face.hex() for face in self.faces],
            "seam_fade": self.seam_fade,
        }

    @classmethod
    def from_metadata(cls, value: Mapping[str, Any], where: str) -> Trained:
        """Raises `CheckpointError`."""
        try:
            height, width = map(int, value["size"])
            faces = tuple(bytes.fromhex(face) for face in value["faces"])
            fade = int(value.get("seam_fade", 0))
        except (KeyError, TypeError, ValueError) as error:
            raise _unreadable(where) from error
        whole = {len(face) for face in faces} == {3 * _SIDE**2}
        if min(height, width) < 1 or not whole or fade not in range(LONGEST_SEAM_FADE + 1):
            raise _unreadable(where)
        return cls((height, width), faces, fade)

    def knows(self, portrait: Tensor) -> bool:
        """Whether a portrait (3, H, W) in [-1, 1] is one of the faces, or close to one."""
        seen = _values(thumbnail(portrait))
        differences = (_values(b"".join(self.faces)).view(-1, len(seen)) - seen).square().mean(1)
        return bool(differences.min() <= _FOREIGN**2)


def _values(face: bytes) -> Tensor:
    return torch.frombuffer(bytearray(face), dtype=torch.uint8).float() / 255


def _unreadable(where: str) -> CheckpointError:
    return CheckpointError(
        f"{where}: what the bundle says of its training is no size with thumbnails of faces "
        "and a fade of its seams; convert it anew."
    )


def native_size(trained: Trained | None) -> tuple[int, int]:
    """(height, width) that a checkpoint makes best."""
    return PUBLISHED_SIZE if trained is None else trained.size


def native_fade(trained: Trained | None) -> int:
    """Frames that a checkpoint's seams are faded over, unless something else is asked for."""
    return 0 if trained is None else trained.seam_fade


def portrait_warnings(trained: Trained | None, portrait: Tensor) -> list[str]:
    """Why a checkpoint cannot animate a portrait (3, H, W) in [-1, 1], a sentence each."""
    if trained is None:
        return []
    height, width = portrait.shape[1:]
    if (height, width) != trained.size:
        return [
            f"This small checkpoint was trained at {trained.size[1]}x{trained.size[0]} alone, and "
            f"the portrait is {width}x{height}; use that size, or Lite ({REPOSITORY}) for larger "
            "ones."
        ]
    if trained.knows(portrait):
        return []
    return [
        "This small checkpoint animates the drawn faces that come with it, and the portrait is "
        f"none of them; for photographs use Lite: {REPOSITORY}."
    ]
