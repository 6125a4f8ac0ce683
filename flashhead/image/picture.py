"""Any picture as RGB in 8 bits and sRGB: files, PIL images, arrays and tensors (DESIGN §6)."""

import io
import math
import os
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, UnidentifiedImageError
from torch import Tensor

from ..errors import PortraitError, PortraitWarning
from ..files import fault_of

Picture = str | Path | Image.Image | np.ndarray | Tensor

# HEIC, as iPhones take it: often by names in .jpg.
HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif"})
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1", b"avif", b"avis")
# What Pillow tells by content but cannot decode, or only by starting another program.
NO_PICTURES = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "PDF", "WMF"})

# Resizing overshoots (bicubic by up to 0.45, Lanczos by 0.6), light may be brighter than 1. Of a
# picture in [-1, 1] or 0..255 much is outside, and far. Shares of all values, and their mean.
_LOWEST, _MEAN_BELOW, _HIGHEST, _SHARE_ABOVE = -0.7, 0.05, 2.0, 0.1

_VALUES_AT_ONCE = 2**22

# EXIF orientation -> what turns the picture upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# A profile's colour space -> the mode of pictures that it describes.
_PROFILE_MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab ": "LAB"}


def read_picture(picture: Picture) -> Image.Image:
    """An RGB picture; see `portrait.load_portrait`."""
    if isinstance(picture, (str, Path)):
        with open_picture(Path(picture)) as opened:
            return _from_image(opened, f"The portrait {picture}")
    if isinstance(picture, Image.Image):
        return _from_image(picture, "The portrait")
    if isinstance(picture, Tensor):
        picture = picture.detach().cpu()
        picture = (picture.float() if picture.is_floating_point() else picture).numpy()
    if isinstance(picture, np.ndarray):
        return _from_array(picture)
    raise PortraitError(
        f"The portrait is a {type(picture).__name__}; expected a path, a PIL image, or a tensor or "
        "array (H, W, 3) in [0, 1]."
    )


def open_picture(path: Path) -> Image.Image:
    """A picture file of which only the header is read; raises `PortraitError` for any other."""
    if not os.path.isfile(path):  # Path's own raises for what it may not look at
        raise PortraitError(f"The portrait {path} does not exist or is not a file.")
    if fault := fault_of(path):
        raise PortraitError(f"The portrait {path} is not a readable picture: it {fault}.")
    Image.preinit()  # common formats first
    Image.init()
    try:
        return Image.open(path, formats=[name for name in Image.ID if name not in NO_PICTURES])
    except UnidentifiedImageError:
        reason = "it is broken or in a format that Pillow does not know"
        with open(path, "rb") as file:
            head = file.read(12)
        if path.suffix.lower() in HEIF_SUFFIXES or (
            head[4:8] == b"ftyp" and head[8:] in _HEIF_BRANDS
        ):
            reason = "Pillow cannot read HEIC or AVIF here; convert it to JPEG or PNG"
        raise PortraitError(f"The portrait {path} is not a readable picture: {reason}.") from None
    except Exception as error:  # a broken header raises nearly anything
        raise _unreadable(f"The portrait {path}", error) from error


def _unreadable(where: str, error: Exception) -> PortraitError:
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    if isinstance(error, Image.DecompressionBombError):
        reason = f"it has more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels; scale it down"
    return PortraitError(f"{where} is not a readable picture: {reason}.")


def _from_image(image: Image.Image, where: str) -> Image.Image:
    try:
        image.load()
        if 0 in image.size:
            raise ValueError("it has no pixels")
        profile = image.info.get("icc_profile")
        if _is_transparent(image):
            raise PortraitError(
                f"{where} has transparent pixels; put it on a background first (an RGB picture)."
            )
        image = _upright(image)
        if image.mode in ("I", "F") or image.mode.startswith("I;16"):
            # Pillow would cut these off at 255: all white, or all black.
            image = Image.fromarray(_bytes(np.asarray(image), where, floats_to_one=False))
        return _in_srgb(image, profile, where)
    except PortraitError:
        raise
    except Exception as error:  # decoders raise nearly anything
        raise _unreadable(where, error) from error


