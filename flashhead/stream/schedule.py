"""Timesteps of the sampler (DESIGN §1.5)."""

import numpy as np
import torch
from torch import Tensor

from ..errors import FlashHeadError

TRAIN_TIMESTEPS = 1000
_DISTILLED = {2: (1000, 500), 4: (1000, 750, 500, 250)}


def timesteps(steps: int, shift: float = 5.0) -> Tensor:
    """Timesteps from 1000 down, then 0: (steps + 1,) float32.

    2 and 4 steps are those of the distilled models; any other count is spread evenly from 1000
    to 1. All are shifted on t/1000: t' = shift * t / (1 + (shift - 1) * t).

    Raises:
        FlashHeadError: steps not a whole number, or below 1; a shift that is not positive.
    """
    if not isinstance(steps, int) or steps < 1:
        raise FlashHeadError(
            f"{steps} sampling steps were asked for; expected a whole number, at least 1."
        )
    if not 0 < shift < float("inf"):
        raise FlashHeadError(f"The timestep shift is {shift}; it must be a positive number.")
    even = np.linspace(TRAIN_TIMESTEPS, 1, steps, dtype=np.float32)
    raw = torch.tensor([*_DISTILLED.get(steps, even), 0.0], dtype=torch.float32) / TRAIN_TIMESTEPS
    return shift * raw / (1 + (shift - 1) * raw) * TRAIN_TIMESTEPS
