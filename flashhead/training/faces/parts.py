"""The parts of a drawn face, each painted in the head's own frame.

`move` is a `Motion` whose (T,) values are (T, 1, 1).
"""

from __future__ import annotations

from torch import Tensor

from .identities import Identity, hex_color, mix, shade
from .motions import Motion
from .mouth_shape import mouth_curves
from .shapes import Canvas, Point, between, box, capsule, common, ellipse, melted, soft_spot, union

EYE_X, EYE_Y = 0.265, -0.12
WHITE = (0.99, 0.98, 0.96)
INK = hex_color("2a1a18")


def face_outline(head: Point, who: Identity, move: Motion) -> Tensor:
    """Skull and jaw; the chin goes down as the mouth opens."""
    x, y = head
    drop = 0.055 * move.openness
    # Below the cheeks the face narrows; above the eyes it is an ellipse.
    lower = ((y - 0.1) / (0.66 + drop)).clamp(0, 1)
    narrow = 1 - 0.32 * who.jaw * lower**1.5
    half = 0.575 * who.face_width
    skull = ellipse((x, y), 0, -0.16, half, 0.66)
    jaw = ellipse((x / narrow, y), 0, 0.12, half * 0.985, 0.655 + drop)
    return melted(skull, jaw, 0.08)


def paint_ears(canvas: Canvas, head: Point, who: Identity) -> None:
    for side in (-1, 1):
        at = side * 0.585 * who.face_width
        canvas.paint(canvas.cover(ellipse(head, at, 0.02, 0.1, 0.165)), shade(who.skin, -0.06))
        canvas.paint(
            canvas.cover(ellipse(head, at + side * 0.012, 0.02, 0.05, 0.1), 0.03),
            shade(who.skin, -0.2),
        )
        if who.earrings:
            canvas.paint(canvas.cover(ellipse(head, at, 0.21, 0.04, 0.04)), hex_color("f0c64f"))


def paint_skin(canvas: Canvas, head: Point, face: Tensor, who: Identity) -> None:
    x, y = head
    mask = canvas.cover(face)
    canvas.paint(mask, who.skin)
    # Soft light from the left: a shaded right side, a lit forehead and cheek.
    canvas.paint(mask * canvas.cover(0.2 - x + 0.12 * y, 0.55) * 0.55, shade(who.skin, -0.13))
    canvas.paint(mask * soft_spot(head, -0.16, -0.42, 0.3, 0.16) * 0.5, shade(who.skin, 0.1))
    blush = mix(who.skin, hex_color("d8402f"), 0.3)
    for side in (-1, 1):
        canvas.paint(mask * soft_spot(head, side * 0.35, 0.17, 0.11, 0.08) * 0.55, blush)
    if who.freckles:
        for fx, fy in ((0.2, 0.1), (0.28, 0.14), (0.36, 0.09), (0.32, 0.2), (0.24, 0.19)):
            for side in (-1, 1):
                dot = ellipse(head, side * fx, fy + 0.01 * side, 0.014, 0.014)
                canvas.paint(canvas.cover(dot) * 0.6, shade(who.skin, -0.3))
    if who.age:
        line = shade(who.skin, -0.22)
        for side in (-1, 1):
            fold = ellipse(head, side * 0.1, 0.36, 0.24, 0.2).abs() - 0.009
            piece = common(fold, 0.06 - side * x, (y - 0.3).abs() - 0.1)
            canvas.paint(canvas.cover(piece) * who.age * 0.8, line)
        for height in (-0.44, -0.37):
            crease = (y - height + 0.25 * x * x).abs() - 0.007
            canvas.paint(canvas.cover(common(crease, x.abs() - 0.2)) * who.age * 0.6, line)


def paint_beard(canvas: Canvas, head: Point, face: Tensor, who: Identity, move: Motion) -> None:
    if not who.beard:
        return
    x, y = head
    full = who.beard == "full"
    strength = 1.0 if full else 0.32
    edge = 0.2 + 0.55 * (0.5 - x.abs()).clamp_min(0) ** 0.8
    cheeks = common(face + (0.0 if full else 0.015), edge - y)
    mustache = common(face, ellipse(head, 0, 0.325, 0.25, 0.075))
    beard = melted(cheeks, mustache, 0.05)
    mask = canvas.cover(beard, 0.03)
    canvas.paint(mask * strength, who.hair)
    if full:
        canvas.paint(mask * canvas.cover(0.25 - x, 0.5) * 0.5, shade(who.hair, -0.25))


