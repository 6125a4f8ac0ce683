"""Portraits: read from wherever they are, and cropped to the model's size (DESIGN §1.5)."""

import math
import unicodedata
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import PortraitError, PortraitWarning
from .picture import HEIF_SUFFIXES, NO_PICTURES, Picture, open_picture, read_picture

Portrait = Picture

# Pixels; a picture so long and narrow that more would be cut off again is cut before it is scaled.
_MOST_SCALED = 2**26


def load_portrait(portrait: Portrait) -> Image.Image:
    """An RGB picture from a path, a PIL image, or a tensor or array (H, W, 3).

    Floats are in [0, 1], and what overshoots a little is cut off; integers have 8 or 16 bits. A
    photograph's EXIF orientation is applied and its colour profile converted to sRGB; a broken one
    gives a `PortraitWarning`. Of an animation the first frame counts. Raises `PortraitError` for
    anything that is not a readable picture, has transparent pixels, or is a batch of several.
    """
    return read_picture(portrait)


def portrait_files(folder: str | Path) -> dict[str, Path]:
    """The pictures in a folder by file name, without extension unless two would share the name.

    In order of name, without hidden files, subfolders and other kinds of file. Raises
    `PortraitError` for a folder that is missing or holds no picture; gives a `PortraitWarning` for
    a file that is named as a picture and is none.
    """
    folder = Path(folder)
    try:
        files = sorted(folder.iterdir(), key=lambda file: (_folded(file.name), file.name))
    except OSError as error:
        reason = "does not exist" if not folder.is_dir() else f"cannot be read: {error.strerror}"
        raise PortraitError(f"The folder of portraits {folder} {reason}.") from error
    Image.init()
    formats = Image.registered_extensions()
    pictures, left_out = [], []
    for file in files:
        suffix = file.suffix.lower()
        named = suffix in HEIF_SUFFIXES or formats.get(suffix, "PDF") not in NO_PICTURES
        if file.name.startswith(".") or not file.is_file() or not (named or not suffix):
            continue
        try:
            open_picture(file).close()
            pictures.append(file)
        except PortraitError as error:
            left_out += [str(error)] if named else []
    if not pictures:
        reasons = " ".join([f"The folder of portraits {folder} holds no picture.", *left_out])
        raise PortraitError(reasons)
    for reason in left_out:
        warnings.warn(f"{reason} It is left out.", PortraitWarning, stacklevel=2)
    stems = [_folded(file.stem) for file in pictures]
    return {
        file.stem if stems.count(stem) == 1 else file.name: file
        for file, stem in zip(pictures, stems, strict=True)
    }


def find_portrait(files: dict[str, Path], name: str) -> Path | None:
    """Of `portrait_files` the one called `name`, with or without extension, in any case.

    Raises `PortraitError` if several are.
    """
    folded = _folded(name)
    found = [file for file in files.values() if folded in (_folded(file.name), _folded(file.stem))]
    found = [file for file in found if name in (file.name, file.stem)] or found
    if len(found) > 1:
        names = " or ".join(file.name for file in found)
        raise PortraitError(f"The portrait '{name}' may be {names}; give one of these names.")
    return found[0] if found else None


def load_portraits(folder: str | Path) -> dict[str, Image.Image]:
    """Every picture of `portrait_files`; raises `PortraitError` as that and `load_portrait` do."""
    return {name: load_portrait(path) for name, path in portrait_files(folder).items()}


def _folded(name: str) -> str:
    # macOS spells names with accents apart.
    return unicodedata.normalize("NFC", name).casefold()


def cover_crop(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scale (bilinear, sizes rounded up) until (height, width) is covered, then cut the centre."""
    height, width = size
    scale = max(height / image.height, width / image.width)
    enough = (math.ceil(scale * image.width), math.ceil(scale * image.height))
    left, top = (round((n - m) / 2) for n, m in zip(enough, (width, height), strict=True))
    if enough[0] * enough[1] > _MOST_SCALED:  # the same but for rounding
        right, down = image.width / enough[0], image.height / enough[1]
        box = (left * right, top * down, (left + width) * right, (top + height) * down)
        return image.resize((width, height), Image.Resampling.BILINEAR, box)
    scaled = image.resize(enough, Image.Resampling.BILINEAR)
    return scaled.crop((left, top, left + width, top + height))


def to_tensor(image: Image.Image) -> Tensor:
    """PIL RGB -> (H, W, 3) float32 in [0, 1]."""
    return torch.from_numpy(np.array(image)).float() / 255


def prepare_portrait(portrait: Portrait, size: tuple[int, int]) -> Tensor:
    """Any portrait -> (3, H, W) float32 in [-1, 1], by `cover_crop` to `size` (height, width)."""
    pixels = to_tensor(cover_crop(load_portrait(portrait), size))
    return (pixels - 0.5).mul(2).permute(2, 0, 1)
