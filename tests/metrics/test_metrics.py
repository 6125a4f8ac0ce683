"""Each measure on drawn videos in which its answer is known."""

import json
import math

import pytest
import torch
from PIL import Image

from flashhead.training.evaluation.frames import measure_frames
from flashhead.training.evaluation.openness import MouthMeter
from flashhead.training.evaluation.pictures import BACKGROUND, COLORS, contact_sheet, curves
from flashhead.training.evaluation.regions import Regions, grow
from flashhead.training.evaluation.report import evaluate
from flashhead.training.evaluation.summary import drift, frozen_frames, seam_ratio, summarize
from flashhead.training.evaluation.tracking import centre_of, track_pose
from flashhead.training.faces.head_pose import undo_pose
from flashhead.training.signals import correlation, lip_sync, psnr

from .synthetic import FRAMES, MIDDLE, SIDE, draw, regions, speech, sway, video

PORTRAIT = draw()


def openness(frames: torch.Tensor, *, tracked: bool = True) -> torch.Tensor:
    """Of the mouth in pixels (T,); without tracking, as if the head did not move."""
    if tracked:
        return measure_frames([frames], PORTRAIT, regions()).openness
    return MouthMeter.of(PORTRAIT, regions()).read(frames)


@pytest.fixture(scope="module")
def truth():
    return speech()


@pytest.fixture(scope="module")
def talking(truth):
    return video(truth)


@pytest.fixture(scope="module")
def measures(talking):
    return measure_frames(talking.split(24), PORTRAIT, regions())


def test_correlation_by_hand():
    a = torch.tensor([1.0, 2, 3, 4])
    assert correlation(a, 5 - a) == pytest.approx(-1)
    assert correlation(a, torch.tensor([1.0, 0, 1, 0])) == pytest.approx(-1 / math.sqrt(5))
    assert correlation(a, torch.ones(4)) == 0
    with pytest.raises(ValueError):
        correlation(a, a[:3])


@pytest.mark.parametrize("lag", [-3, 0, 2, 5])
def test_the_lag_is_found_with_its_sign(truth, lag):
    """A picture that is late shows the truth of some frames ago."""
    late = torch.roll(truth, lag)
    sync = lip_sync(truth, 3 * late + 1)
    assert sync.lag == lag and sync.at_lag == pytest.approx(1, abs=1e-3)
    assert (sync.correlation > 0.99) == (lag == 0)


def test_shuffled_speech_has_no_sync():
    one, other = (speech(seed=seed, pauses=False) for seed in (1, 2))
    assert abs(lip_sync(one, other).correlation) < 0.25


def test_small_signals():

    assert psnr(torch.tensor([0.01, 0.0])).tolist() == pytest.approx([20, 100])


def test_the_head_is_tracked_between_pixels(talking):
    rigid = regions().rigid
    found, known = track_pose(talking, PORTRAIT, rigid), sway()
    # The drawing turns about the frame's middle, the tracker about the rigid part's.
    row, column = centre_of(rigid)
    right, down, roll = known.unbind(1)
    y, x = row - MIDDLE, column - MIDDLE
    moved = torch.stack(
        [
            right + x * (roll.cos() - 1) - y * roll.sin(),
            down + y * (roll.cos() - 1) + x * roll.sin(),
            roll,
        ],
        1,
    )
    assert (found - moved)[:, :2].abs().max() < 0.35
    assert (found - moved)[:, :2].abs().mean() < 0.12
    assert (found - moved)[:, 2].abs().max() < 0.012
    assert correlation(found[:, 2], roll) > 0.98


def test_a_head_put_back_is_where_it_was():
    pose = torch.tensor([[-3.0, 2.0, 0.0]])
    moved = torch.roll(PORTRAIT[None], (2, -3), (1, 2))
    placed = undo_pose(moved, pose, (32.0, 32.0))[0]
    torch.testing.assert_close(placed[8:-8, 8:-8], PORTRAIT[8:-8, 8:-8], atol=1e-5, rtol=1e-4)
    quarter = torch.tensor([[0.0, 0.0, math.pi / 2]])
    turned = torch.rot90(PORTRAIT[None], -1, (1, 2))  # clockwise
    placed = undo_pose(turned, quarter, (31.5, 31.5))[0]
    torch.testing.assert_close(placed, PORTRAIT, atol=1e-4, rtol=1e-4)


def test_openness_is_measured_in_the_heads_own_frame(talking, truth):
    assert correlation(truth, openness(talking)) > 0.985
    # Without tracking the sway would show.
    naive = correlation(truth, openness(talking, tracked=False))
    assert naive < correlation(truth, openness(talking))


def test_openness_is_in_pixels_and_zero_when_shut():
    steps = torch.tensor([0.0, 0.25, 0.5, 1.0])
    read = openness(video(steps, moving=False))
    assert read[0] < 0.1
    assert read.tolist() == pytest.approx([0, 2.5, 5, 10], rel=0.25)


def test_openness_does_not_see_the_width():
    truth = speech(60)
    steady = openness(video(truth, moving=False))
    width = 0.8 + 0.2 * torch.sin(torch.arange(60) * 0.9)
    varied = openness(video(truth, moving=False, width=width))
    assert correlation(steady, varied) > 0.99


