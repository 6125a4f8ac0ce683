"""A drawn head whose mouth and sway are known exactly."""

import math

import torch
from torch import Tensor

from flashhead.metrics.regions import Regions

SIDE = 64
FRAMES = 200


def _ellipse(y: float, x: float, height: float, width: float) -> Tensor:
    """An anti-aliased ellipse's cover (SIDE, SIDE), half-axes in pixels."""
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    near = ((rows - y) / max(height, 1e-3)) ** 2 + ((columns - x) / max(width, 1e-3)) ** 2
    return ((1 - near.sqrt()) * min(height, width) + 0.5).clamp(0, 1)


def _paint(image: Tensor, cover: Tensor, color: tuple[float, float, float]) -> Tensor:
    return image + cover[..., None] * (torch.tensor(color) - image)


def draw(openness: float = 0.0, down: float = 0.0, right: float = 0.0, width: float = 1.0):
    """One frame (SIDE, SIDE, 3); openness 1 is a mouth 10 pixels high."""
    ramp = torch.linspace(0.55, 0.85, SIDE)
    image = torch.stack([ramp[None, :].expand(SIDE, SIDE), ramp[:, None].expand(SIDE, SIDE)], 2)
    image = torch.cat([image, torch.full((SIDE, SIDE, 1), 0.7)], 2)
    y, x = 32 + down, 32 + right
    image = _paint(image, _ellipse(y, x, 22, 17), (0.85, 0.65, 0.55))
    for side in (-7, 7):
        image = _paint(image, _ellipse(y - 7, x + side, 2.5, 3.5), (0.98, 0.98, 0.98))
        image = _paint(image, _ellipse(y - 7, x + side, 2, 2), (0.2, 0.15, 0.1))
    image = _paint(image, _ellipse(y, x, 4, 1.5), (0.75, 0.55, 0.45))
    mouth = (y + 10, x)
    image = _paint(image, _ellipse(*mouth, 2.5 + 5 * openness, 8 * width), (0.7, 0.3, 0.3))
    if openness > 0.06:
        image = _paint(image, _ellipse(*mouth, 5 * openness, 6.5 * width), (0.12, 0.03, 0.04))
    return image


def regions() -> Regions:
    eyes = torch.zeros(SIDE, SIDE)
    eyes[20:30, 18:46] = 1
    mouth = torch.zeros(SIDE, SIDE)
    mouth[33:52, 22:43] = 1
    return Regions.of(_ellipse(32, 32, 22, 17), mouth, eyes)


def speech(frames: int = FRAMES, seed: int = 0, *, pauses: bool = True) -> Tensor:
    """An openness that looks like talk: smoothed noise with pauses, in [0, 1]."""
    rng = torch.Generator().manual_seed(seed)
    noise = torch.rand(frames + 4, generator=rng)
    smooth = noise.unfold(0, 5, 1).mean(1)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    pause = (torch.arange(frames) // 25) % 4 == (3 if pauses else -1)
    return torch.where(pause, torch.zeros(()), smooth)


def sway(frames: int = FRAMES) -> tuple[Tensor, Tensor]:
    """Down and right, in pixels, not whole ones."""
    time = torch.arange(frames)
    return 1.5 * torch.sin(time * 2 * math.pi / 61), 2.5 * torch.sin(time * 2 * math.pi / 83)


def video(truth: Tensor, *, moving: bool = True, width: Tensor | None = None) -> Tensor:
    down, right = sway(len(truth)) if moving else (torch.zeros(len(truth)),) * 2
    width = torch.ones(len(truth)) if width is None else width
    return torch.stack(
        [
            draw(float(o), float(d), float(r), float(w))
            for o, d, r, w in zip(truth, down, right, width, strict=True)
        ]
    )
