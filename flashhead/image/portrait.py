"""Reads portraits (paths, PIL images, tensors) and crops them to the model's size (DESIGN §1.5)."""

import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..errors import PortraitError

Portrait = str | Path | Image.Image | Tensor


def load_portrait(portrait: Portrait) -> Image.Image:
    """An RGB picture from a path, a PIL image or an (H, W, 3) tensor in [0, 1].

    A photograph's EXIF orientation is applied. Raises `PortraitError` for anything that is not a
    readable picture, has transparent pixels, or is a batch of several.
    """
    if isinstance(portrait, Tensor):
        return _from_tensor(portrait)
    if isinstance(portrait, (str, Path)):
        path = Path(portrait)
        if not path.is_file():
            raise PortraitError(f"The portrait {path} does not exist or is not a file.")
        try:
            with Image.open(path) as opened:
                opened.load()
                return _from_image(opened, str(path))
        # UnidentifiedImageError is an OSError; a broken PNG raises SyntaxError.
        except (Image.DecompressionBombError, OSError, SyntaxError) as error:
            raise PortraitError(
                f"The portrait {path} is not a readable picture: {error}."
            ) from error
    if isinstance(portrait, Image.Image):
        return _from_image(portrait, "The portrait")
    raise PortraitError(
        f"The portrait is a {type(portrait).__name__}; expected a path, a PIL image or an "
        "(H, W, 3) tensor in [0, 1]."
    )


def load_portraits(folder: str | Path) -> dict[str, Image.Image]:
    """Every picture in a folder, by its file name without extension, in order of name.

    Raises `PortraitError` for a folder that is missing or holds no picture, and for a picture
    that `load_portrait` refuses.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise PortraitError(f"The folder of portraits {folder} does not exist.")
    extensions = Image.registered_extensions()
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in extensions)
    if not paths:
        raise PortraitError(f"The folder of portraits {folder} holds no picture.")
    return {path.stem: load_portrait(path) for path in paths}


def _from_image(image: Image.Image, where: str) -> Image.Image:
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        alpha = np.asarray(image.convert("RGBA"))[..., 3]
        if alpha.min() < 255:
            raise PortraitError(
                f"{where} has transparent pixels; put it on a background first (an RGB picture)."
            )
    if image.mode.startswith("I;16"):  # Pillow would cut 16-bit grey off at 255: white
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return ImageOps.exif_transpose(image).convert("RGB")


def _from_tensor(tensor: Tensor) -> Image.Image:
    if tensor.ndim == 4:
        if tensor.shape[0] != 1:
            raise PortraitError(
                f"The portrait is a batch of {tensor.shape[0]} pictures; give one (H, W, 3)."
            )
        tensor = tensor[0]
    if tensor.ndim != 3 or tensor.shape[-1] != 3 or 0 in tensor.shape:
        alpha = " (drop the alpha channel)" if tensor.shape[-1:] == (4,) else ""
        raise PortraitError(
            f"The portrait has shape {tuple(tensor.shape)}; expected (H, W, 3) in [0, 1]{alpha}."
        )
    pixels = tensor.detach().float().cpu()
    low, high = pixels.min().item(), pixels.max().item()
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise PortraitError(
            f"The portrait's values run from {low:g} to {high:g}; expected [0, 1] without NaN."
        )
    return Image.fromarray(pixels.mul(255).round().clamp(0, 255).byte().numpy())


def cover_crop(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scale (bilinear, sizes rounded up) until (height, width) is covered, then cut the centre."""
    height, width = size
    scale = max(height / image.height, width / image.width)
    enough = (math.ceil(scale * image.width), math.ceil(scale * image.height))
    scaled = image.resize(enough, Image.Resampling.BILINEAR)
    left, top = (round((n - m) / 2) for n, m in zip(scaled.size, (width, height), strict=True))
    return scaled.crop((left, top, left + width, top + height))


def to_tensor(image: Image.Image) -> Tensor:
    """PIL RGB -> (H, W, 3) float32 in [0, 1]."""
    return torch.from_numpy(np.array(image)).float() / 255


def prepare_portrait(portrait: Portrait, size: tuple[int, int]) -> Tensor:
    """Any portrait -> (3, H, W) float32 in [-1, 1], by `cover_crop` to `size` (height, width)."""
    pixels = to_tensor(cover_crop(load_portrait(portrait), size))
    return (pixels - 0.5).mul(2).permute(2, 0, 1)
