"""The limits of a small checkpoint: it makes one frame size, and the faces that it was trained on.

The published checkpoints have no limits: they were trained at 512x512 on all kinds of faces.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..variants import REPOSITORY

PUBLISHED_SIZE = (512, 512)
THUMBNAIL_SIDE = 12
# Largest root mean square difference of two thumbnails of one face, in [0, 1]. Frames of the pocket
# checkpoint's faces are within 0.14 of their own picture; photographs differ from all by over 0.25.
_SAME_FACE = 0.16


def thumbnail(portrait: Tensor) -> bytes:
    """A portrait (3, H, W) in [-1, 1] as (3, 12, 12) bytes: enough to tell two faces apart."""
    small = functional.adaptive_avg_pool2d(portrait.float().cpu(), THUMBNAIL_SIDE)
    return small.add(1).mul(127.5).round().clamp(0, 255).byte().numpy().tobytes()


@dataclass(frozen=True)
class CheckpointLimits:
    """What a small checkpoint was trained on.

    size: (height, width) in pixels, the only one that it makes well. faces: `thumbnail`s of the
    faces. seam_fade: frames over which the jump between two chunks is best faded, 0 for none.
    """

    size: tuple[int, int]
    faces: tuple[bytes, ...]
    seam_fade: int = 0

    def knows(self, portrait: Tensor) -> bool:
        """Whether a portrait (3, H, W) in [-1, 1] is close to one of the faces."""
        own = _pixels(thumbnail(portrait))
        differences = (_pixels(b"".join(self.faces)).view(-1, len(own)) - own).square().mean(1)
        return bool(differences.min() <= _SAME_FACE**2)


def _pixels(face: bytes) -> Tensor:
    return torch.frombuffer(bytearray(face), dtype=torch.uint8).float() / 255


def native_size(limits: CheckpointLimits | None) -> tuple[int, int]:
    """(height, width) in pixels that a checkpoint was trained at."""
    return PUBLISHED_SIZE if limits is None else limits.size


def native_fade(limits: CheckpointLimits | None) -> int:
    """Frames over which the jump between two chunks fades unless the user says otherwise."""
    return 0 if limits is None else limits.seam_fade


def portrait_warnings(limits: CheckpointLimits | None, portrait: Tensor) -> list[str]:
    """Reasons why a checkpoint cannot animate a portrait (3, H, W) in [-1, 1]; a sentence each."""
    if limits is None:
        return []
    height, width = portrait.shape[1:]
    if (height, width) != limits.size:
        return [
            f"This small checkpoint was trained at {limits.size[1]}x{limits.size[0]} alone, and "
            f"the portrait is {width}x{height}; use that size, or Lite ({REPOSITORY}) for larger "
            "ones."
        ]
    if limits.knows(portrait):
        return []
    return [
        "This small checkpoint animates the drawn faces that come with it, and the portrait is "
        f"none of them; for photographs use Lite: {REPOSITORY}."
    ]
