"""The motion of a drawn face: blinks, gaze, brows and sway, and a mouth that babbles.

All curves are at 25 fps and follow from a random generator on the CPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from ...geometry import FPS
from ..signals import smooth

SWAY = (0.028, 0.02, 0.025)
"""Standard deviation of the head's shift right and down (in half sides) and its roll (radians)."""


@dataclass(frozen=True)
class Motion:
    """What moves in a face, (T,) each.

    openness, width: of the mouth in [0, 1], 0.5 the width at rest. blink: 1 is shut. gaze: (T, 2)
    right and down in [-1, 1]. brows: raised in [-1, 1]. smile: in [0, 1]. pose: (T, 3), the head's
    shift right and down in units of half a picture's side, and its roll in radians, clockwise.
    """

    openness: Tensor
    width: Tensor
    blink: Tensor
    gaze: Tensor
    brows: Tensor
    smile: Tensor
    pose: Tensor

    @classmethod
    def neutral(cls, frames: int = 1) -> Motion:
        """At rest: mouth closed, eyes open and looking ahead, head upright."""
        zero = torch.zeros(frames)
        return cls(
            zero, zero + 0.5, zero, torch.zeros(frames, 2), zero, zero, torch.zeros(frames, 3)
        )

    def part(self, start: int, stop: int) -> Motion:
        """Frames `start` to `stop`."""
        return Motion(*(getattr(self, field.name)[start:stop] for field in fields(self)))


def wander(frames: int, rng: torch.Generator, seconds: float) -> Tensor:
    """Smooth noise (frames,) of about unit size that changes over that many seconds."""
    waves = 5
    rates = (0.3 + 1.2 * torch.rand(waves, 1, generator=rng)) / seconds
    phases = torch.rand(waves, 1, generator=rng)
    time = torch.arange(frames) / FPS
    return torch.sin(2 * math.pi * (rates * time + phases)).sum(0) * (2 / waves) ** 0.5


def blinks(frames: int, rng: torch.Generator) -> Tensor:
    """Lids shut (frames,) in [0, 1]: a blink of about 0.25 s every few seconds."""
    shape = torch.tensor([0.45, 1.0, 1.0, 0.7, 0.35, 0.1])
    lids = torch.zeros(frames + len(shape))
    at = int(torch.randint(60, (), generator=rng))
    while at < frames:
        lids[at : at + len(shape)] = shape
        at += int(torch.randint(35, 120, (), generator=rng))
    return lids[:frames]


def gazes(frames: int, rng: torch.Generator) -> Tensor:
    """Where the eyes look (frames, 2) in [-1, 1]: mostly ahead, in jumps."""
    gaze = torch.zeros(frames, 2)
    at = 0
    while at < frames:
        length = int(torch.randint(12, 60, (), generator=rng))
        target = torch.randn(2, generator=rng) * torch.tensor([0.35, 0.2])
        if float(torch.rand((), generator=rng)) < 0.45:
            target = torch.zeros(2)
        gaze[at : at + length] = target
        at += length
    return smooth(gaze.T, 0.6).T.clamp(-1, 1)


def idle(frames: int, rng: torch.Generator) -> Motion:
    """Random motion of everything but the mouth, which is closed."""
    pose = torch.stack([wander(frames, rng, 3.0) * size for size in SWAY], dim=1)
    return replace(
        Motion.neutral(frames),
        blink=blinks(frames, rng),
        gaze=gazes(frames, rng),
        brows=(0.5 * wander(frames, rng, 2.0)).clamp(-1, 1),
        smile=(0.3 + 0.35 * wander(frames, rng, 4.0)).clamp(0, 1),
        pose=pose,
    )


def babble(frames: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Openness and width (frames,) that change as fast as in speech, with pauses.

    Their values are uniform in [0, 1] but for the pauses, so that every shape of the mouth occurs.
    """
    curves = []
    for _ in range(2):
        noise = torch.randn(frames + 16, generator=rng)
        pace = 0.9 + 1.3 * float(torch.rand((), generator=rng))
        wave = smooth(noise, pace)[8:-8]
        wave = wave / wave.std().clamp_min(1e-6)
        curves.append(0.5 * (1 + torch.erf(wave / 2**0.5)))
    openness, width = curves
    slow = wander(frames, rng, 1.5)
    quiet = (torch.sigmoid((slow - 1.0) * 8)).clamp(0, 1)
    return openness * (1 - quiet), width + (0.5 - width) * quiet
