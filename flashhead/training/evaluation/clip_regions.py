"""The regions of a clip's portrait, from the masks and poses of the clip's frames."""

from __future__ import annotations

import torch
from torch import Tensor

from ..data.clips import Clip
from ..faces.head_pose import undo_pose
from .regions import Regions, grow
from .tracking import centre_of, track_pose

STILL = 3 / 255


def portrait_image(clip: Clip) -> Tensor:
    """(H, W, 3) in [0, 1]."""
    return clip.portrait.float() / 255


def clip_frames(clip: Clip) -> Tensor:
    """(T, H, W, 3) in [0, 1]."""
    return clip.video.float() / 255


def regions_of_clip(clip: Clip, most: int = 100) -> Regions:
    """The regions of a clip's portrait, from at most `most` of its frames.

    The face is that of the frame whose pose is nearest to the portrait's. Mouth and eyes are the
    union of their masks in all these frames, with the head's movement undone. The background is
    what does not change in the clip: hair and shoulders may move too.

    Raises:
        ValueError: the clip does not know its masks or its pose, or a region is empty.
    """
    for name in ("mouth", "face", "pose"):
        if getattr(clip, name) is None:
            raise ValueError(f"The clip does not know its {name}; its regions cannot be found.")
    assert clip.pose is not None  # as the loop has checked
    count = min(most, clip.frames)
    picks = torch.linspace(0, clip.frames - 1, count).long()
    frames, portrait = clip_frames(clip)[picks], portrait_image(clip)
    masks = {
        name: getattr(clip, name)[picks].float() / 255
        for name in ("mouth", "face", "eyes")
        if getattr(clip, name) is not None
    }
    scale = torch.tensor([1.0, 1.0, portrait.shape[0] / 4])  # a turn moves what is far out
    nearest = int((clip.pose[picks].float() * scale).norm(dim=1).argmin())
    face = masks["face"][nearest]
    moving = masks["mouth"] if "eyes" not in masks else masks["mouth"].maximum(masks["eyes"])
    rough = face * (1 - grow(moving.amax(0), 3))
    pose = track_pose(frames, portrait, rough)
    centre = centre_of(rough)

    def reach(name: str) -> Tensor:
        return undo_pose(masks[name][..., None], pose, centre)[..., 0].amax(0)

    mouth = reach("mouth")
    regions = Regions.of(face, mouth, reach("eyes") if "eyes" in masks else None)
    changed = (frames.amax(0) - frames.amin(0)).amax(2) > STILL
    differs = (frames.mean(0) - portrait).abs().amax(2) > STILL
    still = 1 - grow((changed | differs).float(), 1)
    background = torch.minimum(regions.background, still)
    if not bool((background > 0.5).any()):
        raise ValueError("Everything moves in the clip: it has no background to measure.")
    return Regions(mouth, face, regions.rigid, background)
