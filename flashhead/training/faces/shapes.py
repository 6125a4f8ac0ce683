"""Anti-aliased shapes by signed distance: negative inside, in units of the picture's half side.

Points are a pair x, y of tensors that broadcast: (H, W) for what stands still, (T, H, W) for what
moves. A shape's numbers may be floats or (T, 1, 1) tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

Number = float | Tensor
Point = tuple[Tensor, Tensor]


def grid(size: int) -> Point:
    """Pixel centres x, y (size, size) in [-1, 1]; y points down."""
    line = (torch.arange(size) + 0.5) * (2 / size) - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    return x, y


def zoomed(point: Point, zoom: float, y: float = 0.0) -> Point:
    """Coordinates in the scene of a picture's points, if it shows 1 / zoom of it around (0, y)."""
    return point[0] / zoom, point[1] / zoom + y


def moved(point: Point, x: Number, y: Number, angle: Number = 0.0, about: float = 0.0) -> Point:
    """Coordinates of points in a frame that is shifted by x, y and rolled clockwise about (0,
    `about`) by `angle` radians."""
    px, py = point[0] - x, point[1] - y - about
    angle = torch.as_tensor(angle)
    c, s = torch.cos(angle), torch.sin(angle)
    return c * px + s * py, c * py - s * px + about


def ellipse(point: Point, x: Number, y: Number, rx: Number, ry: Number) -> Tensor:
    """Nearly the distance to an ellipse (exact at its axes)."""
    dx, dy = (point[0] - x) / rx, (point[1] - y) / ry
    near = torch.sqrt(dx * dx + dy * dy + 1e-9)
    slope = torch.sqrt((dx / rx) ** 2 + (dy / ry) ** 2 + 1e-9)
    return near * (near - 1) / slope


def box(point: Point, x: Number, y: Number, rx: Number, ry: Number, corner: float = 0.0) -> Tensor:
    """A rectangle of half-sides rx, ry with round corners."""
    dx = (point[0] - x).abs() - rx + corner
    dy = (point[1] - y).abs() - ry + corner
    outside = torch.sqrt(dx.clamp_min(0) ** 2 + dy.clamp_min(0) ** 2)
    return outside + torch.maximum(dx, dy).clamp_max(0) - corner


def capsule(point: Point, start: Sequence[Number], end: Sequence[Number], radius: Number) -> Tensor:
    """A thick line with round ends."""
    ax, ay = point[0] - start[0], point[1] - start[1]
    bx, by = end[0] - start[0], end[1] - start[1]
    along = ((ax * bx + ay * by) / (bx * bx + by * by)).clamp(0, 1)
    return torch.sqrt((ax - along * bx) ** 2 + (ay - along * by) ** 2) - radius


def between(point: Point, upper: Tensor, lower: Tensor) -> Tensor:
    """The band between two curves y(x), given at the points' x."""
    x, y = point
    return torch.maximum(_straight(upper - y, upper, x), _straight(y - lower, lower, x))


def below(point: Point, curve: Tensor) -> Tensor:
    """Everything under a curve y(x)."""
    return _straight(curve - point[1], curve, point[0])


def _straight(height: Tensor, curve: Tensor, x: Tensor) -> Tensor:
    """The distance from a curve, from the height over it and the curve's slope along x."""
    slope = curve.diff(dim=-1) / x.diff(dim=-1)
    slope = torch.cat([slope, slope[..., -1:]], dim=-1)
    return height / torch.sqrt(1 + slope.clamp(-4, 4) ** 2)


def union(*shapes: Tensor) -> Tensor:
    result = shapes[0]
    for shape in shapes[1:]:
        result = torch.minimum(result, shape)
    return result


def common(*shapes: Tensor) -> Tensor:
    """What lies in all of the shapes."""
    result = shapes[0]
    for shape in shapes[1:]:
        result = torch.maximum(result, shape)
    return result


def melted(a: Tensor, b: Tensor, width: float) -> Tensor:
    """A union of two shapes whose corner is rounded over `width` (a smooth minimum)."""
    share = (0.5 + 0.5 * (b - a) / width).clamp(0, 1)
    return b + share * (a - b) - width * share * (1 - share)


def soft_spot(point: Point, x: Number, y: Number, rx: Number, ry: Number) -> Tensor:
    """A Gaussian blob with values in (0, 1]."""
    return torch.exp(-0.5 * (((point[0] - x) / rx) ** 2 + ((point[1] - y) / ry) ** 2))


class Canvas:
    """A picture that is painted layer over layer: (3, H, W), or (T, 3, H, W) once it moves.

    pixel: a pixel's side, in the units of the points that are painted at.
    """

    def __init__(self, image: Tensor, pixel: float):
        self.image, self.pixel = image, pixel
        # Whether the image may be written to: painting in place is several times as fast.
        self._own = False

    def cover(self, distance: Tensor, softness: float = 0.0) -> Tensor:
        """How much of each pixel a shape covers, in [0, 1]; `softness` blurs its edge that far."""
        return (0.5 - distance / max(self.pixel, softness)).clamp(0, 1)

    def paint(self, mask: Tensor, color: Sequence[float] | Tensor) -> None:
        """Lay a colour (3 numbers) over the picture where `mask` is."""
        paint = torch.as_tensor(color, dtype=torch.float32).view(3, 1, 1)
        mask = mask.unsqueeze(-3)
        if self._own and self.image.ndim == 4:
            self.image.lerp_(paint, mask)
        else:
            self.image, self._own = torch.lerp(self.image, paint, mask), True

    @contextmanager
    def window(self, point: Point, box: Sequence[float]) -> Iterator[tuple[Canvas, Point]]:
        """The part of the picture within a box, so that painting something small is quick.

        box: left, top, right, bottom in the points' coordinates. Yields the part and its points.
        """
        x, y = point
        inside = (x >= box[0]) & (x <= box[2]) & (y >= box[1]) & (y <= box[3])
        inside = inside.reshape(-1, *inside.shape[-2:]).any(dim=0)
        rows, columns = inside.any(dim=1).nonzero(), inside.any(dim=0).nonzero()
        if not len(rows):
            return
        at = (..., slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        if self.image.ndim < x.ndim + 1:
            self.image = self.image.expand(len(x), *self.image.shape).clone()
        part = Canvas(self.image[at], self.pixel)
        part._own = self._own = True
        yield part, (x[at], y[at])

    def frames(self, count: int) -> Tensor:
        """(count, H, W, 3) uint8."""
        picture = (self.image.clamp(0, 1) * 255).round().to(torch.uint8)
        return picture.expand(count, *picture.shape[-3:]).permute(0, 2, 3, 1).contiguous()
