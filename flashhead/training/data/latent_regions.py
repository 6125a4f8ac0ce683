"""Region masks of pixels, averaged to the resolution of the latents."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def pool_region(mask: Tensor, stride: tuple[int, int, int]) -> Tensor:
    """The share of the pixels that each latent codes which lie in a region.

    Args:
        mask: (B, 1, frames, H, W) in [0, 1], frames = 1 + n * stride[0].
        stride: pixels per latent in (t, h, w).

    Returns:
        (B, 1, 1 + n, H / stride, W / stride) in [0, 1]; the first latent frame codes one frame.

    Raises:
        ValueError: frames, height or width that do not fit the stride.
    """
    frames, height, width = mask.shape[2:]
    if (frames - 1) % stride[0] or height % stride[1] or width % stride[2]:
        raise ValueError(
            f"A region of {frames} frames at {width}x{height} does not fit latents of stride "
            f"{stride}."
        )
    # The first frame alone is a group: it is repeated to the length of the others.
    whole = functional.pad(mask, (0, 0, 0, 0, stride[0] - 1, 0), mode="replicate")
    return functional.avg_pool3d(whole, stride)