def paint_nose(canvas: Canvas, head: Point, who: Identity) -> None:
    size = who.nose
    dark = shade(who.skin, -0.22)
    bridge = capsule(head, (0.03, -0.1), (0.055 * size, 0.14), 0.028)
    canvas.paint(canvas.cover(bridge, 0.06) * 0.4, dark)
    canvas.paint(soft_spot(head, -0.012, 0.13, 0.04 * size, 0.06) * 0.6, shade(who.skin, 0.14))
    tip = ellipse(head, 0, 0.165, 0.095 * size, 0.055)
    under = common(tip, -ellipse(head, 0, 0.145, 0.1 * size, 0.055))
    canvas.paint(canvas.cover(under), shade(who.skin, -0.3))
    for side in (-1, 1):
        nostril = ellipse(head, side * 0.052 * size, 0.196, 0.022, 0.012)
        canvas.paint(canvas.cover(nostril), shade(who.skin, -0.5))


def mouth_outline(head: Point, who: Identity, move: Motion) -> Tensor:
    """Lips and all between them."""
    curves = mouth_curves(head[0], who, move)
    band = between(head, curves.upper, curves.lower)
    return common(band, head[0].abs() - curves.half)


def paint_mouth(canvas: Canvas, head: Point, who: Identity, move: Motion) -> None:
    x, y = head
    curves = mouth_curves(x, who, move)
    ends = x.abs() - curves.half
    outer = canvas.cover(common(between(head, curves.upper, curves.lower), ends))
    shadow = soft_spot(head, 0, curves.bottom + 0.055, 0.13, 0.028)
    canvas.paint(shadow * 0.45, shade(who.skin, -0.25))
    canvas.paint(outer, who.lips)
    canvas.paint(outer * canvas.cover(y - curves.middle, 0.02) * 0.45, shade(who.lips, -0.25))
    shine = soft_spot(head, -0.03, (curves.inner_bottom + curves.bottom) / 2, 0.07, 0.016)
    canvas.paint(outer * shine * 0.5, shade(who.lips, 0.35))
    inside = canvas.cover(
        common(between(head, curves.inner_upper, curves.inner_lower), ends + 0.012)
    )
    canvas.paint(inside, hex_color("3a0c12"))
    gap = curves.inner_bottom - curves.inner_top
    tongue = ellipse(head, 0, curves.inner_bottom + 0.02, curves.half * 0.62, 0.42 * gap + 0.01)
    canvas.paint(inside * canvas.cover(tongue, 0.02) * (gap > 0.06), hex_color("8a2b31"))
    # The teeth hang from the upper lip and are hidden by it while the mouth is nearly shut.
    teeth = common(
        between(head, curves.inner_upper - 0.01, curves.inner_upper + 0.26 * gap),
        x.abs() - curves.half * 0.72,
    )
    canvas.paint(inside * canvas.cover(teeth), (0.97, 0.95, 0.91))
    line = canvas.cover(common((y - curves.middle).abs() - 0.011, ends + 0.02))
    shut = (1 - gap / 0.03).clamp(0, 1)
    canvas.paint(line * shut, shade(mix(who.lips, INK, 0.35), -0.3))


def _eye(head: Point, side: int, who: Identity) -> tuple[Point, float]:
    """Points as seen from an eye's middle (x outwards), and the eye's half width."""
    x = (head[0] - side * EYE_X * who.eye_gap) * side
    return (x, head[1] - EYE_Y), 0.138 * who.eye_size


def eyes_outline(head: Point, who: Identity) -> Tensor:
    """Both eyes with their lids, whether open or shut."""
    shapes = []
    for side in (-1, 1):
        at, half = _eye(head, side, who)
        shapes.append(ellipse(at, 0, 0, half * 1.1, half * 0.85))
    return union(*shapes)


