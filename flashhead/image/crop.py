"""The part of a picture that becomes the portrait: around a face, from a box, a mask or all of it.

`Crop` also says where `paste` puts the talking head back.
"""

import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

from PIL import Image
from torch import Tensor

from ..errors import PortraitError
from .portrait import cover_crop

# How much larger than the face the crop is. A detector's box runs from hairline to chin. In the
# example portrait of the original code that is 285 of 512 pixels, a ratio of 1.8, with the face in
# the middle: 0.4 of a face above holds the hair, 0.4 below the neck and the shoulders' start.
DEFAULT_RATIO = 1.8

# The face crop of the original code (its --use_face_crop): a square so many times as wide as the
# face, this share of it above the face's centre.
FACE_RATIO, FACE_ABOVE = 2.0, 0.55

_BOX_KEYS = ("x", "y", "width", "height")

Size = tuple[int, int]


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels of a picture; x to the right, y down, from the top left corner."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def bottom(self) -> float:
        return self.y + self.height

    def __str__(self) -> str:
        return f"{self.width:g}x{self.height:g} at ({self.x:g}, {self.y:g})"


@dataclass(frozen=True)
class Crop:
    """A rectangle of a picture, and the size of the portrait made from it.

    left, top, right, bottom: in pixels of the picture, fractions of a pixel included, inside it.
    source: (H, W) of the picture. size: (H, W) of the portrait.
    """

    left: float
    top: float
    right: float
    bottom: float
    source: Size
    size: Size

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.bottom - self.top


def crop_to_cover(source: Size, size: Size) -> Crop:
    """What `cover_crop` takes of a picture of `source` (H, W) for a portrait of `size` (H, W)."""
    scale = max(n / m for n, m in zip(size, source, strict=True))
    edges = []
    for n, m in zip(size, source, strict=True):
        scaled = math.ceil(scale * m)
        start = round((scaled - n) / 2)
        edges.append((start * m / scaled, (start + n) * m / scaled))
    (top, bottom), (left, right) = edges
    return Crop(left, top, right, bottom, source, size)


def crop_around(
    face: Box, source: Size, size: Size, ratio: float = DEFAULT_RATIO, offset: float = 0.0
) -> Crop:
    """A crop around a face, in the aspect ratio of `size` (H, W).

    It covers `ratio` times the face's width and height, its centre `offset` times the face's
    height below the face's (negative: above). Where it would leave the picture of `source` (H, W)
    it is moved inside, and made smaller only if it is larger than the picture. Raises
    `PortraitError` for a face that is empty or outside the picture, or a ratio below 1.
    """
    _check_box(face, source, "face")
    if not (math.isfinite(ratio) and ratio >= 1):
        raise PortraitError(f"The ratio is {ratio:g}; a crop that holds the face needs 1 or more.")
    if not math.isfinite(offset):
        raise PortraitError(f"The offset is {offset:g}; give a share of the face's height.")
    scale = max(ratio * face.width / size[1], ratio * face.height / size[0])
    scale = min(scale, source[1] / size[1], source[0] / size[0])
    centre = (face.y + face.height / 2 + offset * face.height, face.x + face.width / 2)
    edges = []
    for middle, n, limit in zip(centre, size, source, strict=True):
        length = min(scale * n, limit)
        start = min(max(middle - length / 2, 0.0), limit - length)
        edges.append((start, min(start + length, float(limit))))
    (top, bottom), (left, right) = edges
    return Crop(left, top, right, bottom, source, size)


def crop_to_face(face: Box, source: Size, size: Size) -> Crop:
    """The crop that the published model was made for, around a face: a square of `FACE_RATIO` times
    the face's width, `FACE_ABOVE` of it above the face's centre.

    For a portrait that is not square the square's side is the shorter one. Where it would leave the
    picture it is moved inside, and made smaller only if it is larger than the picture; the original
    code cuts it off there and stretches the rest. Raises `PortraitError` as `crop_around` does.
    """
    _check_box(face, source, "face")
    square = Box(face.x, face.y + (face.height - face.width) / 2, face.width, face.width)
    offset = (0.5 - FACE_ABOVE) * FACE_RATIO * size[0] / min(size)
    return crop_around(square, source, size, FACE_RATIO, offset)


def crop_box(box: Box, source: Size, size: Size) -> Crop:
    """A crop from a box, grown around its centre to the aspect ratio of `size` (H, W).

    A width or height of 0 reaches to the picture's edge. Where the grown box would leave the
    picture of `source` (H, W) it is moved inside, as in `crop_around`. Raises `PortraitError` for
    a box that is empty or leaves the picture itself.
    """
    box = Box(box.x, box.y, box.width or source[1] - box.x, box.height or source[0] - box.y)
    _check_box(box, source, "box")
    if box.x < 0 or box.y < 0 or box.right > source[1] or box.bottom > source[0]:
        raise PortraitError(
            f"The box {box} leaves the picture of {source[1]}x{source[0]}; keep it inside."
        )
    return crop_around(box, source, size, ratio=1.0)


