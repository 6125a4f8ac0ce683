"""Framing by the face: finding it, and the crop that it sets."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import PortraitError, PortraitWarning
from .crop import Box, Crop, Size, crop_box, crop_to_cover, crop_to_face, cut, face_box, face_boxes
from .framing import framing_warnings
from .portrait import Portrait, load_portrait

CROPS = ("cover", "auto")

_CASCADE = "haarcascade_frontalface_alt2.xml"
_LONGEST = 1024  # pixels of a side that faces are looked for in; of 3000 it takes seconds
_SMALLEST = 1 / 16  # of the shorter side; smaller faces would be blurry


def frame_portrait(portrait: Portrait, size: Size, crop: str | Box = "cover") -> Image.Image:
    """A portrait cut out of a picture, RGB, of `size` (height, width).

    crop: "cover", the middle of the picture as the original code takes it; "auto", its face crop
    (see `auto_crop`); or a box in pixels of the picture. Raises `PortraitError` for a picture that
    `load_portrait` refuses, and a box outside it. Gives a `PortraitWarning` where "auto" finds no
    face or one that is too small, cut off or off-centre.
    """
    picture = load_portrait(portrait)
    source = (picture.height, picture.width)
    name = f"{portrait}: " if isinstance(portrait, (str, Path)) else ""
    sentences: list[str] = []
    if isinstance(crop, Box):
        try:
            taken = crop_box(crop, source, size)
        except PortraitError as error:
            raise PortraitError(f"{name}{error}") from None
    elif crop == "auto":
        taken, sentences = auto_crop(picture, size)
    elif crop == "cover":
        taken = crop_to_cover(source, size)
    else:
        raise PortraitError(f"The crop is '{crop}'; expected cover, auto or a box.")
    for sentence in sentences:
        warnings.warn(f"{name}{sentence}", PortraitWarning, stacklevel=2)
    return cut(picture, taken)


def auto_crop(
    picture: Image.Image, size: Size, boxes: Any = None, index: int = -1
) -> tuple[Crop, list[str]]:
    """The crop that a face sets (`crop_to_face`), or `crop_to_cover` where none is found.

    boxes: a detector's output for this picture, as `face_box` takes it; None: OpenCV looks for
    faces, where it is installed. index: which face, -1 the largest. Also gives sentences for the
    user: that no face was found, that several were, or how the face sits. Raises `PortraitError`
    for boxes that are none.
    """
    source, given = (picture.height, picture.width), None if boxes is None else face_boxes(boxes)
    try:
        faces = find_faces(picture) if given is None else given
        face = face_box(faces, index)
        taken = crop_to_face(face, source, size)
    except PortraitError as error:
        return crop_to_cover(source, size), [f"{error} Until then the middle of it is taken."]
    sentences = framing_warnings(face, taken)
    if len(faces) > 1 and index < 0:
        middle = f"({face.x + face.width / 2:.0f}, {face.y + face.height / 2:.0f})"
        sentences.insert(0, f"{len(faces)} faces were found; the largest is taken, at {middle}.")
    return taken, sentences


def find_faces(picture: Image.Image) -> list[Box]:
    """Frontal, upright faces of an RGB picture, found by OpenCV's bundled cascade.

    Raises `PortraitError` where there is no OpenCV, it is broken, or has no cascade (5 has none).
    """
    try:
        import cv2  # optional, and slow to import

        file = Path(cv2.data.haarcascades, _CASCADE)
        if not file.is_file():
            raise FileNotFoundError(f"OpenCV {cv2.__version__} comes without its cascades")
        cascade = cv2.CascadeClassifier(str(file))
    except Exception as error:  # not ImportError alone: another numpy, a missing library
        raise PortraitError(
            "No face can be looked for without a detector's boxes or opencv-python-headless below "
            f"5 ({' '.join(str(error).split())})."
        ) from None
    grey = picture.convert("L")
    grey.thumbnail((_LONGEST, _LONGEST))
    scale = picture.width / grey.width
    least = max(20, round(min(grey.size) * _SMALLEST))
    found = cascade.detectMultiScale(np.asarray(grey), 1.1, 5, minSize=(least, least))
    return [Box(*(scale * float(side) for side in box)) for box in found]