def paint_eyes(canvas: Canvas, head: Point, who: Identity, move: Motion) -> None:
    for side in (-1, 1):
        at, half = _eye(head, side, who)
        u = (at[0] / half).clamp(-1, 1)
        arch = (1 - u * u).clamp_min(0) ** 0.7
        upper = -0.62 * half * arch - 0.04 * half * u
        lower = 0.46 * half * arch - 0.04 * half * u
        lid = upper + (lower - upper) * move.blink * 0.96
        ends = at[0].abs() - half
        whole = common(between(at, upper, lower), ends)
        canvas.paint(canvas.cover(whole - 0.03, 0.05) * 0.35, shade(who.skin, -0.18))
        canvas.paint(canvas.cover(whole), shade(who.skin, -0.12))
        opened = canvas.cover(common(between(at, lid, lower), ends))
        canvas.paint(opened, WHITE)
        gx = move.gaze[:, 0].view(-1, 1, 1) * 0.32 * half * side
        gy = move.gaze[:, 1].view(-1, 1, 1) * 0.16 * half - 0.03 * half
        iris = ellipse(at, gx, gy, 0.5 * half, 0.5 * half)
        canvas.paint(opened * canvas.cover(iris), shade(who.eyes, -0.45))
        canvas.paint(opened * canvas.cover(iris + 0.014), who.eyes)
        glow = ellipse(at, gx, gy + 0.2 * half, 0.3 * half, 0.2 * half)
        canvas.paint(
            opened * canvas.cover(common(iris + 0.02, glow), 0.03) * 0.6, shade(who.eyes, 0.45)
        )
        canvas.paint(
            opened * canvas.cover(ellipse(at, gx, gy, 0.24 * half, 0.24 * half)), (0.06, 0.05, 0.05)
        )
        light = ellipse(at, gx - side * 0.17 * half, gy - 0.18 * half, 0.13 * half, 0.13 * half)
        canvas.paint(opened * canvas.cover(light), (1.0, 1.0, 1.0))
        canvas.paint(opened * canvas.cover(at[1] - lid - 0.05, 0.06) * 0.25, INK)
        lash = between(at, lid - 0.022 - 0.018 * (u + 1) / 2, lid + 0.006)
        canvas.paint(canvas.cover(common(lash, ends - 0.012)), INK)
        crease = (at[1] - upper + 0.045).abs() - 0.006
        canvas.paint(canvas.cover(common(crease, ends + 0.02)) * 0.5, shade(who.skin, -0.35))


def paint_brows(canvas: Canvas, head: Point, who: Identity, move: Motion) -> None:
    color = shade(who.hair, -0.2) if who.hair_style != "bald" else shade(who.hair, 0.1)
    if min(who.hair) > 0.6:  # white hair would vanish on the skin
        color = shade(who.hair, -0.25)
    for side in (-1, 1):
        at, half = _eye(head, side, who)
        u = at[0] / (half * 1.25)
        curve = -0.195 - 0.045 * move.brows - 0.05 * (1 - (u - 0.25) ** 2) + 0.02 * u
        thick = 0.026 * who.brow * (1 - 0.45 * (u + 1).clamp(0, 2) / 2)
        band = between(at, curve - thick, curve + thick)
        canvas.paint(canvas.cover(common(band, at[0].abs() - half * 1.2)), color)


def paint_glasses(canvas: Canvas, head: Point, who: Identity) -> None:
    if not who.glasses:
        return
    frame = hex_color("2f2a2e") if sum(who.skin) > 1.4 else hex_color("d8b45a")
    shapes = []
    for side in (-1, 1):
        x = side * EYE_X * who.eye_gap
        if who.glasses == "round":
            lens = ellipse(head, x, EYE_Y + 0.01, 0.205, 0.2)
        else:
            lens = box(head, x, EYE_Y + 0.01, 0.205, 0.155, 0.06)
        canvas.paint(canvas.cover(lens) * 0.1, (1.0, 1.0, 1.0))
        glint = capsule(head, (x - 0.1, EYE_Y + 0.1), (x - 0.02, EYE_Y - 0.1), 0.02)
        canvas.paint(canvas.cover(common(glint, lens)) * 0.25, (1.0, 1.0, 1.0))
        shapes.append(lens.abs() - 0.0135)
        shapes.append(
            capsule(head, (x + side * 0.2, EYE_Y - 0.02), (side * 0.6, EYE_Y - 0.04), 0.013)
        )
    shapes.append(capsule(head, (-0.07, EYE_Y - 0.02), (0.07, EYE_Y - 0.02), 0.013))
    canvas.paint(canvas.cover(union(*shapes)), frame)
