from dataclasses import replace

import pytest
import torch

from flashhead.training.faces.draw import draw, draw_portrait, undo_drawn_pose
from flashhead.training.faces.identities import REPERTOIRE, identities
from flashhead.training.faces.motions import Motion
from flashhead.training.signals import correlation
from flashhead.training.vae.report import mouth_meter

SIZE = 96
PEOPLE = range(len(REPERTOIRE))


def moving(**values: torch.Tensor) -> Motion:
    frames = len(next(iter(values.values())))
    return replace(Motion.neutral(frames), **values)


def test_the_same_face_is_the_same_bytes():
    motion = moving(openness=torch.linspace(0, 1, 3))
    first, second = (draw(REPERTOIRE[5], motion, 48) for _ in range(2))
    for name in ("video", "face", "mouth", "eyes"):
        assert torch.equal(getattr(first, name), getattr(second, name)), name
    assert first.video.dtype == torch.uint8 and first.video.shape == (3, 48, 48, 3)


def test_a_frame_does_not_depend_on_its_neighbours():
    motion = moving(openness=torch.linspace(0, 1, 6), pose=0.02 * torch.ones(6, 3))
    whole = draw(REPERTOIRE[1], motion, 48).video
    parts = [draw(REPERTOIRE[1], motion.part(i, i + 2), 48).video for i in (0, 2, 4)]
    assert (whole.int() - torch.cat(parts).int()).abs().max() <= 1


@pytest.mark.parametrize("who", PEOPLE)
def test_the_mouth_is_as_open_as_asked(who):
    openness = torch.linspace(0, 1, 9)
    drawn = draw(REPERTOIRE[who], moving(openness=openness), SIZE).video.float() / 255
    measured = mouth_meter(who, SIZE).read(drawn)
    assert correlation(measured, openness) > 0.97
    assert measured[0] < 0.6 and measured[-1] > 3.5


@pytest.mark.parametrize("width", [0.0, 1.0])
def test_the_mouth_is_as_wide_as_asked(width):
    value = torch.tensor([width])
    drawn = draw(REPERTOIRE[0], moving(openness=torch.ones(1), width=value), SIZE)
    columns = (drawn.mouth[0] > 127).any(dim=0).sum()
    assert columns == pytest.approx({0.0: 21, 1.0: 35}[width], abs=2)


def test_regions_hold_what_moves():
    two = moving(openness=torch.tensor([0.0, 1.0]), blink=torch.tensor([0.0, 0.0]))
    drawing = draw(REPERTOIRE[2], two, SIZE)
    changed = (drawing.video[0].int() - drawing.video[1].int()).abs().amax(-1) > 40
    # Mouth and chin; nothing above the nose.
    assert changed.any() and not changed[: SIZE // 2].any()
    inside = drawing.mouth.amax(0) > 127
    assert (changed & inside).sum() > 0.6 * changed.sum()
    lids = moving(blink=torch.tensor([0.0, 1.0]))
    drawing = draw(REPERTOIRE[2], lids, SIZE)
    changed = (drawing.video[0].int() - drawing.video[1].int()).abs().amax(-1) > 8
    assert changed.any() and not (changed & (drawing.eyes[0] < 128)).any()


def test_undo_drawn_pose_undoes_the_sway():
    pose = torch.tensor([[0.0, 0.0, 0.0], [0.05, -0.04, 0.06], [-0.06, 0.03, -0.05]])
    drawn = draw(REPERTOIRE[3], moving(pose=pose), SIZE)
    pixels = pose * torch.tensor([SIZE / 2, SIZE / 2, 1.0])
    back = undo_drawn_pose(drawn.video.float(), pixels)
    face = (drawn.face[0] > 250)[..., None]
    before = ((drawn.video[1:].float() - drawn.video[0].float()).abs() * face).mean()
    after = ((back[1:] - drawn.video[0].float()).abs() * face).mean()
    assert after < 0.2 * before


def test_a_portrait_is_the_face_at_rest():
    portrait = draw_portrait(REPERTOIRE[0], 64)
    assert torch.equal(portrait, draw(REPERTOIRE[0], Motion.neutral(2), 64).video[1])


def test_faces_differ_and_names_are_unique():
    assert len({person.name for person in REPERTOIRE}) == len(REPERTOIRE) >= 8
    assert identities(3) == REPERTOIRE[:3]
    pictures = [draw_portrait(person, 32).float() for person in REPERTOIRE]
    for i, first in enumerate(pictures):
        for second in pictures[i + 1 :]:
            assert (first - second).abs().mean() > 8
