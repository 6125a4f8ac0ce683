import pytest
import torch

from flashhead.errors import FlashHeadError
from flashhead.media.audio_source import TensorAudio
from flashhead.media.video_writer import VideoWriter
from flashhead.training.data.clip_filters import (
    Duplicates,
    FilterSettings,
    fingerprint,
    is_large_enough,
    is_voiced,
    scene_cuts,
    stretches,
    thumbnails,
)
from flashhead.training.data.real_clips import FilterCounts, read_frames, real_clips

SMALL = FilterSettings(least_seconds=1.0, least_side=48)


def scene(frames: int, seed: int, side: int = 48) -> torch.Tensor:
    """A still picture of soft blobs with a dot that moves: (T, side, side, 3) float in [0, 1]."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 5, 5, generator=rng)
    still = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")[0]
    video = still.clamp(0, 1).permute(1, 2, 0).expand(frames, -1, -1, -1).clone()
    for frame in range(frames):
        video[frame, 20:26, frame % 40 : frame % 40 + 6] = 1
    return video


def tone(frames: int, size: float = 0.2) -> torch.Tensor:
    return size * torch.sin(torch.arange(frames * 640) * 0.2)


def write(path, video: torch.Tensor, sound: torch.Tensor | None, fps: int = 25) -> None:
    audio = None if sound is None else TensorAudio(sound, 16_000)
    height, width = video.shape[1:3]
    with VideoWriter(path, height=height, width=width, fps=fps, audio=audio) as writer:
        writer.write(video)


def test_cuts_are_found_and_motion_is_not_one():
    frames = (torch.cat([scene(30, 1), scene(40, 2)]) * 255).to(torch.uint8)
    assert scene_cuts(thumbnails(frames)) == [30]
    assert scene_cuts(thumbnails(frames[:30])) == []
    # Steady change, however large, is motion.
    ramp = torch.linspace(0, 1, 10).view(-1, 1, 1).expand(-1, 16, 16)
    assert scene_cuts(ramp) == []


def test_stretches_are_what_lies_between_cuts_and_is_long_enough():
    assert stretches(200, [80, 90], FilterSettings(least_seconds=2)) == [(0, 80), (90, 200)]
    assert stretches(20, [], FilterSettings(least_seconds=1)) == []


def test_resolution_and_silence():
    assert is_large_enough(48, 64, SMALL) and not is_large_enough(64, 46, SMALL)
    assert is_voiced(tone(10)) and not is_voiced(tone(10, 0.0005)) and not is_voiced(torch.zeros(3))
    mostly = torch.cat([tone(10), torch.zeros(90 * 640)])
    assert not is_voiced(mostly, FilterSettings(voiced=0.2))
    assert is_voiced(mostly, FilterSettings(voiced=0.05))


def test_a_smaller_noisier_copy_is_a_duplicate():
    video = scene(30, 3)
    copy = torch.nn.functional.interpolate(video.permute(0, 3, 1, 2), (36, 36), mode="area")
    noise = 0.01 * torch.randn(copy.shape, generator=torch.Generator().manual_seed(0))
    copy = (copy + noise).clamp(0, 1).permute(0, 2, 3, 1)
    prints = [fingerprint((v * 255).to(torch.uint8)) for v in (video, copy, scene(30, 4))]
    duplicates = Duplicates()
    assert [duplicates.is_new(print_) for print_ in prints] == [True, False, True]


def test_a_folder_is_filtered(tmp_path):
    (tmp_path / "deep").mkdir()
    write(tmp_path / "a.mp4", torch.cat([scene(40, 1), scene(30, 2)]), tone(70))
    write(tmp_path / "b.mp4", torch.cat([scene(40, 1), scene(30, 2)]), tone(70))
    write(tmp_path / "deep" / "c.mp4", scene(40, 3), torch.zeros(40 * 640))
    write(tmp_path / "d.mp4", scene(40, 4, 32), tone(40))
    write(tmp_path / "e.mp4", scene(10, 5), tone(10))
    write(tmp_path / "f.mp4", scene(30, 6), None)
    (tmp_path / "g.mp4").write_bytes(b"not a video")
    counts = FilterCounts()
    clips = list(real_clips(tmp_path, 24, SMALL, counts))
    assert [clip.frames for clip in clips] == [40, 30]
    assert counts == FilterCounts(kept=2, unreadable=1, small=1, duplicate=1, short=1, silent=2)
    for clip in clips:
        assert clip.video.shape[1:] == (24, 24, 3) and clip.video.dtype == torch.uint8
        assert torch.equal(clip.portrait, clip.video[0])
        assert clip.waveform.abs().max() > 0.1 and clip.openness is None


def test_other_frame_rates_come_out_at_25_and_in_sync(tmp_path):
    """A picture that turns bright half-way does so at the same second."""
    for fps, frames in ((50, 100), (20, 40), (25, 50)):
        video = torch.zeros(frames, 32, 48, 3)
        video[frames // 2 :] = 1
        path = tmp_path / f"{fps}.mp4"
        write(path, video, None, fps)
        read = read_frames(path, 32)
        assert read.shape[1:] == (32, 32, 3) and abs(len(read) - 50) <= 1
        bright = read.float().mean(dim=(1, 2, 3)) > 127
        assert bright.int().argmax() == 25


def test_a_folder_without_videos_is_an_error(tmp_path):
    with pytest.raises(FlashHeadError, match="holds no video"):
        next(real_clips(tmp_path, 32))
