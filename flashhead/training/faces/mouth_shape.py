"""The curves of the lips, from the openness and width of the mouth."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .identities import Identity
from .motions import Motion

MOUTH_Y = 0.415
NARROW, WIDE = 0.145, 0.285
GAP = 0.27
"""Height of the opening in the middle at openness 1, in half sides of the picture."""


@dataclass(frozen=True)
class MouthCurves:
    """Curves y(x) of the lips' outer and inner edges; their heights in the middle are scalars.

    half: the mouth's half width.
    """

    upper: Tensor
    inner_upper: Tensor
    inner_lower: Tensor
    lower: Tensor
    middle: Tensor
    half: Tensor
    inner_top: Tensor
    inner_bottom: Tensor
    bottom: Tensor


def mouth_curves(x: Tensor, who: Identity, move: Motion) -> MouthCurves:
    """Curves at the points' x in the head's frame; (T, 1, 1) motions."""
    half = NARROW + (WIDE - NARROW) * move.width
    u = (x / half).clamp(-1, 1)
    round_off = (1 - u * u).clamp_min(0)
    opening = GAP * move.openness
    # Rest is a hint of a smile: the corners lie higher than the middle.
    rest = MOUTH_Y - (0.022 + 0.035 * move.smile) * u * u
    top, bottom = -0.3 * opening, 0.7 * opening
    # Narrow lips are pursed, so they are thicker.
    pursed = 1.25 - 0.45 * move.width
    thick_up = 0.052 * who.lip_size * pursed
    thick_down = 0.066 * who.lip_size * pursed
    bow = 1 - 0.3 * torch.exp(-((u / 0.22) ** 2))
    bend = round_off**0.75
    inner_upper = rest + top * bend
    inner_lower = rest + bottom * bend
    return MouthCurves(
        upper=inner_upper - thick_up * bow * round_off**0.9,
        inner_upper=inner_upper,
        inner_lower=inner_lower,
        lower=inner_lower + thick_down * round_off**0.8,
        middle=rest + (top + bottom) / 2 * bend,
        half=half,
        inner_top=MOUTH_Y + top,
        inner_bottom=MOUTH_Y + bottom,
        bottom=MOUTH_Y + bottom + thick_down,
    )