def test_blocks_change_nothing(talking, measures):
    whole = measure_frames([talking], PORTRAIT, regions())
    for name in ("openness", "identity", "background", "change", "flicker"):
        torch.testing.assert_close(
            getattr(whole, name), getattr(measures, name), equal_nan=True, atol=1e-4, rtol=1e-4
        )


def test_fidelity_sees_the_region_that_changed(talking, measures):
    whole = measures.identity[:60]
    lost = talking[:60].clone()
    lost[30:, :6] += 0.2  # the top of the background
    found = measure_frames([lost], PORTRAIT, regions())
    assert found.background[:30].min() > 90 and found.background[30:].max() < 25
    assert (found.identity - whole).abs().max() < 1
    other = talking[:60].clone()
    other[30:, 12:17, 28:36, 0] -= 0.3  # the forehead
    found = measure_frames([other], PORTRAIT, regions())
    assert found.identity[30:].mean() < whole[30:].mean() - 4
    assert found.background[30:].min() > 90


def test_a_constant_error_is_the_psnr_of_its_square():
    measures = measure_frames([PORTRAIT[None] + 0.1], PORTRAIT, regions())
    assert measures.background.item() == pytest.approx(20, abs=0.01)


def test_drift_compares_the_last_second_with_second_5():
    values = torch.cat([torch.full((125,), 50.0), torch.full((25,), 40.0), torch.full((50,), 30.0)])
    assert (drift(values).early, drift(values).late, drift(values).loss) == (40, 30, 10)
    assert drift(torch.full((10,), 7.0)).loss == 0


def test_seams_by_hand():
    change = torch.tensor([math.nan, 1, 1, 3, 1, 1, 3, 1])
    assert seam_ratio(change, [0, 3, 6]) == pytest.approx(3)
    assert seam_ratio(change, [1, 4]) == pytest.approx(1 / (9 / 5))
    assert math.isnan(seam_ratio(change, [0]))


def test_frozen_frames_are_runs():
    change = torch.full((30,), 0.01)
    change[3:6] = 0  # too short
    change[10:17] = 0
    change[25:] = 0
    assert frozen_frames(change) == 7 + 5


def test_black_frozen_and_saturated_frames_are_counted(talking):
    bad = talking[:60].clone()
    bad[10] = 0
    bad[20:22] = 1
    bad[30:40] = bad[30]
    summary = summarize(measure_frames([bad], PORTRAIT, regions()))
    assert (summary.black, summary.saturated, summary.frozen) == (1, 3, 9)
    good = summarize(measure_frames([talking[:60]], PORTRAIT, regions()))
    assert (good.black, good.saturated, good.frozen) == (0, 0, 0)


def test_flicker_is_the_backgrounds_change(talking):
    flickering = talking[:50].clone()
    flickering[::2] += 2 / 255
    summary = summarize(measure_frames([flickering], PORTRAIT, regions()))
    assert summary.flicker == pytest.approx(2, abs=0.05)
    assert summarize(measure_frames([talking[:50]], PORTRAIT, regions())).flicker < 1e-3


def test_silence_shuts_the_mouth(truth, measures):
    assert summarize(measures, truth=truth).closed_in_silence < 0.05
    babbling = summarize(measures, truth=torch.roll(truth, 50))
    assert babbling.closed_in_silence > 0.3


def test_regions_are_checked():
    with pytest.raises(ValueError, match="'mouth' is empty"):
        Regions.of(torch.ones(8, 8), torch.zeros(8, 8))
    assert grow(torch.eye(5)[2] * torch.eye(5), 1).sum() == 9


def test_a_report_is_written(talking, truth, tmp_path):
    report = evaluate(
        talking.split(24), PORTRAIT, regions(), frames=FRAMES, truth=truth, name="drawn"
    )
    picture, figures = report.save(tmp_path)
    read = json.loads(figures.read_text())
    assert read["frames"] == FRAMES and read["sync"]["correlation"] > 0.98
    assert read["sync"]["lag"] == 0
    assert abs(read["identity"]["loss"]) < 3
    assert 0.5 < read["seams"] < 1.6
    assert report.starts == list(range(0, FRAMES, 24))
    image = Image.open(picture)
    colors = {color for _, color in image.getcolors(10**6)}
    assert set(COLORS[:2]) <= colors and BACKGROUND in colors


def test_a_sheet_shows_the_frames_it_was_given():
    sheet = contact_sheet([(0, torch.ones(4, 4, 3)), (25, torch.zeros(4, 4, 3))], side=16)
    assert sheet.getpixel((10, 10)) == (255, 255, 255)
    assert sheet.getpixel((30, 10)) == (0, 0, 0)


def test_curves_leave_gaps_where_there_is_no_number():
    values = torch.tensor([0.0, 0, math.nan, math.nan, math.nan, 0, 0])
    image = curves({"a": values}, title="t", size=(200, 100))
    row = [image.getpixel((x, y)) == COLORS[0] for x in range(54, 188) for y in range(31, 77)]
    columns = [any(row[i : i + 46]) for i in range(0, len(row), 46)]
    assert columns[5] and columns[-5] and not any(columns[45:85])
    assert curves({"a": torch.full((3,), math.nan)}, title="t").size == (960, 220)
    assert SIDE == PORTRAIT.shape[0]
