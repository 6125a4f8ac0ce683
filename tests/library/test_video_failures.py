"""The mp4 when something goes wrong: what is written stays playable, and what is said is so."""

import contextlib
import os
import shutil
import subprocess
import sys

import pytest
import torch

from flashhead.errors import FlashHeadError, FlashHeadWarning
from flashhead.media import video_writer
from flashhead.media.audio_source import TensorAudio
from flashhead.media.video_writer import VideoWriter

from .videos import AAC_FRAME, SIZE, clicks, decode_pictures, decode_sound, grey, leftovers

try:
    import resource
except ImportError:  # Windows
    resource = None

# ---- when something goes wrong


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, GeneratorExit])
def test_an_interrupt_keeps_what_is_finished(tmp_path, error):
    source = TensorAudio(clicks(16_000, 10), 16_000)
    with (
        pytest.raises(error),
        VideoWriter(tmp_path / "a.mp4", **SIZE, audio=source) as writer,
    ):
        writer.write(grey(40))
        raise error
    assert leftovers(tmp_path, "a.mp4")
    assert len(decode_pictures(tmp_path / "a.mp4")) == 40
    sound, rate = decode_sound(tmp_path / "a.mp4")
    assert 0 <= sound.shape[1] - 1.6 * rate <= AAC_FRAME


def test_an_existing_file_stays_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"the old one")
    with VideoWriter(path, **SIZE) as writer:
        writer.write(grey(30))
        assert path.read_bytes() == b"the old one"
    assert len(decode_pictures(path)) == 30
    assert leftovers(tmp_path, "a.mp4")


@pytest.mark.parametrize("fails", [False, True])
def test_no_frame_leaves_no_file_and_the_old_one(tmp_path, fails):
    source = TensorAudio(torch.zeros(16_000), 16_000)
    for name in ("new.mp4", "old.mp4"):
        (tmp_path / "old.mp4").write_bytes(b"the old one")
        try:
            with VideoWriter(tmp_path / name, **SIZE, audio=source):
                if fails:
                    raise RuntimeError
        except RuntimeError:
            assert fails
    assert leftovers(tmp_path, "old.mp4")
    assert (tmp_path / "old.mp4").read_bytes() == b"the old one"


def partial(folder):
    (found,) = folder.glob(".*.partial.mp4")
    return found


@pytest.mark.parametrize("error", [OSError("No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("fails", [(os, "replace"), (video_writer, "_remux")])
def test_a_failed_copy_leaves_the_old_file_and_a_playable_partial(
    tmp_path, monkeypatch, fails, error
):
    """The copy takes as much room again; and a user may press Ctrl-C once more meanwhile."""

    def fail(*_):
        raise error

    (tmp_path / "a.mp4").write_bytes(b"the old one")
    monkeypatch.setattr(*fails, fail)
    with pytest.raises(type(error)) as caught, VideoWriter(tmp_path / "a.mp4", **SIZE) as writer:
        writer.write(grey(30))
    if isinstance(error, OSError):
        assert "a.mp4 could not be written: No space" in str(caught.value)
    assert (tmp_path / "a.mp4").read_bytes() == b"the old one"
    assert writer.kept() == (partial(tmp_path), 30)
    assert len(decode_pictures(partial(tmp_path))) == 30
    assert leftovers(tmp_path, partial(tmp_path).name, "a.mp4")


@contextlib.contextmanager
def small_disk(size):
    """No file of this process grows above so many bytes, as on a disk that is full there."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.skipif(resource is None, reason="no limit for files")
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99, 0.9999])
def test_a_full_disk_is_no_success_and_what_is_kept_is_there(tmp_path, share):
    """Wherever the room ends, were it at the last byte, of which FFmpeg says nothing."""
    noise = torch.rand(100, 48, 64, 3, generator=torch.Generator().manual_seed(1))
    sound = torch.rand(16_000 * 4, generator=torch.Generator().manual_seed(2)) - 0.5

    def write(path):
        with VideoWriter(path, **SIZE, audio=TensorAudio(sound, 16_000)) as writer:
            started.append(writer)
            for part in noise.split(25):
                writer.write(part)
                sizes.append(partial(path.parent).stat().st_size)

    started, sizes = [], []
    write(tmp_path / "whole.mp4")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.mp4").write_bytes(b"the old one")
    limit = round(share * (tmp_path / "whole.mp4").stat().st_size)
    with small_disk(limit), pytest.raises(FlashHeadError, match=r"a\.mp4 could not be written: "):
        write(tmp_path / "full" / "a.mp4")
    assert (tmp_path / "full" / "a.mp4").read_bytes() == b"the old one"
    file, frames = started[1].kept() or (None, 0)
    assert frames == (len(decode_pictures(file)) if file else 0)
    assert frames >= 100 * (share - 0.5) and list((tmp_path / "full").glob("*final*")) == []


def test_a_folder_that_goes_is_told_at_the_next_frames(tmp_path):
    (tmp_path / "gone").mkdir()
    writer = VideoWriter(tmp_path / "gone" / "a.mp4", **SIZE)
    with pytest.raises(FlashHeadError, match=r"a\.mp4 could not be written: No such file"), writer:
        writer.write(grey(30))
        shutil.rmtree(tmp_path / "gone")
        writer.write(grey(30))
        pytest.fail("it wrote into a deleted file")
    assert writer.kept() is None


@pytest.mark.parametrize("old", [False, True])
def test_two_writers_of_one_file_both_keep_their_video(tmp_path, old):
    path = tmp_path / "a.mp4"
    if old:
        path.write_bytes(b"the old one")
    with pytest.warns(FlashHeadWarning, match=r"a\.mp4 was written by another run.*a_2\.mp4"):
        with VideoWriter(path, **SIZE) as later:
            later.write(grey(30))
            with VideoWriter(path, **SIZE) as earlier:
                later.write(grey(5))
                earlier.write(grey(20))
            assert earlier.path == path and len(decode_pictures(path)) == 20
    assert later.path == tmp_path / "a_2.mp4" and later.kept() == (later.path, 35)
    assert len(decode_pictures(later.path)) == 35 and len(decode_pictures(path)) == 20
    assert leftovers(tmp_path, "a.mp4", "a_2.mp4")


KILLED = """
import os, sys, torch
from flashhead.media.audio_source import TensorAudio
from flashhead.media.video_writer import VideoWriter
source = TensorAudio(torch.rand(16000 * 12) / 2, 16000)
with VideoWriter(sys.argv[1], height=48, width=64, audio=source) as writer:
    for _ in range(10):
        writer.write(torch.rand(25, 48, 64, 3))
    os._exit(9)
"""


def test_a_kill_leaves_a_playable_partial(tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLED, tmp_path / "a.mp4"]
    assert subprocess.run(command, check=False, env=environment).returncode == 9
    assert leftovers(tmp_path, partial(tmp_path).name)
    frames = decode_pictures(partial(tmp_path))
    assert len(frames) >= 250 - 75
    sound, rate = decode_sound(partial(tmp_path))
    assert sound.shape[1] / rate == pytest.approx(len(frames) / 25, abs=1.5)
