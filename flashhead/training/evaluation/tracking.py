"""Tracking a head: its pose in each frame, relative to the portrait.

A pose is (right, down, roll): a shift in pixels and a turn in radians, clockwise, about a centre.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..faces.head_pose import undo_pose

LUMA = (0.299, 0.587, 0.114)


def luma(frames: Tensor) -> Tensor:
    """(..., 3) sRGB in [0, 1] -> (...) brightness in [0, 1]."""
    return frames @ frames.new_tensor(LUMA)


def centre_of(rigid: Tensor) -> tuple[float, float]:
    """The (row, column) that a head turns about: the middle of its rigid part (H, W)."""
    rows, columns = (torch.arange(n, dtype=rigid.dtype) for n in rigid.shape)
    total = rigid.sum()
    return (
        float((rigid.sum(1) * rows).sum() / total),
        float((rigid.sum(0) * columns).sum() / total),
    )


def track_pose(
    frames: Tensor, portrait: Tensor, rigid: Tensor, reach: int = 8, refinements: int = 6
) -> Tensor:
    """The pose of the head in each frame, relative to the portrait.

    The pose is the one at which the portrait's rigid part differs least from the frame, in
    squares: the best shift of whole pixels, then refined with the roll by Gauss-Newton steps.

    Args:
        frames: (T, H, W, 3) in [0, 1].
        portrait: (H, W, 3) in [0, 1].
        rigid: (H, W) weights.
        reach: the farthest shift that is tried, in pixels.
        refinements: Gauss-Newton steps.

    Returns:
        (T, 3): right and down in pixels, roll in radians, about `centre_of(rigid)`.
    """
    image, template = luma(frames), luma(portrait)
    shift = _whole_shift(image, template, rigid, reach)
    pose = torch.cat([shift, torch.zeros(len(shift), 1)], dim=1)
    down, right = torch.gradient(template)
    centre = centre_of(rigid)
    rows, columns = (torch.arange(n) - c for n, c in zip(rigid.shape, centre, strict=True))
    turn = down * columns[None, :] - right * rows[:, None]
    slopes = torch.stack([right, down, turn]) * rigid.sqrt()
    curvature = torch.einsum("ihw,jhw->ij", slopes, slopes)
    inverse = torch.linalg.inv(curvature + torch.diag(1e-6 * curvature.diagonal() + 1e-9))
    limit = torch.tensor([1.0, 1.0, 0.2])
    low, high = pose - limit, pose + limit
    for _ in range(refinements):
        error = (undo_pose(image[..., None], pose, centre)[..., 0] - template) * rigid.sqrt()
        step = torch.einsum("ihw,thw->ti", slopes, error) @ inverse
        pose = torch.minimum(torch.maximum(pose - step, low), high)
    return pose


def _whole_shift(image: Tensor, template: Tensor, rigid: Tensor, reach: int) -> Tensor:
    """The best shift in whole pixels (T, 2), right and down, by correlation."""
    size = (template.shape[0] + 2 * reach, template.shape[1] + 2 * reach)
    span = torch.arange(-reach, reach + 1)

    def correlate(a: Tensor, b: Tensor) -> Tensor:
        """Sum over x of a(x + shift) b(x), at shifts -reach to reach."""
        product = torch.fft.rfft2(a, size) * torch.fft.rfft2(b, size).conj()
        return torch.fft.irfft2(product, size)[..., span[:, None], span[None, :]]

    # Sum of rigid (frame(x + s) - portrait(x))^2 without its constant. The mean is taken out first:
    # the frame's edge is padded with zeros, which then are the average.
    centre = (template * rigid).sum() / rigid.sum()
    image, template = image - centre, template - centre
    cost = correlate(image.square(), rigid) - 2 * correlate(image, rigid * template)
    best = cost.flatten(1).argmin(1)
    return torch.stack([best % len(span), best // len(span)], dim=1).to(image) - reach
