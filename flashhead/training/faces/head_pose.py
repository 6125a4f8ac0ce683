"""Undoing a head's movement: frames moved back by the head's pose."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def undo_pose(frames: Tensor, pose: Tensor, centre: tuple[float, float]) -> Tensor:
    """Frames with the head moved back to where it would be without its pose.

    Args:
        frames: (T, H, W, C) float.
        pose: (T, 3), the head's shift right and down in pixels and its roll in radians, clockwise.
        centre: (row, column) in pixels that the head turned about.

    Returns:
        (T, H, W, C), interpolated linearly between pixels; edges are repeated outwards.
    """
    _, height, width, _ = frames.shape
    right, down, roll = pose[:, :, None, None].unbind(1)
    rows = (torch.arange(height) - centre[0])[None, :, None]
    columns = (torch.arange(width) - centre[1])[None, None, :]
    # Where a pixel of the portrait has gone; rows count downwards, so this turns clockwise.
    y = centre[0] + down + rows * roll.cos() + columns * roll.sin()
    x = centre[1] + right + columns * roll.cos() - rows * roll.sin()
    grid = torch.stack([2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1], dim=3)
    moved = functional.grid_sample(
        frames.movedim(3, 1), grid.to(frames), padding_mode="border", align_corners=True
    )
    return moved.movedim(1, 3)
