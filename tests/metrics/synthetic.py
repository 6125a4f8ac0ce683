"""A drawn head whose mouth and sway are known exactly."""

import math

import torch
from torch import Tensor

from flashhead.training.evaluation.regions import Regions

SIDE = 64
FRAMES = 200
MIDDLE = 32


def _ellipse(y: float, x: float, height: float, width: float, pose=(0.0, 0.0, 0.0)) -> Tensor:
    """An anti-aliased ellipse's cover (SIDE, SIDE), half-axes in pixels, on a head that has turned
    clockwise about the frame's middle and then shifted."""
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    roll = pose[2]
    down, right = rows - MIDDLE - pose[1], columns - MIDDLE - pose[0]
    rows = MIDDLE + down * math.cos(roll) - right * math.sin(roll)
    columns = MIDDLE + right * math.cos(roll) + down * math.sin(roll)
    near = ((rows - y) / max(height, 1e-3)) ** 2 + ((columns - x) / max(width, 1e-3)) ** 2
    return ((1 - near.sqrt()) * min(height, width) + 0.5).clamp(0, 1)


def draw(
    openness: float = 0.0,
    right: float = 0.0,
    down: float = 0.0,
    roll: float = 0.0,
    width: float = 1.0,
) -> Tensor:
    """One frame (SIDE, SIDE, 3); openness 1 is a mouth 10 pixels high."""
    ramp = torch.linspace(0.55, 0.85, SIDE)
    image = torch.stack([ramp[None, :].expand(SIDE, SIDE), ramp[:, None].expand(SIDE, SIDE)], 2)
    image = torch.cat([image, torch.full((SIDE, SIDE, 1), 0.7)], 2)

    def paint(y: float, x: float, height: float, half: float, color: tuple[float, ...]) -> None:
        nonlocal image
        cover = _ellipse(MIDDLE + y, MIDDLE + x, height, half, (right, down, roll))
        image = image + cover[..., None] * (torch.tensor(color) - image)

    paint(0, 0, 22, 17, (0.85, 0.65, 0.55))
    for side in (-7, 7):
        paint(-7, side, 2.5, 3.5, (0.98, 0.98, 0.98))
        paint(-7, side, 2, 2, (0.2, 0.15, 0.1))
    paint(0, 0, 4, 1.5, (0.75, 0.55, 0.45))
    paint(10, 0, 2.5 + 5 * openness, 8 * width, (0.7, 0.3, 0.3))
    if openness > 0.06:
        paint(10, 0, 5 * openness, 6.5 * width, (0.12, 0.03, 0.04))
    return image


def regions() -> Regions:
    """Of the portrait; the eyes never blink, so they are rigid."""
    mouth = torch.zeros(SIDE, SIDE)
    mouth[33:52, 22:43] = 1
    return Regions.of(_ellipse(32, 32, 22, 17), mouth)


def speech(frames: int = FRAMES, seed: int = 0, *, pauses: bool = True) -> Tensor:
    """An openness that looks like talk: smoothed noise with pauses, in [0, 1]."""
    rng = torch.Generator().manual_seed(seed)
    noise = torch.rand(frames + 4, generator=rng)
    smooth = noise.unfold(0, 5, 1).mean(1)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    pause = (torch.arange(frames) // 25) % 4 == (3 if pauses else -1)
    return torch.where(pause, torch.zeros(()), smooth)


def sway(frames: int = FRAMES) -> Tensor:
    """Poses (frames, 3): right and down in pixels, not whole ones, and roll in radians."""
    time = torch.arange(frames) * 2 * math.pi
    return torch.stack(
        [2.5 * torch.sin(time / 83), 1.5 * torch.sin(time / 61), 0.05 * torch.sin(time / 47)], 1
    )


def video(truth: Tensor, *, moving: bool = True, width: Tensor | None = None) -> Tensor:
    """Frames (T, SIDE, SIDE, 3) of a mouth that opens as `truth` says."""
    poses = sway(len(truth)) if moving else torch.zeros(len(truth), 3)
    width = torch.ones(len(truth)) if width is None else width
    return torch.stack(
        [
            draw(float(o), *pose.tolist(), float(w))
            for o, pose, w in zip(truth, poses, width, strict=True)
        ]
    )
