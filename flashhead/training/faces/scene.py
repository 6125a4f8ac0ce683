"""Background, neck, shoulders and clothes of a drawn face."""

from __future__ import annotations

from .identities import Identity, shade
from .shapes import Canvas, Point, box, capsule, common, ellipse, melted, soft_spot, union


def paint_background(canvas: Canvas, at: Point, who: Identity) -> None:
    base = who.background
    canvas.paint(soft_spot(at, 0, -0.1, 0.75, 0.75) * 0.45, shade(base, 0.5))
    if who.motif == "sun":
        canvas.paint(canvas.cover(ellipse(at, 0.05, -0.12, 0.86, 0.86)), shade(base, 0.4))
    elif who.motif == "hills":
        canvas.paint(canvas.cover(ellipse(at, -0.9, 0.95, 1.0, 0.85)), shade(base, -0.08))
        canvas.paint(canvas.cover(ellipse(at, 1.0, 1.05, 1.0, 0.8)), shade(base, -0.15))
    elif who.motif == "stripes":
        for offset in (-0.9, 0.1, 1.1):
            band = capsule(at, (offset - 1, 1.4), (offset + 1, -1.4), 0.2)
            canvas.paint(canvas.cover(band), shade(base, 0.3))
    elif who.motif == "arch":
        arch = union(ellipse(at, 0, -0.1, 0.8, 0.8), box(at, 0, 0.6, 0.8, 0.7))
        canvas.paint(canvas.cover(arch), shade(base, -0.07))


def paint_body(canvas: Canvas, still: Point, head: Point, who: Identity) -> None:
    """Shoulders stand still; the neck leans with the head."""
    cloth = who.clothes
    shoulders = melted(
        ellipse(still, 0, 1.32, 0.95, 0.42), box(still, 0, 1.45, 0.98, 0.42, 0.3), 0.1
    )
    if who.clothes_style == "hoodie":
        canvas.paint(canvas.cover(ellipse(still, 0, 0.95, 0.56, 0.26)), shade(cloth, -0.3))
    neck = box(head, 0, 0.8, 0.235, 0.34, 0.06)
    canvas.paint(canvas.cover(neck), shade(who.skin, -0.1))
    shadow = ellipse(head, 0, 0.62, 0.42, 0.3)
    canvas.paint(canvas.cover(common(neck, shadow), 0.04), shade(who.skin, -0.26))
    canvas.paint(canvas.cover(shoulders), cloth)
    # Light from the left.
    right = canvas.cover(-(still[0] - 0.25), 0.5)
    canvas.paint(canvas.cover(shoulders) * right * 0.5, shade(cloth, -0.22))
    collar = ellipse(still, 0, 0.9, 0.29, 0.17)
    if who.clothes_style == "crew":
        canvas.paint(canvas.cover(ellipse(still, 0, 0.9, 0.335, 0.215)), shade(cloth, -0.25))
        canvas.paint(canvas.cover(collar), shade(who.skin, -0.18))
    elif who.clothes_style == "vneck":
        notch = common(still[0].abs() * 0.85 + still[1] - 1.16, 0.86 - still[1])
        canvas.paint(canvas.cover(notch - 0.045), shade(cloth, 0.3))
        canvas.paint(canvas.cover(notch), shade(who.skin, -0.12))
    elif who.clothes_style == "shirt":
        canvas.paint(canvas.cover(collar), shade(who.skin, -0.2))
        for side in (-1, 1):
            wing = capsule(still, (side * 0.3, 0.84), (side * 0.1, 1.02), 0.075)
            canvas.paint(canvas.cover(wing - 0.02), shade(cloth, -0.3))
            canvas.paint(canvas.cover(wing), shade(cloth, 0.25))
    elif who.clothes_style == "turtleneck":
        roll = box(still, 0, 0.93, 0.3, 0.115, 0.08)
        canvas.paint(canvas.cover(roll), shade(cloth, 0.1))
        canvas.paint(
            canvas.cover(roll) * canvas.cover(-(still[0] - 0.1), 0.3) * 0.5, shade(cloth, -0.2)
        )
        canvas.paint(
            canvas.cover((still[1] - 1.03).abs() - 0.012) * canvas.cover(roll - 0.03),
            shade(cloth, -0.25),
        )
    elif who.clothes_style == "hoodie":
        canvas.paint(canvas.cover(ellipse(still, 0, 0.93, 0.3, 0.16)), shade(cloth, -0.35))
        canvas.paint(canvas.cover(ellipse(still, 0, 0.88, 0.25, 0.16)), shade(who.skin, -0.22))
        for side in (-1, 1):
            cord = capsule(still, (side * 0.16, 1.02), (side * 0.17, 1.3), 0.018)
            canvas.paint(canvas.cover(cord), shade(cloth, 0.6))