def check_mask(mask: Tensor) -> None:
    """Raise `PortraitError` unless a mask is a tensor of numbers."""
    if not isinstance(mask, Tensor) or mask.is_complex() or mask.isnan().any():
        found = "NaN in it" if isinstance(mask, Tensor) else f"the type {type(mask).__name__}"
        raise PortraitError(f"The mask has {found}; expected a tensor of numbers from 0 to 1.")


def mask_box(mask: Tensor, source: Size) -> Box:
    """The bounding box of a mask's values above 0.5.

    mask: (H, W) or (1, H, W), of the picture's size `source`. Raises `PortraitError` for another
    shape or an empty mask.
    """
    check_mask(mask)
    if not (mask > 0.5).any():  # as Load Image gives it, of another size, where nothing is painted
        raise PortraitError(
            "The mask is empty; paint over the face (values above 0.5), such as in ComfyUI's mask "
            "editor."
        )
    if mask.ndim == 3 and mask.shape[0] == 1:
        mask = mask[0]
    if tuple(mask.shape) != tuple(source):
        raise PortraitError(
            f"The mask has shape {tuple(mask.shape)}; expected {tuple(source)}, the picture's "
            "height and width."
        )
    bounds = Image.fromarray((mask > 0.5).byte().cpu().numpy()).getbbox()
    assert bounds is not None
    left, top, right, bottom = bounds
    return Box(left, top, right - left, bottom - top)


def face_boxes(boxes: Any) -> list[Box]:
    """A detector's output, a box, a list of boxes, or such a list per frame, from left to right.

    A box is a `Box`, or a mapping with x, y, width and height in pixels. Of a list per frame the
    first frame's is used. Raises `PortraitError` for anything else.
    """
    if isinstance(boxes, (Box, Mapping)):
        boxes = [boxes]
    if isinstance(boxes, (list, tuple)) and boxes and isinstance(boxes[0], (list, tuple)):
        boxes = boxes[0]
    if not isinstance(boxes, (list, tuple)):
        raise PortraitError(
            f"The face is a {type(boxes).__name__}; expected boxes with x, y, width and height."
        )
    faces = []
    for box in boxes:
        try:
            numbers = astuple(box) if isinstance(box, Box) else [box[key] for key in _BOX_KEYS]
            faces.append(Box(*map(float, numbers)))
        except (KeyError, TypeError, ValueError, IndexError):
            raise PortraitError(
                f"A face is {str(box)[:80]}; expected a box with the numbers x, y, width and "
                "height."
            ) from None
    return sorted(faces, key=lambda face: face.x)


def face_box(boxes: Any, index: int = -1) -> Box:
    """Picks one face from a detector's output, as `face_boxes` takes it.

    index: -1 the largest face, 0 the leftmost, 1 the next to its right, and so on. Raises
    `PortraitError` if there is no face, fewer than `index` asks for, or no such box.
    """
    faces = face_boxes(boxes)
    if not faces:
        raise PortraitError(
            "No face was found in the picture; use a clearer one, or crop by box or mask."
        )
    if index < 0:
        return max(faces, key=lambda face: face.width * face.height)
    if index >= len(faces):
        raise PortraitError(
            f"Face {index} was asked for, but the picture has {len(faces)}; give 0 to "
            f"{len(faces) - 1} from left to right, or -1 for the largest."
        )
    return faces[index]


def cut(image: Image.Image, crop: Crop) -> Image.Image:
    """The portrait: `crop` of an RGB picture, scaled (bilinear, antialiased) to `crop.size`.

    Raises `PortraitError` for a picture of another size than the crop was made for.
    """
    source = (image.height, image.width)
    if source != crop.source:
        raise PortraitError(
            f"The crop was made for a picture of {crop.source[1]}x{crop.source[0]}, this one has "
            f"{image.width}x{image.height}; give the same picture."
        )
    if crop == crop_to_cover(source, crop.size):
        return cover_crop(image, crop.size)  # the original code's crop, to the bit
    box = (crop.left, crop.top, crop.right, crop.bottom)
    return image.resize((crop.size[1], crop.size[0]), Image.Resampling.BILINEAR, box)


def _check_box(box: Box, source: Size, name: str) -> None:
    if not all(map(math.isfinite, astuple(box))) or box.width <= 0 or box.height <= 0:
        raise PortraitError(f"The {name} {box} is empty; give a width and a height above 0.")
    if box.right <= 0 or box.bottom <= 0 or box.x >= source[1] or box.y >= source[0]:
        raise PortraitError(
            f"The {name} {box} is outside the picture of {source[1]}x{source[0]}; "
            "take it from this picture."
        )
