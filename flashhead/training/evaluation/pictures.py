"""Contact sheets of frames and plots of signals, drawn with Pillow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ...geometry import FPS

BACKGROUND = (250, 250, 248)
INK = (40, 40, 44)
GRID = (222, 222, 218)
COLORS = ((200, 60, 45), (40, 100, 190), (45, 140, 80), (150, 90, 170))


def to_image(frame: Tensor) -> Image.Image:
    """(H, W, 3) in [0, 1] -> an 8-bit picture."""
    values = (frame.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(values.cpu().numpy())


def contact_sheet(
    frames: Sequence[tuple[int, Tensor]], *, columns: int = 8, side: int = 128
) -> Image.Image:
    """Numbered frames (H, W, 3) in [0, 1] in rows, each with its time under it."""
    columns = max(1, min(columns, len(frames)))
    rows = -(-len(frames) // columns)
    label, gap = 14, 4
    sheet = Image.new(
        "RGB", (columns * (side + gap) + gap, rows * (side + label + gap) + gap), BACKGROUND
    )
    draw = ImageDraw.Draw(sheet)
    for index, (number, frame) in enumerate(frames):
        x = gap + index % columns * (side + gap)
        y = gap + index // columns * (side + label + gap)
        sheet.paste(to_image(frame).resize((side, side)), (x, y))
        draw.text((x + 2, y + side + 1), f"{number / FPS:.2f} s", fill=INK)
    return sheet


def curves(
    series: Mapping[str, Tensor],
    *,
    title: str,
    size: tuple[int, int] = (960, 220),
    start: int = 0,
    marks: Sequence[int] = (),
) -> Image.Image:
    """Signals (T,) over time in seconds, on one scale of values; NaN is a gap.

    start: number of the first frame. marks: frames at which a vertical line is drawn.
    """
    width, height = size
    left, right, top, bottom = 54, width - 12, 30, height - 24
    image = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(image)
    finite = torch.cat([v.double()[v.isfinite()] for v in series.values()])
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    count = max(len(values) for values in series.values())

    def at(frame: float, value: float) -> tuple[float, float]:
        x = left + (right - left) * frame / max(1, count - 1)
        return x, bottom - (bottom - top) * (value - low) / (high - low)

    for value in np.linspace(low, high, 4):
        y = at(0, float(value))[1]
        draw.line([(left, y), (right, y)], fill=GRID)
        draw.text((4, y - 6), f"{value:.3g}", fill=INK)
    for mark in marks:
        x = at(mark - start, low)[0]
        if left <= x <= right:
            draw.line([(x, top), (x, bottom)], fill=GRID)
    for frame in np.linspace(0, count - 1, 9):
        x = at(float(frame), low)[0]
        draw.text((x - 10, bottom + 4), f"{(start + frame) / FPS:.1f} s", fill=INK)
    x = left
    draw.text((x, 8), title, fill=INK)
    x += int(draw.textlength(title)) + 20
    for (name, values), color in zip(series.items(), COLORS, strict=False):
        draw.line([(x, 14), (x + 16, 14)], fill=color, width=3)
        draw.text((x + 20, 8), name, fill=INK)
        x += 36 + int(draw.textlength(name))
        _plot(draw, values, at, color)
    return image


def _plot(
    draw: ImageDraw.ImageDraw,
    values: Tensor,
    at: Callable[[float, float], tuple[float, float]],
    color: tuple[int, int, int],
) -> None:
    line: list[tuple[float, float]] = []
    for frame, value in enumerate([*values.tolist(), float("nan")]):
        if value == value:
            line.append(at(frame, value))
            continue
        if len(line) > 1:
            draw.line(line, fill=color, width=2, joint="curve")
        line = []


def stack(images: Sequence[Image.Image], gap: int = 6) -> Image.Image:
    """Pictures under each other."""
    width = max(image.width for image in images)
    height = sum(image.height for image in images) + gap * (len(images) - 1)
    whole = Image.new("RGB", (width, height), BACKGROUND)
    y = 0
    for image in images:
        whole.paste(image, (0, y))
        y += image.height + gap
    return whole
