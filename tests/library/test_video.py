"""The mp4: right colours, and the whole sound in time."""

import math
import os
import subprocess
import sys

import av
import numpy as np
import pytest
import torch

from flashhead.errors import FlashHeadError, SizeError
from flashhead.media.audio_source import TensorAudio
from flashhead.media.video_writer import VideoWriter, rgb_to_yuv420

from .videos import AAC_FRAME, SIZE, clicks, decode_pictures, decode_sound, grey, leftovers


def to_rgb(frame):
    """(H,W,3) 0..255 by the BT.709 limited-range formulas, independent of swscale's defaults."""
    planes = frame.to_ndarray().astype(np.float64)
    height, width = frame.height, frame.width
    luma = (planes[:height] - 16) / 219
    blue, red = (
        (p.reshape(height // 2, width // 2) - 128).repeat(2, 0).repeat(2, 1) / 224
        for p in np.split(planes[height:].ravel(), 2)
    )
    r, b = luma + 1.5748 * red, luma + 1.8556 * blue
    g = (luma - 0.2126 * r - 0.0722 * b) / 0.7152
    return 255 * np.stack((r, g, b), -1)


# ---- pictures


@pytest.mark.parametrize(
    "colour", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1), (0, 0, 0), (0.8, 0.6, 0.5)]
)
def test_colours_come_back(tmp_path, colour):
    with VideoWriter(tmp_path / "a.mp4", **SIZE) as writer:
        writer.write(torch.tensor(colour, dtype=torch.float32).expand(3, 48, 64, 3))
    for frame in decode_pictures(tmp_path / "a.mp4"):
        assert (frame.colorspace, frame.color_range) == (1, 1)
        assert np.abs(to_rgb(frame) - 255 * np.array(colour)).max() <= 3
    with av.open(str(tmp_path / "a.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.color_primaries, context.color_trc) == (1, 1)
        assert context.pix_fmt == "yuv420p"
    assert b"colrnclx" in (tmp_path / "a.mp4").read_bytes()


def test_levels_are_rounded_not_cut():
    levels = torch.linspace(0, 1, 256)
    luma = rgb_to_yuv420(levels[:, None, None, None].expand(256, 2, 2, 3))[:, 0, 0]
    assert torch.equal(luma, (16 + 219 * levels).round().to(torch.uint8))


def test_values_outside_the_range_are_clamped():
    assert rgb_to_yuv420(torch.full((1, 2, 2, 3), 1.5)).flatten().tolist() == [235] * 4 + [128] * 2
    assert rgb_to_yuv420(torch.full((1, 2, 2, 3), -0.5)).flatten().tolist() == [16] * 4 + [128] * 2


def test_chroma_is_sited_on_the_left_pixel():
    frames = torch.zeros(1, 2, 64, 3)
    frames[..., 2] = torch.linspace(0, 1, 64)
    blue = rgb_to_yuv420(frames)[0, 2].reshape(2, 32)[0]
    expected = 128 + 224 * torch.linspace(0, 1, 64)[0::2] * 0.5
    assert (blue[1:] - expected[1:]).abs().max() <= 1


def test_frames_come_back_in_order_count_and_time(tmp_path):
    levels = torch.linspace(0, 1, 61)
    with VideoWriter(tmp_path / "a.mp4", **SIZE) as writer:
        for part in levels.split(24):
            writer.write(part[:, None, None, None].expand(-1, 48, 64, 3).to(torch.bfloat16))
        assert writer.frames == 61
    frames = decode_pictures(tmp_path / "a.mp4")
    assert len(frames) == 61
    assert [float(f.pts * f.time_base) for f in frames] == pytest.approx(
        [i / 25 for i in range(61)]
    )
    means = [to_rgb(f).mean() for f in frames]
    assert np.abs(means - 255 * levels.numpy()).max() < 4


def test_the_index_stands_first(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", **SIZE) as writer:
        writer.write(grey(30))
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert b"moof" not in data


# ---- sound


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000, 44101, 192_000])
@pytest.mark.parametrize("seconds", [0.5, 4.3])
def test_the_whole_sound_is_there_and_in_time(tmp_path, rate, seconds):
    waveform = clicks(rate, seconds)
    with VideoWriter(tmp_path / "a.mp4", **SIZE, audio=TensorAudio(waveform, rate)) as writer:
        for part in grey(round(seconds * 25)).split(24):
            writer.write(part)
    sound, kept = decode_sound(tmp_path / "a.mp4")
    assert kept == {44101: 48000, 192_000: 96000}.get(rate, rate)
    assert 0 <= sound.shape[1] - math.floor(waveform.shape[1] * kept / rate) <= AAC_FRAME
    for second in np.arange(0.25, seconds - 0.1, 0.5):
        around = np.abs(sound[0, round((second - 0.1) * kept) : round((second + 0.1) * kept)])
        assert abs(around.argmax() / kept - 0.1) < 0.001
        assert around.max() > 0.3


@pytest.mark.parametrize("rate", [22050, 44100, 48000, 96000])
@pytest.mark.parametrize("samples", [1, 1025, 7 * 1024 + 2])
def test_a_last_packet_of_a_few_samples_is_written(tmp_path, rate, samples):
    audio = TensorAudio(torch.full((samples,), 0.1), rate)
    with VideoWriter(tmp_path / "a.mp4", **SIZE, audio=audio) as writer:
        writer.write(grey(max(1, round(samples / rate * 25))))
    assert decode_sound(tmp_path / "a.mp4")[0].shape[1] >= samples
    assert os.listdir(tmp_path) == ["a.mp4"]


@pytest.mark.parametrize(("channels", "kept"), [(1, 1), (2, 2), (3, 3), (6, 6), (8, 8), (11, 1)])
def test_channels_are_kept_where_aac_has_them(tmp_path, channels, kept):
    waveform = torch.zeros(channels, 24_000)
    waveform[0] = 0.5 * torch.sin(torch.arange(24_000) / 10)
    with VideoWriter(tmp_path / "a.mp4", **SIZE, audio=TensorAudio(waveform, 24_000)) as writer:
        writer.write(grey(25))
    sound, _ = decode_sound(tmp_path / "a.mp4")
    level = np.abs(sound[:, 4000:20_000]).max(1)
    assert len(level) == kept
    assert level[0] == pytest.approx(0.5 if kept == channels else 0.5 / channels, abs=0.05)
    assert (level[1:] < 0.05).all()


@pytest.mark.parametrize(("frames", "seconds"), [(50, 0.5), (5, 3)])
def test_sound_and_picture_may_differ_in_length(tmp_path, frames, seconds):
    source = TensorAudio(clicks(16_000, seconds), 16_000)
    with VideoWriter(tmp_path / "a.mp4", **SIZE, audio=source) as writer:
        writer.write(grey(frames))
    assert len(decode_pictures(tmp_path / "a.mp4")) == frames
    sound, _ = decode_sound(tmp_path / "a.mp4")
    assert 0 <= sound.shape[1] - 16_000 * seconds <= AAC_FRAME


# ---- memory


MEMORY = """
import resource, sys, torch
from flashhead.media.video_writer import VideoWriter
class Hum:
    sample_rate, channels = 48000, 2
    def __init__(self, seconds):
        self.samples = 48000 * seconds
    def blocks(self):
        for _ in range(self.samples // 48000):
            yield torch.zeros(2, 48000)
def make(seconds):
    with VideoWriter(sys.argv[1], height=256, width=256, audio=Hum(seconds)) as writer:
        for _ in range(seconds):
            writer.write(torch.zeros(25, 256, 256, 3))
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
make(3); before = peak(); make(40); print((peak() - before) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has another unit elsewhere")
def test_memory_does_not_grow_with_length(tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", MEMORY, tmp_path / "a.mp4"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    assert int(done.stdout) < 60, "held floats would be 790 MiB, held 8-bit pictures 98 MiB"


# ---- refused before any work


@pytest.mark.parametrize(
    ("name", "changes", "error", "words"),
    [
        ("a.webm", {}, FlashHeadError, "ends in .mp4"),
        ("missing/a.mp4", {}, FlashHeadError, "no folder .*missing"),
        ("folder.mp4", {}, FlashHeadError, "is a folder"),
        ("a.mp4", {"height": 47}, SizeError, "64x47.*even"),
        ("a.mp4", {"width": 0}, SizeError, "0x48"),
        ("a.mp4", {"fps": 0}, FlashHeadError, "fps is 0"),
    ],
)
def test_bad_targets_are_named(tmp_path, name, changes, error, words):
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(error, match=words):
        VideoWriter(tmp_path / name, **(SIZE | changes))
    assert leftovers(tmp_path, "folder.mp4")


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (torch.zeros(48, 64, 3), r"\(48, 64, 3\)"),
        (torch.zeros(2, 3, 48, 64), r"\(2, 3, 48, 64\)"),
        (torch.zeros(2, 64, 48, 3), r"takes \(n, 48, 64, 3\)"),
        (torch.zeros(2, 48, 64, 3, dtype=torch.uint8), "floats"),
    ],
)
def test_bad_frames_are_named(tmp_path, frames, words):
    with (
        pytest.raises(FlashHeadError, match=words),
        VideoWriter(tmp_path / "a.mp4", **SIZE) as writer,
    ):
        writer.write(frames)
    assert leftovers(tmp_path)


def test_writing_outside_the_with_is_an_error(tmp_path):
    writer = VideoWriter(tmp_path / "a.mp4", **SIZE)
    with pytest.raises(RuntimeError, match="with"):
        writer.write(grey(1))
    assert leftovers(tmp_path)


class Renaming:
    """An object of PyAV that knows encoders by other names."""

    def __init__(self, real, rename):
        self.real, self.rename = real, rename

    def __getattr__(self, name):
        return getattr(self.real, name)

    def __enter__(self):
        return Renaming(self.real.__enter__(), self.rename)

    def __exit__(self, *error):
        return self.real.__exit__(*error)

    def create(self, codec, mode):
        return self.real.create(self.rename(codec), mode)

    def add_stream(self, codec, **settings):
        return self.real.add_stream(self.rename(codec), **settings)


def test_the_next_encoder_stands_in(tmp_path, monkeypatch):
    names = {"libx264": "absent", "libopenh264": "libx264"}
    rename, open_really = (lambda name: names.get(name, name)), av.open
    monkeypatch.setattr(av, "CodecContext", Renaming(av.CodecContext, rename))
    monkeypatch.setattr(av, "open", lambda *a, **k: Renaming(open_really(*a, **k), rename))
    with VideoWriter(tmp_path / "a.mp4", **SIZE) as writer:
        writer.write(grey(5))
    assert len(decode_pictures(tmp_path / "a.mp4")) == 5


def test_no_encoder_is_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr(av, "CodecContext", Renaming(av.CodecContext, lambda name: "absent"))
    with pytest.raises(FlashHeadError, match=r"no H\.264 encoder"):
        VideoWriter(tmp_path / "b.mp4", **SIZE)


def test_a_size_that_no_encoder_takes_is_not_put_down_to_pyav(tmp_path):
    with pytest.raises(SizeError, match="encoder here takes a video of 96x100000; make it smaller"):
        VideoWriter(tmp_path / "a.mp4", width=96, height=100_000)
