"""A talking head back into the picture or video that its portrait was cut from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import PortraitError
from .crop import Crop

# Of the crop's rectangle at a time: few enough that intermediate results take no memory to speak
# of.
_PIXELS_AT_ONCE = 2**21

_SEAM = 8  # pixels on each side of an edge that belong to the seam, whatever the feather
_SEAM_POINTS = 4096  # of the seam that colours are compared at; plenty for a mean
_SMOOTHING = 12  # frames before and after that a colour offset is averaged over: half a second
_BORDER = 0.5  # pixels; an edge nearer to the picture's border lies on it
_ASPECT_TOLERANCE = 0.02


def paste(
    background: Tensor,
    frames: Tensor,
    crop: Crop,
    *,
    feather: int = 32,
    color_match: float = 0.0,
    mask: Tensor | None = None,
    tick: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Puts `frames` where `crop` was cut out of `background`.

    background: (1 or m, H, W, 3) in [0, 1], of the size that the crop was made from; one picture
    is repeated. frames: (n, h, w, 3) in [0, 1], in the portrait's aspect, of any size. The result
    has as many frames as the longer of both; the shorter one's last is held. feather: over how
    many pixels of the background the head fades in, at the crop's edges that are not the
    picture's. color_match: 0 to 1, how far the head's colours are moved so that they meet the
    background's at the seam. mask: (H, W) of the background or (h, w) of the portrait or frames,
    alone or one per frame; 1 shows the head. tick: called with the frames done and the frames in
    all after every block; it may raise to stop.

    Returns (frames, H, W, 3) of the background's dtype; outside the crop it is the background to
    the bit. Raises `PortraitError` for what does not fit together.
    """
    _check(background, frames, crop, feather, color_match)
    total = max(len(background), len(frames))
    place = _Place(crop, frames.shape[1:3])
    masks = None if mask is None else _checked_mask(mask, background, frames, crop)
    edge = place.edge_alpha(feather)

    def alpha(start: int, stop: int) -> Tensor:
        """(1 or k, Y, X, 1): how much of the head is seen."""
        if masks is None:
            return edge[None, ..., None]
        chosen = masks if len(masks) == 1 else masks[_held(start, stop, len(masks))]
        return place.mask_alpha(chosen, crop.source)[..., None] * edge[..., None]

    output = background.new_empty(total, *background.shape[1:])
    rows, columns = place.rows, place.columns
    offsets = None
    if color_match > 0:
        offsets = color_match * _seam_offsets(background, frames, place, alpha, total, tick)
    still = None if masks is not None and len(masks) > 1 else alpha(0, 1)
    block = max(1, _PIXELS_AT_ONCE // (place.height * place.width))
    for start in range(0, total, block):
        stop = min(start + block, total)
        output[start:stop] = background[_held(start, stop, len(background))]
        head = place.resample(frames[_held(start, stop, len(frames))].float())
        if offsets is not None:
            head = head.add_(offsets[start:stop, None, None]).clamp_(0, 1)
        behind = output[start:stop, rows, columns]
        shown = still if still is not None else alpha(start, stop)
        # lerp is exact at 0 and at 1.
        mixed = torch.lerp(behind.float(), head, shown.expand(len(head), -1, -1, 3))
        output[start:stop, rows, columns] = mixed.to(output.dtype)
        if tick is not None:
            tick(stop, total)
    return output


@dataclass(frozen=True)
class _Taps:
    """One axis of a resampling: a sparse matrix of K weights for each of N outputs, (N, K)."""

    index: Tensor
    weight: Tensor

    @property
    def identity(self) -> bool:
        count = len(self.index)
        return self.index.shape[1] == 1 and torch.equal(self.index[:, 0], torch.arange(count))


def _taps(start: float, length: float, outputs: range, inputs: int) -> _Taps:
    """An antialiased triangle filter: `inputs` samples lie over [start, start + length)."""
    scale = inputs / length
    support = max(1.0, scale)
    at = (torch.tensor(list(outputs), dtype=torch.float64) + 0.5 - start) * scale - 0.5
    at = at.clamp(0, inputs - 1)
    first = (at - support).floor() + 1
    index = first[:, None] + torch.arange(math.ceil(2 * support))
    weight = (1 - (index - at[:, None]).abs() / support).clamp_min(0)
    weight = weight * ((index >= 0) & (index < inputs))
    weight = weight / weight.sum(1, keepdim=True)
    if ((weight == 0) | (weight == 1)).all():  # whole pixels: a copy
        best = weight.argmax(1, keepdim=True)
        index, weight = index.gather(1, best), weight.gather(1, best)
    return _Taps(index.clamp(0, inputs - 1).long(), weight.float())


def _weighted_rows(table: Tensor, taps: _Taps) -> Tensor:
    """The taps' product with a matrix (inputs, n) -> (outputs, n)."""
    if taps.identity and len(taps.index) == len(table):
        return table
    return F.embedding_bag(taps.index, table, per_sample_weights=taps.weight, mode="sum")


class _Place:
    """Where a crop lies among the background's whole pixels, and how to get frames there."""

    def __init__(self, crop: Crop, frame_size: tuple[int, int]) -> None:
        self._crop = crop
        top, bottom = max(0, math.floor(crop.top)), min(crop.source[0], math.ceil(crop.bottom))
        left, right = max(0, math.floor(crop.left)), min(crop.source[1], math.ceil(crop.right))
        self.rows, self.columns = slice(top, bottom), slice(left, right)
        self.height, self.width = bottom - top, right - left
        self._y, self._x = self._taps(*frame_size)

    def _taps(self, height: int, width: int) -> tuple[_Taps, _Taps]:
        crop = self._crop
        return (
            _taps(crop.top, crop.height, range(self.rows.start, self.rows.stop), height),
            _taps(crop.left, crop.width, range(self.columns.start, self.columns.stop), width),
        )

    def resample(self, frames: Tensor) -> Tensor:
        """(k, h, w, c) of the crop -> (k, Y, X, c) on the background's pixels."""
        return torch.stack([_resample(frame, self._y, self._x) for frame in frames])

    def points(self, frame: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """`resample` of one frame (h, w, c) at some of its pixels only -> (n, c)."""
        rows = (self._y.index[y], self._y.weight[y])
        columns = (self._x.index[x], self._x.weight[x])
        index = rows[0][:, :, None] * frame.shape[1] + columns[0][:, None]
        weight = rows[1][:, :, None] * columns[1][:, None]
        return F.embedding_bag(
            index.flatten(1),
            frame.reshape(-1, frame.shape[-1]),
            per_sample_weights=weight.flatten(1),
            mode="sum",
        )

    def edge_alpha(self, feather: int) -> Tensor:
        """(Y, X): 1 inside, fading to 0 at the crop's edges that are not the picture's."""
        crop, (height, width) = self._crop, self._crop.source
        y = _ramp(crop.top, crop.bottom, height, self.rows, feather)
        x = _ramp(crop.left, crop.right, width, self.columns, feather)
        return (y[:, None] * x).float()

    def mask_alpha(self, masks: Tensor, source: tuple[int, int]) -> Tensor:
        """(k, H, W) of the background or (k, h, w) of the crop -> (k, Y, X)."""
        if tuple(masks.shape[1:]) == tuple(source):
            return masks[:, self.rows, self.columns]
        y, x = self._taps(*masks.shape[1:])
        return torch.stack([_resample(one[..., None], y, x)[..., 0] for one in masks])

    def seam(self, alpha: Tensor) -> tuple[Tensor, Tensor]:
        """Some pixels (y, x) where alpha (Y, X) passes from background to head."""
        crop, (height, width) = self._crop, self._crop.source
        # Beyond the crop the background begins, beyond the picture's border nothing does.
        borders = (
            crop.left <= _BORDER,
            crop.right >= width - _BORDER,
            crop.top <= _BORDER,
            crop.bottom >= height - _BORDER,
        )
        padded = alpha[None, None]
        for side, at_border in enumerate(borders):
            widths = [_SEAM if side == other else 0 for other in range(4)]
            padded = F.pad(padded, widths, mode="replicate" if at_border else "constant")
        window = 2 * _SEAM + 1
        across = F.avg_pool2d(padded, (1, window), stride=1)
        soft = F.avg_pool2d(across, (window, 1), stride=1)[0, 0]
        y, x = ((soft > 0.05) & (soft < 0.95)).nonzero(as_tuple=True)
        step = max(1, len(y) // _SEAM_POINTS)
        # A stride that walks along rows would keep to a few columns: take every step-th of a
        # fixed shuffle instead.
        order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))[::step]
        return y[order], x[order]


def _resample(frame: Tensor, y: _Taps, x: _Taps) -> Tensor:
    height, width, channels = frame.shape
    tall = _weighted_rows(frame.reshape(height, width * channels), y).view(-1, width, channels)
    if x.identity and len(x.index) == width:
        return tall
    turned = tall.transpose(0, 1).reshape(width, -1)
    return _weighted_rows(turned, x).view(len(x.index), -1, channels).transpose(0, 1)


def _ramp(start: float, stop: float, limit: int, pixels: slice, feather: int) -> Tensor:
    """How much of the head each pixel of an axis shows, the share it is covered included."""
    left = torch.arange(pixels.start, pixels.stop, dtype=torch.float64)
    cover = (left + 1).clamp_max(stop) - left.clamp_min(start)
    fading = (start > _BORDER, stop < limit - _BORDER)
    reach = min(float(feather), (stop - start) / max(1, sum(fading)))
    if reach > 0:
        for distance, fades in zip((left + 0.5 - start, stop - left - 0.5), fading, strict=True):
            if fades:
                t = (distance / reach).clamp(0, 1)
                cover = cover * t * t * (3 - 2 * t)
    return cover


def _seam_offsets(
    background: Tensor,
    frames: Tensor,
    place: _Place,
    alpha: Callable[[int, int], Tensor],
    total: int,
    tick: Callable[[int, int], None] | None,
) -> Tensor:
    """(total, 3): what to add to each frame so that its colours meet the background's.

    Shoulders that moved away differ by a lot over a part of the seam, light by a little over all
    of it: the mean of the middle half of the differences follows the light and not the shoulders.
    Averaging over neighbouring frames, before and after alike, keeps the rest from flickering
    without lagging behind.
    """
    measured = torch.zeros(total, 3)
    points = None
    still = alpha(0, 1).shape[0] == alpha(0, min(2, total)).shape[0]
    for index in range(total):
        if tick is not None and index % 32 == 0:
            tick(0, total)
        if points is None or not still:
            points = place.seam(alpha(index, index + 1)[0, ..., 0])
        y, x = points
        if len(y):
            frame = frames[min(index, len(frames) - 1)].float()
            behind = background[min(index, len(background) - 1), place.rows, place.columns]
            difference = behind[y, x].float() - place.points(frame, y, x)
            quarter = len(y) // 4
            measured[index] = difference.sort(0).values[quarter : len(y) - quarter].mean(0)
    return _smoothed(measured)


def _smoothed(offsets: Tensor) -> Tensor:
    """Averaged along time with a Hann window; the ends lean on what they have."""
    window = torch.hann_window(2 * _SMOOTHING + 3, periodic=False)[1:-1][None, None]
    series = offsets.T[:, None]
    total = F.conv1d(series, window, padding=_SMOOTHING)
    weight = F.conv1d(torch.ones_like(series), window, padding=_SMOOTHING)
    return (total / weight)[:, 0].T


def _held(start: int, stop: int, count: int) -> Tensor | slice:
    """Frames start to stop of something with `count`, whose last one is held."""
    if stop <= count:
        return slice(start, stop)
    return torch.arange(start, stop).clamp_max(count - 1)


def _check(
    background: Tensor, frames: Tensor, crop: Crop, feather: int, color_match: float
) -> None:
    for name, images in (("background", background), ("head", frames)):
        shape = tuple(images.shape)
        if images.ndim != 4 or images.shape[-1] != 3 or 0 in shape:
            alpha = "; drop the alpha channel" if shape[-1:] == (4,) else ""
            raise PortraitError(
                f"The {name} has shape {shape}; expected (frames, height, width, 3){alpha}."
            )
    height, width = background.shape[1:3]
    if (height, width) != tuple(crop.source):
        raise PortraitError(
            f"The crop was made from a picture of {crop.source[1]}x{crop.source[0]}, but the "
            f"background has {width}x{height}; paste into a background of the picture's size."
        )
    aspect = frames.shape[2] / frames.shape[1] * crop.size[0] / crop.size[1]
    if abs(math.log(aspect)) > _ASPECT_TOLERANCE:
        raise PortraitError(
            f"The head's frames have {frames.shape[2]}x{frames.shape[1]}, but the crop is for a "
            f"portrait of {crop.size[1]}x{crop.size[0]}; use the crop that this head was made with."
        )
    if feather < 0:
        raise PortraitError(f"The feather is {feather} pixels; expected 0 or more.")
    if not 0 <= color_match <= 1:
        raise PortraitError(f"The colour match is {color_match:g}; expected 0 to 1.")


def _checked_mask(mask: Tensor, background: Tensor, frames: Tensor, crop: Crop) -> Tensor:
    """(1 or more, height, width) in [0, 1], float32."""
    masks = mask[None] if mask.ndim == 2 else mask
    sizes = (tuple(crop.source), tuple(crop.size), tuple(frames.shape[1:3]))
    if masks.ndim != 3 or tuple(masks.shape[1:]) not in sizes:
        raise PortraitError(
            f"The mask has shape {tuple(mask.shape)}; expected the background's height and width "
            f"{sizes[0]} or the portrait's {sizes[1]}."
        )
    lengths = sorted({1, len(background), len(frames)})
    if len(masks) not in lengths:
        raise PortraitError(
            f"There are {len(masks)} masks; expected {' or '.join(map(str, lengths))}: one for "
            "all frames, or one for each."
        )
    return masks.float().clamp(0, 1)
