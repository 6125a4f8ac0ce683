"""Following a head that sways: its shift against the portrait, and frames put back in its place."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

LUMA = (0.299, 0.587, 0.114)


def luma(frames: Tensor) -> Tensor:
    """(..., 3) sRGB in [0, 1] -> (...) brightness in [0, 1]."""
    return frames @ frames.new_tensor(LUMA)


def track_shift(
    frames: Tensor, portrait: Tensor, rigid: Tensor, reach: int = 8, refinements: int = 6
) -> Tensor:
    """How far the head has moved from its place in the portrait.

    The shift is the one at which the portrait's rigid part differs least from the frame, in
    squares: the best of whole pixels, then refined between pixels by Gauss-Newton steps.

    Args:
        frames: (T, H, W, 3) in [0, 1].
        portrait: (H, W, 3) in [0, 1].
        rigid: (H, W) weights.
        reach: the farthest shift looked at, in pixels.

    Returns:
        (T, 2): down and right, in pixels.
    """
    image, template = luma(frames), luma(portrait)
    shift = _whole_shift(image, template, rigid, reach)
    slopes = torch.stack(torch.gradient(template)) * rigid.sqrt()
    curvature = torch.einsum("ihw,jhw->ij", slopes, slopes)
    inverse = torch.linalg.inv(curvature + 1e-6 * curvature.trace() * torch.eye(2))
    start = shift
    for _ in range(refinements):
        error = (put_back(image[..., None], shift)[..., 0] - template) * rigid.sqrt()
        step = torch.einsum("ihw,thw->ti", slopes, error) @ inverse
        shift = torch.minimum(torch.maximum(shift - step, start - 1), start + 1)
    return shift


def _whole_shift(image: Tensor, template: Tensor, rigid: Tensor, reach: int) -> Tensor:
    """The best shift in whole pixels (T, 2), by correlation."""
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
    return torch.stack([best // len(span), best % len(span)], dim=1).to(image) - reach


def put_back(frames: Tensor, shift: Tensor) -> Tensor:
    """Frames (T, H, W, C) with the head moved back by `shift` (T, 2), between pixels linearly."""
    _, height, width, _ = frames.shape
    rows = torch.arange(height) + shift[:, :1]
    columns = torch.arange(width) + shift[:, 1:]
    y = 2 * rows / (height - 1) - 1
    x = 2 * columns / (width - 1) - 1
    grid = torch.stack(
        [x[:, None, :].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)], dim=3
    )
    moved = functional.grid_sample(
        frames.movedim(3, 1), grid.to(frames), padding_mode="border", align_corners=True
    )
    return moved.movedim(1, 3)
