"""Hair, behind the head and in front of it."""

from __future__ import annotations

import torch
from torch import Tensor

from .identities import Identity, shade
from .shapes import Canvas, Point, below, box, capsule, common, ellipse, melted, union

TOP = -0.1


def _skull(head: Point, grow: float, who: Identity) -> Tensor:
    """The head's upper half, grown by the hair's thickness."""
    return ellipse(head, 0, -0.16, 0.585 * who.face_width + grow, 0.66 + grow)


def paint_back(canvas: Canvas, head: Point, who: Identity) -> None:
    dark = shade(who.hair, -0.28)
    width = who.face_width
    if who.hair_style == "long":
        shape = melted(_skull(head, 0.14, who), box(head, 0, 0.45, 0.7 * width, 0.75, 0.25), 0.2)
    elif who.hair_style == "wavy":
        wave = 0.035 * torch.sin(head[1] * 11)
        shape = melted(_skull(head, 0.16, who), box(head, 0, 0.3, 0.74 * width, 0.6, 0.3), 0.2)
        shape = shape + wave
    elif who.hair_style == "bob":
        shape = melted(_skull(head, 0.12, who), box(head, 0, 0.18, 0.7 * width, 0.42, 0.2), 0.2)
    elif who.hair_style == "bun":
        shape = union(_skull(head, 0.08, who), ellipse(head, 0, -0.84, 0.3, 0.24))
    elif who.hair_style == "curly":
        shape = _skull(head, 0.2, who)
        for index in range(17):
            angle = torch.tensor(index * 0.29 - 2.32 - 1.5708)
            x, y = 0.74 * torch.cos(angle), -0.12 + 0.78 * torch.sin(angle)
            shape = torch.minimum(shape, ellipse(head, float(x), float(y), 0.17, 0.17))
    else:
        return
    canvas.paint(canvas.cover(shape), dark)


def _hairline(head: Point, who: Identity) -> Tensor:
    """The curve y(x) above which the forehead is under hair."""
    x = head[0] / who.face_width
    style = who.hair_style
    drop = 0.16 * (who.fringe - 0.5)
    if style == "bob":  # a straight fringe
        return -0.42 + drop + 0.06 * x * x + 1.6 * (x.abs() - 0.47).clamp_min(0)
    if style in ("long", "wavy"):  # parted in the middle, or beside it
        if style == "wavy":
            return -0.74 + 1.15 * (x - 0.14).abs() ** 1.5
        return -0.72 + 1.5 * x.abs() ** 1.4
    if style == "parted":
        return -0.5 - 0.28 * (x + 0.25) + 0.9 * (x.abs() - 0.45).clamp_min(0) * 3
    if style == "quiff":
        return -0.56 + 0.12 * x * x - 0.05 * x + 4.0 * (x.abs() - 0.49).clamp_min(0)
    if style == "curly":
        return -0.5 + 0.3 * x * x + 0.018 * torch.cos(x * 30)
    if style == "bun":
        return -0.6 + 0.7 * x * x
    return -0.52 + 0.2 * x * x + 3.6 * (x.abs() - 0.5).clamp_min(0)  # short


def paint_front(canvas: Canvas, head: Point, face: Tensor, who: Identity) -> None:
    style, width = who.hair_style, who.face_width
    if style == "bald":
        shine = ellipse(head, -0.2, -0.62, 0.13, 0.05)
        canvas.paint(canvas.cover(shine, 0.06) * 0.5, shade(who.skin, 0.2))
        return
    line = _hairline(head, who)
    grow = {"curly": 0.12, "quiff": 0.07, "short": 0.045, "parted": 0.07}.get(style, 0.06)
    cap = _skull(head, grow, who)
    if style == "quiff":
        cap = melted(cap, ellipse(head, 0.06, -0.74, 0.46, 0.2), 0.12)
        cap = melted(cap, ellipse(head, 0.34, -0.72, 0.2, 0.16), 0.1)
    # Beside the forehead too, down to the ears, or the background would show between.
    beside = common(-face - 0.01, head[1] + 0.08)
    hair = common(cap, union(-below(head, line), beside))
    if style in ("short", "parted", "quiff"):  # sideburns end at the ears
        hair = common(hair, head[1] - 0.02)
    elif style in ("bob", "bun", "curly"):
        hair = common(hair, head[1] - {"bob": 0.6, "bun": -0.1, "curly": 0.1}[style])
    shadow = common(face, -below((head[0], head[1] - 0.045), line))
    canvas.paint(canvas.cover(shadow, 0.05) * 0.55, shade(who.skin, -0.25))
    canvas.paint(canvas.cover(hair), who.hair)
    if style in ("long", "wavy", "bob"):  # strands before the ears
        for side in (-1, 1):
            end = {"long": 0.95, "wavy": 0.75, "bob": 0.42}[style]
            sway = 0.03 * torch.sin(head[1] * 11 + 1) if style == "wavy" else 0.0
            strand = capsule(
                (head[0] + sway, head[1]),
                (side * 0.56 * width, -0.35),
                (side * 0.63 * width, end),
                0.1,
            )
            canvas.paint(canvas.cover(strand), who.hair)
    # A soft light on the crown, and a few strands of a darker tone.
    glow = common(hair, ellipse(head, -0.22, -0.62, 0.26, 0.1))
    canvas.paint(canvas.cover(glow, 0.12) * 0.5, shade(who.hair, 0.25))
    if style in ("long", "wavy", "parted", "bun", "bob"):
        for offset in (-0.32, 0.12, 0.36):
            arc = ellipse(head, offset * 0.3, -0.1, 0.5 + abs(offset) * 0.2, 0.78).abs() - 0.008
            piece = common(arc, hair + 0.02, (head[0] - offset).abs() - 0.16)
            canvas.paint(canvas.cover(piece) * 0.6, shade(who.hair, -0.25))
