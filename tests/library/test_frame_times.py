"""A background's own frame rate: at each of our frames the one that its video shows there."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashhead.media.frame_times import constant_times, file_times, held_frames


@pytest.mark.parametrize(
    "rate", [1, 10, 24, 25, 30, 50, 60, 120, Fraction(24000, 1001), Fraction(30000, 1001)]
)
def test_a_constant_rate(rate):
    frames = round(2 * rate)
    held = held_frames(constant_times(frames, Fraction(rate)))
    assert len(held) == round(Fraction(frames) / rate * 25)
    for index, frame in enumerate(held):
        # Shown at this time, to the rounding that is allowed for, and the next one not yet.
        assert Fraction(frame) / rate <= Fraction(index, 25) + Fraction(1, 2000)
        assert Fraction(frame + 1) / rate > Fraction(index, 25) or frame == frames - 1
    if rate == 25:
        assert held == list(range(50))
    if rate == 50:
        assert held == list(range(0, 100, 2))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=60))
def test_a_varying_rate(milliseconds):
    times = [Fraction(sum(milliseconds[:n]), 1000) for n in range(len(milliseconds) + 1)]
    held = held_frames(times)
    assert held == sorted(held) and len(held) == max(1, round(times[-1] * 25))
    for index, frame in enumerate(held):
        assert times[frame] <= Fraction(index, 25) + Fraction(1, 2000)
        assert frame == len(milliseconds) - 1 or times[frame + 1] > Fraction(index, 25)


def clip(target, starts, container="mp4", codec="libx264", base=Fraction(1, 90_000), seconds=None):
    """A video whose frames begin at `starts`, in seconds; B-frames store them out of order."""
    with av.open(target, "w", format=container) as file:
        stream = file.add_stream(codec, rate=30, options={"bf": "2"} if "264" in codec else {})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.time_base = stream.codec_context.time_base = base
        for number, start in enumerate(starts):
            shade = np.full((48, 64, 3), 8 * number % 256, np.uint8)
            frame = av.VideoFrame.from_ndarray(shade)
            frame.pts, frame.time_base = round(start / base), base
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return target


STEPS = np.random.default_rng(0).choice([Fraction(1, 60), Fraction(1, 30), Fraction(1, 10)], 30)
STARTS = [sum(STEPS[:n], Fraction(0)) for n in range(len(STEPS) + 1)]


@pytest.mark.parametrize("container", ["mp4", "matroska", "mov", "mpegts"])
def test_a_files_own_times_are_read(tmp_path, container):
    path = str(clip(str(tmp_path / "clip"), STARTS, container))
    times = file_times(path)
    assert times is not None and len(times) == len(STARTS) + 1
    assert max(abs(a - b) for a, b in zip(times, STARTS, strict=False)) <= Fraction(1, 1000)
    assert STARTS[-1] < times[-1] < STARTS[-1] + Fraction(1, 5)
    with open(path, "rb") as file:
        assert file_times(io.BytesIO(file.read())) == times


def test_a_clock_that_leaps():
    """Hours in which nothing was recorded are not shown; a minute may be meant."""
    times = constant_times(60, Fraction(30))
    for leap, longer in ((Fraction(26 * 3600), 0), (Fraction(60), 1500)):
        leapt = times[:30] + [time + leap for time in times[30:]]
        assert len(held_frames(leapt)) == 50 + longer
        assert {*held_frames(leapt)} >= {0, 28, 58}


def test_a_part_of_a_file(tmp_path):
    path = str(clip(str(tmp_path / "clip.mp4"), [Fraction(n, 30) for n in range(60)]))
    times = file_times(path, 0.5, 1.0)
    assert times == constant_times(30, Fraction(30))


@pytest.mark.parametrize("content", [b"", b"no video", None])
def test_what_says_no_times(tmp_path, content):
    file = tmp_path / "odd.mp4"
    if content is not None:
        file.write_bytes(content)
    assert file_times(str(file)) is None
