"""Portraits: cropped as the original code does, from every form that a user has, or refused."""

import math
import unicodedata
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from flashhead import PortraitError, PortraitWarning
from flashhead.image.portrait import (
    cover_crop,
    find_portrait,
    load_portrait,
    load_portraits,
    portrait_files,
    prepare_portrait,
    to_tensor,
)


def picture(height, width, seed=0):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("size", [(64, 64), (64, 96), (96, 64)])
def test_matches_the_original_codes_crop(size, golden):
    data = golden("crop")
    image = Image.fromarray(data["image"].numpy().astype(np.uint8))
    cropped = to_tensor(cover_crop(image, size)).permute(2, 0, 1)
    expected = data[f"crop_{size[0]}x{size[1]}"][0, :, 0]
    assert (cropped * 255 - expected).abs().max() < 1e-6 * 255
    assert (prepare_portrait(image, size) - (expected / 127.5 - 1)).abs().max() < 1e-6


@pytest.mark.parametrize("shape", [(97, 61), (61, 97), (640, 512), (30, 31), (1, 1), (3, 200)])
@pytest.mark.parametrize("size", [(64, 64), (96, 32), (32, 160)])
def test_covers_any_size_from_any_size(shape, size):
    image = picture(*shape)
    cropped = cover_crop(image, size)
    assert cropped.size == size[::-1]
    # Exactly one side fits; the other overhangs alike on both sides, to the pixel.
    scale = max(size[0] / shape[0], size[1] / shape[1])
    height, width = (math.ceil(scale * n) for n in shape)
    scaled = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    candidates = [
        scaled[y : y + size[0], x : x + size[1]] for y in (top, top + 1) for x in (left, left + 1)
    ]
    assert any(np.array_equal(np.asarray(cropped), candidate) for candidate in candidates)


def test_a_picture_of_the_right_size_is_untouched():
    image = picture(64, 96)
    assert np.array_equal(np.asarray(cover_crop(image, (64, 96))), np.asarray(image))


def test_values_run_from_minus_one_to_one():
    image = Image.fromarray(np.array([[[0, 128, 255]]], dtype=np.uint8))
    prepared = prepare_portrait(image, (32, 32))
    assert prepared.shape == (3, 32, 32) and prepared.dtype == torch.float32
    assert prepared[:, 5, 7].tolist() == pytest.approx([-1, 128 / 127.5 - 1, 1], abs=1e-6)


def test_path_picture_and_tensor_are_the_same(portrait):
    image = Image.open(portrait)
    expected = prepare_portrait(portrait, (64, 96))
    tensor = torch.from_numpy(np.array(image.convert("RGB"))) / 255
    for form in (str(portrait), image, tensor, tensor[None], tensor.double(), tensor.clone()):
        assert torch.equal(prepare_portrait(form, (64, 96)), expected)


def test_half_precision_and_slight_overshoot_are_rounded():
    tensor = torch.tensor([0.0, 0.5, 1.0005]).expand(4, 4, 3).half()
    assert np.asarray(load_portrait(tensor))[0, 0].tolist() == [0, 128, 255]


def test_the_cameras_orientation_is_applied(tmp_path):
    image = picture(20, 40)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise
    image.save(tmp_path / "turned.png", exif=exif)
    loaded = load_portrait(tmp_path / "turned.png")
    assert np.array_equal(np.asarray(loaded), np.rot90(np.asarray(image), -1))


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "1", "RGBA", "LA"])
def test_opaque_pictures_of_any_mode_are_read(mode, tmp_path):
    image = Image.new("RGB", (8, 8), "white").convert(mode)
    suffix = "tif" if mode == "CMYK" else "png"
    image.save(tmp_path / f"picture.{suffix}")
    loaded = load_portrait(tmp_path / f"picture.{suffix}")
    assert loaded.mode == "RGB" and loaded.getpixel((3, 3)) == (255, 255, 255)


def test_sixteen_bit_grey_keeps_its_shades(tmp_path):
    grey = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    loaded = np.asarray(load_portrait(tmp_path / "grey.png"))
    assert np.abs(loaded.astype(float) - grey[..., None] / 257).max() <= 1


def test_the_caller_keeps_what_was_given():
    image, tensor = picture(40, 50), torch.rand(40, 50, 3)
    before, kept = np.array(image), tensor.clone()
    prepare_portrait(image, (32, 32))
    prepare_portrait(tensor, (32, 32))
    assert np.array_equal(np.array(image), before) and torch.equal(tensor, kept)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.rand(2, 8, 8, 3), "batch of 2"),
        (torch.rand(8, 8, 4), r"\(8, 8, 4\).*alpha"),
        (torch.rand(3, 8, 8), r"\(3, 8, 8\); expected \(H, W, 3\)"),
        (torch.rand(8, 8), r"\(8, 8\); expected"),
        (torch.rand(0, 8, 3), r"\(0, 8, 3\); expected"),
        (torch.rand(8, 8, 3) * 255, r"expected \[0, 1\]"),
        (torch.rand(8, 8, 3) * 2 - 1, r"expected \[0, 1\]"),
        (torch.full((8, 8, 3), float("nan")), "NaN"),
    ],
)
def test_tensors_that_are_no_portrait_are_refused(tensor, message):
    with pytest.raises(PortraitError, match=message):
        load_portrait(tensor)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_refused(mode, tmp_path):
    image = picture(8, 8).convert(mode)
    image.putalpha(128)
    with pytest.raises(PortraitError, match="transparent"):
        load_portrait(image)
    image.save(tmp_path / "see-through.png")
    with pytest.raises(PortraitError, match="see-through.png.*transparent"):
        load_portrait(tmp_path / "see-through.png")


