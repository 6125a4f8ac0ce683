"""Warnings about a face in its crop: none for a good one, the right one for each fault."""

import pytest

from flashhead.image.crop import Box, Crop, crop_around, crop_to_cover
from flashhead.image.framing import framing_warnings

SOURCE, SIZE = (1000, 1000), (512, 512)


def test_the_default_crop_of_a_large_face_gives_no_warning():
    face = Box(350, 300, 220, 290)
    assert framing_warnings(face, crop_around(face, SOURCE, SIZE)) == []


@pytest.mark.parametrize(
    ("face", "crop", "words"),
    [
        (Box(450, 450, 80, 100), None, ["100 pixels large in the picture", "blurry"]),
        (Box(400, 400, 150, 200), crop_to_cover(SOURCE, SIZE), ["102 pixels", "closer"]),
        (Box(0, 300, 250, 300), None, ["picture's left edge"]),
        (Box(300, 720, 250, 290), None, ["picture's bottom edge"]),
        (Box(300, 300, 300, 300), Crop(400, 250, 700, 550, SOURCE, SIZE), ["at the left"]),
        (Box(120, 350, 300, 300), crop_to_cover(SOURCE, SIZE), ["far to the left"]),
        (Box(350, 650, 300, 300), crop_to_cover(SOURCE, SIZE), ["far to the bottom"]),
    ],
)
def test_each_fault_is_said(face, crop, words):
    warnings = framing_warnings(face, crop or crop_around(face, SOURCE, SIZE))
    assert any(all(word in warning for word in words) for warning in warnings), warnings
    assert all(warning.endswith(".") and "\n" not in warning for warning in warnings)


def test_an_edge_is_blamed_once():
    face = Box(-5, 300, 250, 300)
    warnings = framing_warnings(face, crop_around(face, SOURCE, SIZE))
    assert sum("cut" in warning for warning in warnings) == 1


def test_a_detectors_jitter_is_no_cut():
    crop = Crop(305, 250, 705, 650, SOURCE, SIZE)
    assert not any("cut" in warning for warning in framing_warnings(Box(300, 300, 300, 300), crop))


def test_a_small_models_portrait_may_have_a_small_face():
    crop = crop_around(Box(350, 300, 220, 290), SOURCE, (96, 96))
    assert framing_warnings(Box(350, 300, 220, 290), crop) == []
    crop = crop_to_cover(SOURCE, (96, 96))
    assert any("at least 24" in text for text in framing_warnings(Box(400, 400, 150, 200), crop))
