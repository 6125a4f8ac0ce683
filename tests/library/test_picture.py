"""Pictures of every kind that a user has: as they look, or refused in one sentence."""

import io
import random
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from flashhead import PortraitError, PortraitWarning
from flashhead.image.portrait import load_portrait

RAMP = np.linspace(0, 1, 64 * 48).reshape(48, 64)
GREY = (RAMP * 255).round().astype(np.uint8)
RGB = np.stack([GREY, GREY[::-1], np.tile(np.arange(64, dtype=np.uint8) * 4, (48, 1))], -1)


def loaded(picture):
    return np.asarray(load_portrait(picture)).astype(int)


def saved(path, image, **options):
    image.save(path, **options)
    return path


@pytest.mark.parametrize(
    "name, values",
    [
        ("grey.png", (RAMP * 65535).astype(np.uint16)),
        ("grey16.tif", (RAMP * 65535).astype(np.uint16)),
        ("big-endian.tif", (RAMP * 65535).astype(">u2")),
        ("grey.pgm", (RAMP * 65535).astype(np.int32)),
        ("integers.tif", (RAMP * 65535).astype(np.int32)),
        ("bytes-in-integers.tif", GREY.astype(np.int32)),
        ("floats.tif", RAMP.astype(np.float32)),
        ("overshoot.tif", (RAMP * 1.05 - 0.02).astype(np.float32)),
        ("bytes-in-floats.tif", GREY.astype(np.float32)),
        ("words-in-floats.tif", (RAMP * 65535).astype(np.float32)),
    ],
)
def test_grey_of_any_depth_keeps_its_shades(tmp_path, name, values):
    path = saved(tmp_path / name, Image.fromarray(values))
    assert Image.open(path).mode not in ("L", "RGB")
    for picture in (path, Image.open(path)):
        assert np.abs(loaded(picture) - GREY[..., None]).max() <= (14 if "over" in name else 1)


def test_sixteen_bit_colour_files(tmp_path):
    wide = RGB.astype(">u2") * 257
    (tmp_path / "rgb.ppm").write_bytes(b"P6 64 48 65535\n" + wide.tobytes())
    lines = b"".join(b"\0" + row.tobytes() for row in wide)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", 64, 48, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(lines)),
        (b"IEND", b""),
    )
    (tmp_path / "rgb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(map(png_chunk, chunks)))
    for name in ("rgb.ppm", "rgb.png"):
        assert np.abs(loaded(tmp_path / name) - RGB).max() <= 1


def png_chunk(chunk):
    kind, data = chunk
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("value", [-1.0, 70000.0, float("nan"), float("inf")])
def test_values_that_are_no_picture_are_refused(tmp_path, value):
    values = np.full((8, 8), 0.5, np.float32)
    values[:5] = value
    with pytest.raises(PortraitError, match=r"wild.tif's values run from .* expected \[0, 1\]"):
        load_portrait(saved(tmp_path / "wild.tif", Image.fromarray(values)))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "int64", "float16", "float64"])
def test_arrays_and_tensors_of_any_type(dtype):
    wide = {"uint16": 257, "int32": 257}.get(dtype, 1 / 255 if dtype.startswith("f") else 1)
    array = (RGB.astype(float) * wide).astype(dtype)
    for form in (array, array[None], torch.from_numpy(array), array[:, ::-1][:, ::-1]):
        assert np.abs(loaded(form) - RGB).max() <= 1
    assert np.array_equal(loaded(array > array.mean()), (array > array.mean()) * 255)


@pytest.mark.parametrize("array", [RGB * 1j, RGB.astype(str), RGB.astype(object), RGB - 300.0])
def test_arrays_of_other_things_are_refused(array):
    with pytest.raises(PortraitError, match="expected"):
        load_portrait(array)


