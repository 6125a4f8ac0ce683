"""3-D rotary position embedding in real arithmetic (DESIGN §1.2, step 4)."""

import torch
from torch import Tensor

THETA = 10_000.0


def rotary_table(grid: tuple[int, int, int], head_dim: int, device: torch.device) -> Tensor:
    """Cosine and sine of every token's angles, for a grid of (t, h, w) tokens in that order.

    Of a head's `head_dim // 2` rotated pairs, a third (rounded down) follows the height, a third
    the width and the rest the time, each with frequencies of its own.

    Returns (2, t*h*w, head_dim // 2) float32: cosines, sines.
    """
    pairs = head_dim // 2
    split = (pairs - 2 * (pairs // 3), pairs // 3, pairs // 3)
    # float64 on the CPU: the angles reach hundreds of radians, and the table is built once.
    positions = torch.cartesian_prod(*(torch.arange(n, dtype=torch.float64) for n in grid))
    exponents = (torch.arange(count, dtype=torch.float64) / count for count in split)
    axes = zip(positions.unbind(1), exponents, strict=True)
    angles = torch.cat([torch.outer(axis, THETA**-exponent) for axis, exponent in axes], dim=1)
    return torch.stack([angles.cos(), angles.sin()]).float().to(device)


def rotate(x: Tensor, table: Tensor, heads: int) -> Tensor:
    """Turn each head's consecutive pairs of `x` (B, L, heads * head_dim) by the table's angles."""
    even, odd = x.float().unflatten(-1, (heads, -1, 2)).unbind(-1)
    cos, sin = table.unsqueeze(-2)
    rotated = torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1)
    return rotated.flatten(-3).to(x.dtype)
