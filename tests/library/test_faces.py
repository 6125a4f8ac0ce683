"""Framing by the face: the crop that a face sets, who finds it, and what is said without one."""

import sys
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from flashhead import PortraitError, PortraitWarning, frame_portrait
from flashhead.checkpoint.loading import Checkpoint
from flashhead.cli import generate as command_generate
from flashhead.cli.main import main
from flashhead.examples import PHOTOGRAPH
from flashhead.image.crop import Box, crop_to_cover, crop_to_face
from flashhead.image.faces import auto_crop, find_faces
from flashhead.image.portrait import cover_crop, load_portrait

WHOLE = (2000, 3000)
FACE = {"x": 300, "y": 200, "width": 100, "height": 140}


def test_the_original_codes_square():
    crop = crop_to_face(Box(1000, 500, 200, 260), WHOLE, (512, 512))
    # 2.0 x 200 wide, the face's centre (1100, 630) in the middle and 55 % down.
    edges = (crop.left, crop.top, crop.right, crop.bottom)
    assert edges == pytest.approx((900, 630 - 220, 1300, 630 + 180))


@pytest.mark.parametrize("size", [(512, 512), (768, 512), (512, 768), (320, 576)])
def test_in_any_aspect_the_square_is_the_shorter_side(size):
    crop = crop_to_face(Box(1400, 900, 200, 260), WHOLE, size)
    assert min(crop.width, crop.height) == pytest.approx(400)
    assert crop.width / crop.height == pytest.approx(size[1] / size[0])
    assert (crop.left + crop.right) / 2 == pytest.approx(1500)
    assert (1030 - crop.top) / crop.height == pytest.approx(0.55)


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_a_face_anywhere_gives_a_crop_inside(data):
    source = data.draw(st.tuples(st.integers(40, 900), st.integers(40, 900)))
    width, height = data.draw(st.floats(8, 1200)), data.draw(st.floats(8, 1200))
    x, y = data.draw(st.floats(-0.4, 0.9)) * source[1], data.draw(st.floats(-0.4, 0.9)) * source[0]
    face = {"x": x, "y": y, "width": width, "height": height}
    crop, sentences = auto_crop(Image.new("RGB", source[::-1]), (512, 320), [face])
    assert 0 <= crop.left < crop.right <= source[1] and 0 <= crop.top < crop.bottom <= source[0]
    assert crop.width / crop.height == pytest.approx(320 / 512, rel=0.05)  # cover: whole pixels
    assert all(sentence.endswith(".") for sentence in sentences)


def test_of_several_faces_the_largest_counts_and_is_said():
    small = FACE | {"x": 20, "width": 60, "height": 60}
    picture = Image.new("RGB", (800, 600))
    crop, sentences = auto_crop(picture, (512, 512), [[small, FACE]])
    assert crop == crop_to_face(Box(300, 200, 100, 140), (600, 800), (512, 512))
    assert "2 faces were found; the largest is taken, at (350, 270)." in sentences
    first, sentences = auto_crop(picture, (512, 512), [[small, FACE]], index=0)
    assert first.left < crop.left and not any("largest" in sentence for sentence in sentences)


@pytest.mark.parametrize(
    ("boxes", "index", "words"),
    [
        ([], -1, "No face was found"),
        ([[]], -1, "No face was found"),
        ([FACE], 3, "Face 3 was asked for"),
        ([FACE | {"x": 900}], -1, "outside the picture"),
        ([FACE | {"width": 0}], -1, "is empty"),
    ],
)
def test_without_a_face_the_middle_is_taken_and_said(boxes, index, words):
    crop, sentences = auto_crop(Image.new("RGB", (800, 600)), (512, 512), boxes, index)
    assert crop == crop_to_cover((600, 800), (512, 512))
    assert len(sentences) == 1 and words in sentences[0] and "middle" in sentences[0]


def test_what_is_no_detectors_output_is_refused():
    with pytest.raises(PortraitError, match="face is a str"):
        auto_crop(Image.new("RGB", (800, 600)), (512, 512), "faces")


