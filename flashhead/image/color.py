"""Colour matching: every frame gets the portrait's mean and deviation in Lab (DESIGN §1.5)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# sRGB primaries with the D65 white point; XYZ is held relative to white throughout.
_WHITE = np.array([0.95047, 1.0, 1.08883])
_RGB_TO_XYZ = [
    [0.4124564, 0.3575761, 0.1804375],
    [0.2126729, 0.7151522, 0.0721750],
    [0.0193339, 0.1191920, 0.9503041],
] / _WHITE[:, None]
_XYZ_TO_RGB = _WHITE * [
    [3.2404542, -1.5371385, -0.4985314],
    [-0.9692660, 1.8760108, 0.0415560],
    [0.0556434, -0.2040259, 1.0572252],
]
_EPSILON = 0.008856
_KAPPA = 903.3

# Pixels matched at a time: few enough that intermediate results stay in a CPU's cache (three times
# faster) and take little memory, enough to fill a GPU.
_PIXELS_AT_ONCE = 2**20


def _mix(matrix: np.ndarray, x: Tensor) -> Tensor:
    """Matrix (3, 3) times the channel axis of (B, 3, T, H, W).

    Written out with plain numbers: a tensor of weights would have to be sent to the device, and
    matrix products may be set to less than float32's precision.
    """
    a, b, c = x.unbind(1)
    rows = matrix.tolist()
    return torch.stack([torch.add(p * a, b, alpha=q).add(c, alpha=r) for p, q, r in rows], dim=1)


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """sRGB (B, 3, T, H, W) in [0, 1] -> CIE Lab of the same shape, L in 0 to 100."""
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = _mix(_RGB_TO_XYZ, linear).clamp(1e-8, 1.0)
    f = torch.where(xyz > _EPSILON, xyz ** (1 / 3), (_KAPPA * xyz + 16) / 116)
    x, y, z = f.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """CIE Lab (B, 3, T, H, W) -> sRGB of the same shape, clamped to [0, 1]."""
    lightness, a, b = lab.unbind(1)
    y = (lightness + 16) / 116
    f = torch.stack([y + a / 500, y, y - b / 200], dim=1)
    cube = f**3
    # For y this threshold is the usual L > kappa * epsilon.
    xyz = torch.where(cube > _EPSILON, cube, (116 * f - 16) / _KAPPA)
    linear = _mix(_XYZ_TO_RGB, xyz)
    curved = 1.055 * linear.clamp_min(0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(linear > 0.0031308, curved, 12.92 * linear).clamp(0, 1)


@dataclass(frozen=True)
class ColorTarget:
    """Lab mean and standard deviation of a portrait, each (B, 3, 1, 1, 1)."""

    mean: Tensor
    std: Tensor

    def to(self, device: torch.device) -> ColorTarget:
        """A copy on another device."""
        return ColorTarget(self.mean.to(device), self.std.to(device))


def color_target(portrait: Tensor) -> ColorTarget:
    """The colours to match: portrait (B, 3, 1, H, W) in [-1, 1]."""
    return ColorTarget(*_statistics(rgb_to_lab((portrait.float() + 1) / 2)))


def _statistics(lab: Tensor) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(lab, dim=(3, 4), correction=0, keepdim=True)
    return mean, variance.sqrt()


def match_color(video: Tensor, target: ColorTarget, strength: float = 1.0) -> Tensor:
    """Give every frame of (B, 3, T, H, W) in [-1, 1] the target's colours.

    Each frame's Lab mean and standard deviation become the target's; the result is blended in RGB
    by `strength` (0 keeps the video as it is, 1 replaces it). Computed and returned in float32.
    Raises `ValueError` for another strength.
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"The colour matching strength is {strength}; expected 0 to 1.")
    if strength == 0:
        return video.float()
    b, _, _, h, w = video.shape
    group = max(1, _PIXELS_AT_ONCE // (b * h * w))
    groups = video.split(group, dim=2)
    return torch.cat([_match(frames, target, strength) for frames in groups], dim=2)


def _match(video: Tensor, target: ColorTarget, strength: float) -> Tensor:
    rgb = (video.float() + 1) / 2
    lab = rgb_to_lab(rgb)
    mean, std = _statistics(lab)
    std = torch.where(std < 1e-8, torch.ones_like(std), std)
    matched = lab_to_rgb((lab - mean) * (target.std / std) + target.mean)
    return torch.lerp(rgb, matched, strength) * 2 - 1
