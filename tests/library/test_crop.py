"""Crops: always inside the picture, in the portrait's aspect, and what they were asked for."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from flashhead import PortraitError
from flashhead.image.crop import (
    Box,
    Crop,
    crop_around,
    crop_box,
    crop_to_cover,
    cut,
    face_box,
    mask_box,
)
from flashhead.image.portrait import cover_crop

SIDES = st.integers(16, 900)
SIZES = st.tuples(SIDES, SIDES)
PORTRAITS = st.tuples(*[st.integers(1, 16).map(lambda n: 32 * n)] * 2)


def picture(height, width):
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def check_inside(crop):
    assert 0 <= crop.left < crop.right <= crop.source[1]
    assert 0 <= crop.top < crop.bottom <= crop.source[0]


def check_aspect(crop):
    assert crop.width * crop.size[0] == pytest.approx(crop.height * crop.size[1], rel=1e-6)


@settings(deadline=None, max_examples=50)
@given(st.tuples(*[st.integers(16, 256)] * 2), PORTRAITS)
def test_the_cover_crop_lies_where_cover_crop_cuts(source, size):
    crop = crop_to_cover(source, size)
    check_inside(crop)
    # Ramps tell where pixels came from: x in red, y in green, finely enough by two bytes.
    for length, axis in ((source[1], 1), (source[0], 0)):
        ramp = np.arange(length, dtype=np.uint8)
        array = np.zeros((*source, 3), np.uint8)
        array[...] = ramp[None, :, None] if axis else ramp[:, None, None]
        seen = np.asarray(cover_crop(Image.fromarray(array), size))[..., 0]
        seen = seen[0] if axis else seen[:, 0]
        start, extent = (crop.left, crop.width) if axis else (crop.top, crop.height)
        expected = start + (np.arange(len(seen)) + 0.5) * extent / len(seen) - 0.5
        # Away from the picture's borders, where the filter is cut short.
        reach = max(1, extent / len(seen))
        middle = (expected > reach) & (expected < length - 1 - reach)
        assert np.abs(seen - expected)[middle].max(initial=0) <= 0.51 + 1e-3


def test_cutting_a_cover_crop_is_cover_crop():
    for source in ((97, 61), (61, 97), (200, 300)):
        image = picture(*source)
        crop = crop_to_cover(source, (64, 96))
        assert np.array_equal(np.asarray(cut(image, crop)), np.asarray(cover_crop(image, (64, 96))))


def test_cutting_whole_pixels_at_their_own_scale_copies_them():
    image = picture(80, 90)
    crop = Crop(7, 11, 39, 75, (80, 90), (64, 32))
    assert np.array_equal(np.asarray(cut(image, crop)), np.asarray(image)[11:75, 7:39])


@settings(deadline=None, max_examples=50)
@given(SIZES, PORTRAITS, st.data())
def test_a_crop_around_a_face_is_inside_in_aspect_and_as_near_as_can_be(source, size, data):
    x = data.draw(st.floats(0, source[1] - 8))
    y = data.draw(st.floats(0, source[0] - 8))
    face = Box(x, y, data.draw(st.floats(4, source[1] - x)), data.draw(st.floats(4, source[0] - y)))
    ratio, offset = data.draw(st.floats(1, 4)), data.draw(st.floats(-1, 1))
    crop = crop_around(face, source, size, ratio, offset)
    check_inside(crop)
    check_aspect(crop)
    wanted = max(ratio * face.width / size[1], ratio * face.height / size[0])
    largest = min(source[1] / size[1], source[0] / size[0])
    assert crop.width == pytest.approx(min(wanted, largest) * size[1], rel=1e-6)
    # It is off the wanted centre only where it rests against the picture's edge.
    middle = (face.x + face.width / 2, face.y + face.height / 2 + offset * face.height)
    spans = ((crop.left, crop.right, source[1]), (crop.top, crop.bottom, source[0]))
    for centre, (start, stop, limit) in zip(middle, spans, strict=True):
        moved = centre - (start + stop) / 2
        if moved > 1e-6 * limit:
            assert stop == pytest.approx(limit)
        elif moved < -1e-6 * limit:
            assert start == pytest.approx(0, abs=1e-6 * limit)


def test_ratio_and_offset():
    crop = crop_around(Box(400, 300, 100, 200), (1000, 1000), (512, 512), 1.5, 0.25)
    assert (crop.left, crop.top, crop.right, crop.bottom) == (300, 300, 600, 600)


def test_a_box_in_the_aspect_is_taken_exactly_and_another_grows():
    crop = crop_box(Box(10, 20, 300, 200), (400, 500), (256, 384))
    assert (crop.left, crop.top, crop.right, crop.bottom) == (10, 20, 310, 220)
    grown = crop_box(Box(10, 20, 300, 200), (400, 500), (512, 512))
    assert (grown.left, grown.right) == (10, 310)
    assert (grown.top, grown.bottom) == (0, 300)  # moved down from -30
    whole = crop_box(Box(0, 0, 0, 0), (400, 500), (512, 512))
    assert (whole.left, whole.top, whole.right, whole.bottom) == (50, 0, 450, 400)
    rest = crop_box(Box(100, 0, 0, 0), (400, 500), (512, 512))
    assert (rest.left, rest.right) == (100, 500)


def test_the_box_of_a_mask():
    mask = torch.zeros(60, 80)
    mask[10:31, 5:9] = 0.6
    mask[50, 70] = 0.5  # not above
    assert mask_box(mask, (60, 80)) == mask_box(mask[None], (60, 80)) == Box(5, 10, 4, 21)


def boxes(*numbers):
    return [dict(zip(("x", "y", "width", "height"), box, strict=True)) for box in numbers]


def test_every_form_of_a_detectors_boxes():
    left, right = boxes((10, 0, 20, 20), (300, 5, 60.5, 50))
    expected = Box(300, 5, 60.5, 50)
    for form in (right, [right], [left, right], [[right, left]], [[left, right], [left]]):
        assert face_box(form) == expected
    assert face_box([[right, left]], 0) == Box(10, 0, 20, 20)
    assert face_box([[right, left]], 1) == expected


@pytest.mark.parametrize(
    ("value", "index", "message"),
    [
        ([], -1, "No face was found"),
        ([[], boxes((1, 1, 1, 1))], -1, "No face was found"),
        (boxes((1, 1, 1, 1)), 1, "the picture has 1"),
        ({"x": 1, "y": 2}, -1, "expected a box with the numbers"),
        ([None], -1, "expected a box"),
        ("face", -1, "face is a str"),
        (None, -1, "face is a NoneType"),
    ],
)
def test_what_is_no_face_is_refused(value, index, message):
    with pytest.raises(PortraitError, match=message):
        face_box(value, index)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mask_box(torch.zeros(60, 80), (60, 80)), "mask is empty"),
        (lambda: mask_box(torch.zeros(1, 64, 64), (60, 80)), "mask is empty; paint over the face"),
        (lambda: mask_box(torch.full((60, 80), torch.nan), (60, 80)), "mask has NaN"),
        (lambda: mask_box(torch.ones(80, 60), (60, 80)), r"\(80, 60\); expected \(60, 80\)"),
        (lambda: mask_box(torch.ones(2, 60, 80), (60, 80)), r"\(2, 60, 80\)"),
        (lambda: crop_box(Box(50, 0, 40, 40), (60, 80), (32, 32)), "leaves the picture of 80x60"),
        (lambda: crop_box(Box(80, 0, 0, 0), (60, 80), (32, 32)), "is empty"),
        (lambda: crop_around(Box(90, 0, 9, 9), (60, 80), (32, 32)), "outside the picture of 80x60"),
        (lambda: crop_around(Box(9, 9, 0, 9), (60, 80), (32, 32)), "is empty"),
        (lambda: crop_around(Box(9, float("nan"), 9, 9), (60, 80), (32, 32)), "is empty"),
        (lambda: crop_around(Box(9, 9, 9, 9), (60, 80), (32, 32), 0.5), "ratio is 0.5"),
        (lambda: crop_around(Box(9, 9, 9, 9), (60, 80), (32, 32), 2, float("inf")), "offset"),
        (lambda: cut(picture(60, 81), crop_to_cover((60, 80), (32, 32))), "80x60.*81x60"),
    ],
)
def test_impossible_crops_are_refused(make, message):
    with pytest.raises(PortraitError, match=message):
        make()