@pytest.mark.parametrize("mode", ["bicubic", "lanczos", "bright", "exr"])
def test_a_little_outside_is_cut_off(mode):
    rng = torch.Generator().manual_seed(0)
    hard = (torch.rand(1, 3, 24, 24, generator=rng) > 0.5).float()  # the most that can overshoot
    if mode == "bicubic":
        picture = torch.nn.functional.interpolate(hard, (96, 96), mode="bicubic")
    elif mode == "lanczos":
        planes = [
            Image.fromarray(p.numpy()).resize((96, 96), Image.Resampling.LANCZOS) for p in hard[0]
        ]
        picture = torch.stack([torch.from_numpy(np.array(p)) for p in planes])[None]
    elif mode == "bright":
        picture = torch.from_numpy(RGB).movedim(-1, 0)[None] / 255 * 1.3
    else:
        picture = torch.from_numpy(RGB).movedim(-1, 0)[None] / 255
        picture[..., :4, :4] = 30.0  # a lamp
    picture = picture.movedim(1, -1)
    assert picture.min() < -0.01 or picture.max() > 1.2
    expected = (picture[0].clamp(0, 1) * 255).round().numpy()
    for form in (picture, picture.half()):
        assert np.abs(loaded(form) - expected).max() <= 1


@pytest.mark.parametrize("scale, shift", [(255, 0), (2, -1), (1, -0.5), (20, 0)])
def test_another_range_is_refused(scale, shift):
    with pytest.raises(PortraitError, match=r"expected \[0, 1\] without NaN\.$"):
        load_portrait(torch.from_numpy(RGB) / 255 * scale + shift)


# Colour profiles