def test_files_that_are_no_picture_are_refused(tmp_path, portrait):
    with pytest.raises(PortraitError, match="absent.png does not exist"):
        load_portrait(tmp_path / "absent.png")
    for path in (tmp_path, tmp_path / ("x" * 300), "a\0b"):
        with pytest.raises(PortraitError, match="is not a file"):
            load_portrait(path)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(PortraitError, match="text.png is not a readable picture"):
        load_portrait(tmp_path / "text.png")
    (tmp_path / "cut.png").write_bytes(portrait.read_bytes()[:2000])
    with pytest.raises(PortraitError, match="cut.png is not a readable picture"):
        load_portrait(tmp_path / "cut.png")


@pytest.mark.parametrize("thing", [None, 3, [[0.5] * 3], b"bytes"])
def test_other_things_are_refused(thing):
    with pytest.raises(PortraitError, match=type(thing).__name__):
        load_portrait(thing)


def test_a_thread_of_a_picture_takes_no_more_memory_than_its_crop():
    """Scaled first, as other pictures are, these would be 2.7 and 80 GB."""
    column = np.linspace(0, 255, 100_000).round().astype(np.uint8)[:, None, None].repeat(3, 2)
    for size in ((96, 96), (512, 512)):
        tall = np.asarray(cover_crop(Image.fromarray(column), size))
        assert tall.shape == (*size, 3) and np.ptp(tall) <= 1 and abs(tall.mean() - 127.5) <= 1
        wide = np.asarray(cover_crop(Image.fromarray(column.swapaxes(0, 1)), size))
        assert np.array_equal(wide, tall.swapaxes(0, 1))


def test_cutting_before_scaling_is_cutting_after(monkeypatch):
    image = picture(37, 2000)
    expected = np.asarray(cover_crop(image, (64, 96))).astype(int)
    monkeypatch.setattr("flashhead.image.portrait._MOST_SCALED", 64 * 96)
    assert np.abs(np.asarray(cover_crop(image, (64, 96))) - expected).max() <= 1


# Folders


@pytest.fixture
def folder(tmp_path):
    """As people have them: from a Mac, with other files, and a subfolder called a picture."""
    root = tmp_path / "faces"
    for name in ("old.png", "__MACOSX", ".thumbnails"):
        (root / name).mkdir(parents=True)
        picture(8, 8).save(root / name / "inside.png")
    for name in ("._Ada.png", ".DS_Store", "notes.pdf", "clip.mpg", "data.h5", "notes", "mark.eps"):
        (root / name).write_bytes(b"\0\x05\x16\x07" + bytes(80))
    (root / "gone.png").symlink_to(root / "nowhere.png")
    for number, name in enumerate(("bo.JPG", "Ada.png", "clara")):
        picture(8, 8 + number).save(root / name, "png")
    return root


def test_a_folders_pictures_are_read_and_nothing_else(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(portrait_files(folder)) == ["Ada", "bo", "clara"]
    assert [image.width for image in load_portraits(folder).values()] == [9, 8, 10]


@pytest.mark.parametrize("name", ["page.png", "page.JPEG", "page.heic"])
def test_a_file_that_is_only_named_as_a_picture_is_left_out_and_said(folder, name):
    (folder / name).write_text("<html>404 not found</html>")
    with pytest.warns(PortraitWarning, match=rf"{name} is not a readable picture: .* left out\.$"):
        assert list(portrait_files(folder)) == ["Ada", "bo", "clara"]
    for other in ("Ada.png", "bo.JPG", "clara"):
        (folder / other).unlink()
    with pytest.raises(PortraitError, match=f"faces holds no picture. .*{name} is not a readable"):
        portrait_files(folder)


def test_two_of_one_name_keep_their_extensions(folder):
    picture(8, 30).save(folder / "Anna.jpg")
    picture(8, 31).save(folder / "anna.png")
    files = portrait_files(folder)
    assert list(files) == ["Ada", "Anna.jpg", "anna.png", "bo", "clara"]
    assert find_portrait(files, "Anna.jpg") == find_portrait(files, "ANNA.JPG") == files["Anna.jpg"]
    assert find_portrait(files, "anna") == files["anna.png"]
    with pytest.raises(PortraitError, match="'ANNA' may be Anna.jpg or anna.png"):
        find_portrait(files, "ANNA")


def test_names_are_found_in_any_case_and_spelling(folder):
    picture(8, 30).save(folder / unicodedata.normalize("NFD", "Zoë.png"))
    files = portrait_files(folder)
    for name in ("ada", "Ada", "ADA.PNG", "Ada.png"):
        assert find_portrait(files, name) == folder / "Ada.png"
    for name in ("Zoë", "zoë.png", unicodedata.normalize("NFD", "Zoë")):
        assert find_portrait(files, name) is not None
    for name in ("old.png", "._Ada.png", "notes", "Ad"):
        assert find_portrait(files, name) is None


def test_a_decompression_bomb_is_refused(portrait, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(PortraitError, match="portrait.png .*more than 200 pixels; scale it down"):
        load_portrait(portrait)


@pytest.mark.parametrize(
    "text, says", [("version https://git-lfs.github.com/spec", "git lfs pull"), ("<html>", "web")]
)
def test_what_came_in_a_pictures_place_is_named(tmp_path, text, says):
    (tmp_path / "a.png").write_text(text)
    with pytest.raises(PortraitError, match=f"a.png is not a readable picture: it is .*{says}"):
        load_portrait(tmp_path / "a.png")
