"""Paste a talking head back into the picture or video that its portrait was cut from."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..errors import PortraitError
from .crop import Crop, check_mask
from .picture import in_unit_range

# Pixels of the crop's rectangle at a time, which bounds the memory of intermediate results.
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
    """Puts `frames` where `crop` was cut out of `background`, on the CPU.

    background: (m, H, W, 3) in [0, 1], of the size that the crop was made from. frames: (n, h, w,
    3) in [0, 1], in the portrait's aspect ratio, of any size. The result has as many frames as the
    longer of both; the last frame of the shorter one is repeated. feather: over how many pixels of
    the background the head fades in, at the crop's edges that are not the picture's. color_match:
    0 to 1, how far the head's colours are moved towards the background's at the seam. mask: (H, W)
    of the background or (h, w) of the portrait or frames, alone or one per frame; 1 shows the
    head. tick: called with the frames done and the frames in all after every block, and with 0
    done while colours are measured; it may raise to stop.

    Returns (frames, H, W, 3) of the background's dtype, outside the crop bit for bit the
    background. Raises `PortraitError` for shapes that do not fit together, and for a feather or
    colour match out of range.
    """
    _check(background, frames, crop, feather, color_match)
    background, frames = background.cpu(), frames.cpu()
    masks = None if mask is None else _checked_mask(mask, background, frames, crop)
    total = max(len(background), len(frames))
    output = background.new_empty(total, *background.shape[1:])
    output[: len(background)] = background
    output[len(background) :] = background[-1]
    region = _Region(crop)
    inside = output[:, region.rows, region.columns]
    edge = region.edge_alpha(feather)[None]
    if masks is not None and len(masks) == 1:
        edge, masks = region.mask_alpha(list(masks)) * edge, None

    def alpha(start: int, stop: int) -> Tensor:
        """(1 or k, Y, X): how much of the head is seen, in all or in each of k frames."""
        return edge if masks is None else region.mask_alpha(_held(masks, start, stop)) * edge

    offsets = None
    if color_match > 0:
        differences = torch.zeros(total, 3)
        for index in range(total):
            if tick is not None and index % 32 == 0:
                tick(0, total)
            if index == 0 or masks is not None:
                y, x = region.seam(alpha(index, index + 1)[0])
            if len(y):
                head = region.resample(_held(frames, index, index + 1))[0, y, x]
                difference = (inside[index, y, x].float() - head).sort(0).values
                # The middle half follows light, which differs a little all over the seam, and not
                # shoulders that moved away, which differ by a lot over a part of it.
                quarter = len(y) // 4
                differences[index] = difference[quarter : len(y) - quarter].mean(0)
        offsets = color_match * _smoothed(differences)
    block = max(1, _PIXELS_AT_ONCE // edge.numel())
    for start in range(0, total, block):
        stop = min(start + block, total)
        head = region.resample(_held(frames, start, stop))
        if offsets is not None:
            head = head.add_(offsets[start:stop, None, None]).clamp_(0, 1)
        behind = inside[start:stop]
        # lerp is exact at 0 and at 1.
        behind.copy_(torch.lerp(behind.float(), head, alpha(start, stop)[..., None]))
        if tick is not None:
            tick(stop, total)
    return output


class _Region:
    """The whole pixels of the background that a crop touches: (Y, X) of them.

    rows, columns: where they are in the background.
    """

    def __init__(self, crop: Crop) -> None:
        self._crop = crop
        height, width = crop.source
        self.rows = slice(max(0, math.floor(crop.top)), min(height, math.ceil(crop.bottom)))
        self.columns = slice(max(0, math.floor(crop.left)), min(width, math.ceil(crop.right)))
        self._size = (self.columns.stop - self.columns.start, self.rows.stop - self.rows.start)

    def resample(self, frames: Sequence[Tensor]) -> Tensor:
        """k frames (h, w, c) of the crop -> (k, Y, X, c) float32, bilinear, antialiased.

        The crop's edges may lie between pixels. The pixels that they cross lie partly outside the
        frames, where those are continued by their outermost pixels.
        """
        crop, (height, width) = self._crop, frames[0].shape[:2]
        down, right = height / crop.height, width / crop.width  # the frames' pixels to the crop's
        y, x = math.ceil(down), math.ceil(right)
        box = (
            x + (self.columns.start - crop.left) * right,
            y + (self.rows.start - crop.top) * down,
            x + (self.columns.stop - crop.left) * right,
            y + (self.rows.stop - crop.top) * down,
        )
        resized = []
        for frame in frames:  # one at a time: they may be far larger than the crop
            padded = F.pad(frame.movedim(2, 0).float(), (x, x, y, y), mode="replicate").numpy()
            planes = [
                np.asarray(Image.fromarray(p).resize(self._size, Image.Resampling.BILINEAR, box))
                for p in padded
            ]
            resized.append(np.stack(planes, -1))
        return torch.from_numpy(np.stack(resized))

    def edge_alpha(self, feather: int) -> Tensor:
        """(Y, X): 1 inside, fading to 0 at the crop's edges that are not the picture's."""
        crop, (height, width) = self._crop, self._crop.source
        y = _ramp(crop.top, crop.bottom, height, self.rows, feather)
        x = _ramp(crop.left, crop.right, width, self.columns, feather)
        return (y[:, None] * x).float()

    def mask_alpha(self, masks: Sequence[Tensor]) -> Tensor:
        """k masks (H, W) of the background or (h, w) of the crop -> (k, Y, X)."""
        if tuple(masks[0].shape) == tuple(self._crop.source):
            return torch.stack([mask[self.rows, self.columns] for mask in masks])
        return self.resample([mask[..., None] for mask in masks])[..., 0]

    def seam(self, alpha: Tensor) -> tuple[Tensor, Tensor]:
        """Some pixels (y, x) where alpha (Y, X) passes from background to head."""
        height, width = self._crop.source
        # The background begins beyond the crop, as far as the picture reaches.
        left, top = min(_SEAM, self.columns.start), min(_SEAM, self.rows.start)
        right, bottom = min(_SEAM, width - self.columns.stop), min(_SEAM, height - self.rows.stop)
        soft = F.pad(alpha[None, None], (left, right, top, bottom))
        side = 2 * _SEAM + 1
        soft = F.avg_pool2d(soft, (1, side), 1, (0, _SEAM), count_include_pad=False)
        soft = F.avg_pool2d(soft, (side, 1), 1, (_SEAM, 0), count_include_pad=False)
        soft = soft[0, 0, top : top + alpha.shape[0], left : left + alpha.shape[1]]
        y, x = ((soft > 0.05) & (soft < 0.95)).nonzero(as_tuple=True)
        chosen = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))[:_SEAM_POINTS]
        return y[chosen], x[chosen]


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


def _smoothed(offsets: Tensor) -> Tensor:
    """Offsets (frames, 3) averaged along time with a Hann window, so that colours do not flicker.

    At the first and the last frames the window covers only the frames that there are.
    """
    window = torch.hann_window(2 * _SMOOTHING + 3, periodic=False)[1:-1][None, None]
    series = offsets.T[:, None]
    total = F.conv1d(series, window, padding=_SMOOTHING)
    weight = F.conv1d(torch.ones_like(series), window, padding=_SMOOTHING)
    return (total / weight)[:, 0].T


def _held(images: Tensor, start: int, stop: int) -> list[Tensor]:
    """Frames start to stop of `images`, whose last one is held; nothing is copied."""
    return [images[min(index, len(images) - 1)] for index in range(start, stop)]


def _check(
    background: Tensor, frames: Tensor, crop: Crop, feather: int, color_match: float
) -> None:
    for name, images in (("background", background), ("head", frames)):
        if not isinstance(images, Tensor) or not images.is_floating_point():
            found = images.dtype if isinstance(images, Tensor) else type(images).__name__
            raise PortraitError(f"The {name} is {found}; expected floating point in [0, 1].")
        shape = tuple(images.shape)
        if images.ndim != 4 or images.shape[-1] != 3 or 0 in shape:
            alpha = "; drop the alpha channel" if shape[-1:] == (4,) else ""
            raise PortraitError(
                f"The {name} has shape {shape}; expected (frames, height, width, 3){alpha}."
            )
        extremes = torch.stack([torch.stack(frame.float().aminmax()) for frame in images])
        low, high = extremes.min().item(), extremes.max().item()
        if not in_unit_range([frame.float().cpu().numpy() for frame in images], low, high):
            raise PortraitError(
                f"The {name}'s values run from {low:g} to {high:g}; expected [0, 1] without NaN."
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
    check_mask(mask)
    masks = (mask[None] if mask.ndim == 2 else mask).cpu()
    sizes = (tuple(crop.source), tuple(crop.size), tuple(frames.shape[1:3]))
    if masks.ndim != 3 or tuple(masks.shape[1:]) not in sizes:
        if not masks.any():  # as Load Image gives it, of another size, where nothing is painted
            raise PortraitError("The mask is empty; paint where the head shows, or leave it out.")
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