def profile(swapped=False, colorants=None):
    """sRGB's, or with red and blue exchanged, or with other primaries."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    tags = {}
    for at in range(132, 132 + 12 * struct.unpack_from(">I", data, 128)[0], 12):
        tags[bytes(data[at : at + 4])] = (at, struct.unpack_from(">I", data, at + 4)[0])
    if swapped:
        (red, at_red), (blue, at_blue) = tags[b"rXYZ"], tags[b"bXYZ"]
        struct.pack_into(">I", data, red + 4, at_blue)
        struct.pack_into(">I", data, blue + 4, at_red)
    for tag, xyz in (colorants or {}).items():
        struct.pack_into(">3i", data, tags[tag][1] + 8, *(round(v * 65536) for v in xyz))
    return bytes(data)


P3 = {
    b"rXYZ": (0.51512, 0.24120, -0.00105),
    b"gXYZ": (0.29198, 0.69225, 0.04189),
    b"bXYZ": (0.15710, 0.06657, 0.78407),
}


@pytest.mark.parametrize("suffix", ["png", "tif", "webp", "jpg"])
def test_a_colour_profile_is_applied(tmp_path, suffix):
    options = {"webp": {"lossless": True}, "jpg": {"quality": 100, "subsampling": 0}}.get(
        suffix, {}
    )
    image = Image.fromarray(RGB)
    path = saved(tmp_path / f"p.{suffix}", image, icc_profile=profile(swapped=True), **options)
    assert np.abs(loaded(path) - RGB[..., ::-1]).mean() < 2
    path = saved(tmp_path / f"same.{suffix}", image, icc_profile=profile(), **options)
    assert np.array_equal(loaded(path), np.asarray(Image.open(path)))


def test_a_wide_gamut_becomes_more_saturated(tmp_path):
    image = Image.new("RGB", (8, 8), (200, 90, 60))
    path = saved(tmp_path / "p3.png", image, icc_profile=profile(colorants=P3))
    assert loaded(path)[0, 0] == pytest.approx([216, 81, 49], abs=1)  # by the matrices


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "I;16"])
def test_a_profile_in_other_modes(tmp_path, mode):
    image = (
        Image.fromarray(GREY.astype(np.uint16) * 257)
        if mode == "I;16"
        else (Image.fromarray(GREY).convert(mode))
    )
    path = saved(tmp_path / "p.png", image, icc_profile=profile(swapped=True))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.abs(loaded(path) - GREY[..., None]).max() <= 3  # grey has no colour to swap


@pytest.mark.parametrize(
    "broken", [b"nonsense", profile()[:300], profile().replace(b"RGB ", b"GRAY")]
)
def test_a_broken_profile_is_left_out_with_a_warning(tmp_path, broken):
    path = saved(tmp_path / "odd.png", Image.fromarray(RGB), icc_profile=broken)
    with pytest.warns(PortraitWarning, match="odd.png is taken for sRGB.*profile"):
        assert np.array_equal(loaded(path), RGB)


def test_ink_is_converted_by_its_profile_or_plainly(tmp_path):
    ink = Image.fromarray(RGB).convert("CMYK")
    assert np.abs(loaded(saved(tmp_path / "plain.tif", ink)) - RGB).max() <= 2
    path = saved(tmp_path / "wrong.tif", ink, icc_profile=profile())
    with pytest.warns(PortraitWarning, match="for RGB pictures, this is CMYK"):
        assert np.abs(loaded(path) - RGB).max() <= 2


def test_lab_is_converted_without_a_warning(tmp_path):
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    image = ImageCms.profileToProfile(Image.fromarray(RGB), srgb, lab, outputMode="LAB")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.abs(loaded(saved(tmp_path / "lab.tif", image)) - RGB).mean() < 3


# Files that are odd, broken or hostile


def test_of_an_animation_the_first_frame_counts(tmp_path):
    first, second = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    for suffix in ("gif", "png", "webp", "tif"):
        path = saved(tmp_path / f"two.{suffix}", first, save_all=True, append_images=[second])
        assert np.abs(loaded(path) - (255, 0, 0)).max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_every_orientation(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    corners = np.kron(np.array([[0, 80], [160, 255]], np.uint8), np.ones((16, 24), np.uint8))
    # Of uncompressed TIFF that is turned by a quarter Pillow 13 reads the rows by a wrong length.
    options = {"compression": "tiff_lzw"} if suffix == "tif" else {}
    path = saved(tmp_path / f"turned.{suffix}", Image.fromarray(corners), exif=exif, **options)
    turned = np.rot90(corners, {3: 2, 4: 2, 5: -1, 6: -1, 7: 1, 8: 1}.get(orientation, 0))
    turned = turned[:, ::-1] if orientation in (2, 4, 5, 7) else turned
    assert np.abs(loaded(path)[..., 0] - turned).mean() < 4


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_is_no_fault_of_the_picture(tmp_path):
    exif = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xfe" * 40
    assert (
        np.abs(loaded(saved(tmp_path / "e.jpg", Image.fromarray(RGB), exif=exif)) - RGB).mean() < 9
    )


@pytest.mark.parametrize("name", ["photo.heic", "photo.jpg"])
def test_heic_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64))
    with pytest.raises(PortraitError, match=f"{name}.*HEIC.*convert it to JPEG or PNG"):
        load_portrait(tmp_path / name)


@pytest.mark.parametrize("kind", ["text", "profile", "size", "postscript", "video", "empty"])
def test_bombs_and_strange_files_are_refused(tmp_path, kind):
    header = b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    bomb = zlib.compress(bytes(2 << 20))  # Pillow's limit is 1 MB
    chunks = {
        "text": [header, (b"zTXt", b"Comment\0\0" + bomb)],
        "profile": [header, (b"iCCP", b"x\0\0" + bomb)],
        "size": [(b"IHDR", struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0))],
    }.get(kind)
    data = {
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n",
        "video": b"\0\0\x01\xb3\x08\x00\x80" + bytes(64),
        "empty": b"",
    }.get(kind, b"")
    if chunks:
        data = b"\x89PNG\r\n\x1a\n" + b"".join(map(png_chunk, chunks))
    (tmp_path / "odd.png").write_bytes(data)
    with pytest.raises(PortraitError, match="odd.png is not a readable picture: .*[^.]\\.$"):
        load_portrait(tmp_path / "odd.png")


def test_an_empty_image_is_refused():
    with pytest.raises(PortraitError, match="no pixels"):
        load_portrait(Image.new("RGB", (0, 5)))


def test_changed_bytes_give_a_picture_or_one_sentence(tmp_path):
    images = [Image.fromarray(RGB), Image.fromarray(RAMP.astype(np.float32))]
    files = [("tif", encoded(images[1], "TIFF"))]
    for kind in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF"):
        files.append((kind.lower(), encoded(images[0], kind, icc_profile=profile())))
    rng, refused = random.Random(0), 0
    for number in range(200):
        suffix, data = files[number % len(files)]
        data = bytearray(data)
        for _ in range(rng.choice((1, 2, 8))):
            at = rng.randrange(rng.choice((64, 400, len(data))))
            data[at : at + rng.choice((0, 1, 1, 9))] = rng.randbytes(rng.choice((0, 1, 1, 4)))
        file = tmp_path / f"changed.{suffix}"
        file.write_bytes(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                assert load_portrait(file).mode == "RGB"
            except PortraitError as error:
                refused += 1
                assert str(error).endswith(".") and "\n" not in str(error)
    assert 20 < refused < 180


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