def _is_transparent(image: Image.Image) -> bool:
    key = image.info.get("transparency")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or (
        key is not None and image.mode in ("1", "L", "P", "RGB")
    ):
        return image.convert("RGBA").getchannel("A").getextrema() != (255, 255)
    return key is not None and bool((np.asarray(image) == key).any())


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(0x0112)
    except Exception:  # broken EXIF is no reason to refuse a picture
        return image
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def _in_srgb(image: Image.Image, profile: bytes | None, where: str) -> Image.Image:
    if image.mode not in ("RGB", "L", "CMYK", "LAB"):
        image = image.convert("RGB")
    plain = image.convert("RGB")
    if not profile:
        return plain
    try:
        from PIL import ImageCms  # a build of Pillow may lack it

        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space
        mode = _PROFILE_MODES.get(space, space)
        if mode != image.mode and (mode, image.mode) != ("RGB", "L"):
            raise ValueError(f"it is for {mode} pictures, this is {image.mode}")
        converted = ImageCms.profileToProfile(
            image.convert(mode), source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
        assert converted is not None
    except Exception as error:  # ImportError, OSError, PyCMSError, ValueError
        text = f"{where} is taken for sRGB, because its colour profile cannot be used: {error}"
        warnings.warn(" ".join(text.split()) + ".", PortraitWarning, stacklevel=5)
        return plain
    # A profile of sRGB itself changes values by rounding alone: the file's own are better.
    extrema = ImageChops.difference(converted, plain).getextrema()
    return plain if np.max(extrema) <= 1 else converted


def _from_array(array: np.ndarray) -> Image.Image:
    if array.ndim == 4:
        if array.shape[0] != 1:
            raise PortraitError(
                f"The portrait is a batch of {array.shape[0]} pictures; give one (H, W, 3)."
            )
        array = array[0]
    if array.ndim != 3 or array.shape[-1] != 3 or 0 in array.shape:
        alpha = " (drop the alpha channel)" if array.shape[-1:] == (4,) else ""
        raise PortraitError(
            f"The portrait has shape {tuple(array.shape)}; expected (H, W, 3) in [0, 1]{alpha}."
        )
    if array.dtype.kind not in "fiub":
        raise PortraitError(f"The portrait is of {array.dtype}; expected numbers in [0, 1].")
    return Image.fromarray(_bytes(array, "The portrait", floats_to_one=True))


def _bytes(values: np.ndarray, where: str, *, floats_to_one: bool) -> np.ndarray:
    """Values as uint8. Floats are in [0, 1], a little overshoot is cut off; integers, and floats
    that need not be, in 0..255 or, where they are larger, 0..65535."""
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    if values.dtype.kind == "b":
        return values.astype(np.uint8) * np.uint8(255)
    # A part at a time: a large picture's floats would take gigabytes.
    parts = np.array_split(values, max(1, values.size // _VALUES_AT_ONCE))
    low = min(part.min().item() for part in parts)
    high = max(part.max().item() for part in parts)
    expected = "0 to 255 or to 65535"
    finite = math.isfinite(low) and math.isfinite(high)
    scale = 1 if high <= 255 else 1 / 257
    if values.dtype.kind == "f":
        if in_unit_range(parts, low, high):
            low, high, scale = 0, 1, 255
        else:
            expected = "[0, 1] without NaN" + ("" if floats_to_one else f", {expected}")
            finite = finite and not floats_to_one
    if not (finite and low >= 0 and high <= 65535):
        raise PortraitError(f"{where}'s values run from {low:g} to {high:g}; expected {expected}.")
    rounded = ((part.astype(np.float32) * scale).round().clip(0, 255) for part in parts)
    return np.concatenate([part.astype(np.uint8) for part in rounded])


def in_unit_range(parts: list[np.ndarray], low: float, high: float) -> bool:
    """Whether values, from `low` to `high`, were made for [0, 1]; a little overshoot is no sign
    that they were not."""
    if 0 <= low and high <= 1:
        return True
    if not (low >= _LOWEST and math.isfinite(high)):  # NaN is neither
        return False
    size = sum(part.size for part in parts)
    below = sum(-part.clip(None, 0).sum(dtype=np.float64) for part in parts) / size
    above = sum(np.count_nonzero(part > 1) for part in parts) / size
    return bool(below <= _MEAN_BELOW and (high <= _HIGHEST or above <= _SHARE_ABOVE))