class Broken:
    def __getattr__(self, name):
        raise RuntimeError("module compiled against another numpy")


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (None, "cv2"),
        (Broken(), "another numpy"),
        (
            types.SimpleNamespace(__version__="5.0.0", data=types.SimpleNamespace(haarcascades="")),
            "without its cascades",
        ),
        (types.SimpleNamespace(), "data"),
    ],
    ids=["absent", "broken", "5", "something else"],
)
def test_without_opencv_the_middle_is_taken_and_said(monkeypatch, module, reason):
    monkeypatch.setitem(sys.modules, "cv2", module)
    picture = Image.fromarray(np.arange(80 * 60 * 3, dtype=np.uint8).reshape(60, 80, 3))
    with pytest.warns(PortraitWarning, match=f"opencv-python-headless.*{reason}.*middle of it"):
        framed = frame_portrait(picture, (32, 32), "auto")
    assert np.array_equal(np.asarray(framed), np.asarray(cover_crop(picture, (32, 32))))


def scene(tmp_path, *places):
    """A photograph's person, small, somewhere in a wide picture."""
    whole = Image.new("RGB", (800, 450), (96, 110, 130))
    for x, y, side in places:
        whole.paste(load_portrait(PHOTOGRAPH).resize((side, side)), (x, y))
    whole.save(tmp_path / "scene.png")
    return tmp_path / "scene.png"


def test_opencv_finds_a_face_that_cover_would_miss(tmp_path):
    pytest.importorskip("cv2")
    (face,) = find_faces(load_portrait(scene(tmp_path, (500, 100, 300))))
    # In the photograph the eyes are at (216, 176) and (299, 180) of 512, the chin at 315.
    middle = ((face.x + face.width / 2 - 500) / 300, (face.y + face.height / 2 - 100) / 300)
    assert middle == pytest.approx((0.5, 0.4), abs=0.03)
    assert face.width / 300 == pytest.approx(0.35, abs=0.05)
    assert find_faces(Image.new("RGB", (300, 200), "grey")) == []


def test_the_command_line_crops_every_portrait(checkpoint, tmp_path, monkeypatch, capsys):
    """Around its face, by a box, or in the middle; what is not found is said with the file."""
    seen = {}

    def look(bundle, portrait, audio, settings, mode, switches, on_step):
        seen["pictures"] = [portrait, *switches.values()]
        raise PortraitError("seen.")

    monkeypatch.setattr(command_generate, "generate_clip", look)
    monkeypatch.setattr(Checkpoint, "load", lambda *_, **__: None)
    faces = {"scene": [Box(590, 180, 130, 150)], "empty": []}
    paths = {name: tmp_path / f"{name}.png" for name in faces}
    scene(tmp_path, (500, 100, 300))
    Image.new("RGB", (800, 450), "white").save(paths["empty"])
    monkeypatch.setattr(
        "flashhead.image.faces.find_faces",
        lambda picture: faces["empty" if picture.getpixel((0, 0)) == (255,) * 3 else "scene"],
    )
    command = ["generate", "--checkpoint", checkpoint, "--variant", "lite", "--size", "64x96"]
    command += ["--audio", PHOTOGRAPH.with_name("speech.wav"), "--output", tmp_path / "out.mp4"]
    command += ["--portrait", tmp_path, "--switch", f"1={paths['scene']}", "--device", "cpu"]

    def run(*crop):
        assert main([str(part) for part in (*command, *crop)]) == 1
        told = capsys.readouterr().err
        assert "error: seen." in told, told
        return told, [np.asarray(picture) for picture in seen["pictures"]]

    told, (empty, found) = run("--crop", "auto")
    assert told.count("warning:") == 1
    assert f"warning: {paths['empty']}: No face was found" in told
    assert (empty == 255).all()
    picture = load_portrait(paths["scene"])
    crop = crop_to_face(faces["scene"][0], (450, 800), (96, 64))
    box = (crop.left, crop.top, crop.right, crop.bottom)
    expected = picture.resize((64, 96), Image.Resampling.BILINEAR, box)
    assert np.array_equal(found, np.asarray(expected))
    _, (_, boxed) = run("--crop", "500,100,100,150")
    expected = picture.resize((64, 96), Image.Resampling.BILINEAR, (500, 100, 600, 250))
    assert np.array_equal(boxed, np.asarray(expected))
    assert [picture.shape for picture in run("--crop", "cover")[1]] == [(450, 800, 3)] * 2
    assert main([str(part) for part in (*command, "--crop", "750,0,200,300")]) == 1
    assert f"error: {paths['empty']}: The box 200x300 at (750, 0) leaves" in capsys.readouterr().err
    for wrong in ("face", "1,2,3", "-1,0,9,9", ""):
        with pytest.raises(SystemExit):
            main([str(part) for part in (*command, f"--crop={wrong}")])
        assert "is not cover, auto or a box" in capsys.readouterr().err
