import av
import pytest
import torch

from flashhead.errors import FlashHeadError
from flashhead.media.audio_source import TensorAudio
from flashhead.media.video_writer import VideoWriter
from flashhead.training.__main__ import main
from flashhead.training.data.clip_dataset import ClipDataset
from flashhead.training.data.clip_filters import (
    FINGERPRINT_SIDE,
    Duplicates,
    FilterSettings,
    fingerprint,
    is_large_enough,
    is_long_enough,
    is_voiced,
    scene_cuts,
    scenes,
    thumbnails,
)
from flashhead.training.data.encoded_clips import EncodedClip
from flashhead.training.data.real_clips import (
    FilterCounts,
    find_videos,
    read_frames,
    real_clips,
)
from flashhead.training.faces.drawn_clips import draw_clip
from flashhead.training.faces.identities import REPERTOIRE
from flashhead.training.faces.motions import babble

from .conftest import FIXTURES

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


def test_scenes_lie_between_cuts():
    assert scenes(200, [80, 90]) == [(0, 80), (80, 90), (90, 200)]
    assert scenes(20, []) == [(0, 20)]


def test_a_scene_may_be_too_short():
    assert is_long_enough(25, SMALL) and not is_long_enough(24, SMALL)


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
    prints = [
        fingerprint(thumbnails((v * 255).to(torch.uint8), FINGERPRINT_SIDE))
        for v in (video, copy, scene(30, 4))
    ]
    duplicates = Duplicates()
    assert [duplicates.is_new(bits) for bits in prints] == [True, False, True]


def test_a_folder_is_filtered(tmp_path):
    (tmp_path / "deep").mkdir()
    write(tmp_path / "a.mp4", torch.cat([scene(40, 1), scene(65, 2)]), tone(105))
    write(tmp_path / "b.mp4", torch.cat([scene(40, 1), scene(65, 2)]), tone(105))
    write(tmp_path / "deep" / "c.mp4", scene(40, 3), torch.zeros(40 * 640))
    write(tmp_path / "d.mp4", scene(40, 4, 32), tone(40))
    write(tmp_path / "e.mp4", scene(10, 5), tone(10))
    write(tmp_path / "f.mp4", scene(30, 6), None)
    (tmp_path / "g.mp4").write_bytes(b"not a video")
    counts = FilterCounts()
    clips = list(real_clips(find_videos([tmp_path]), (24, 24), 30, SMALL, counts))
    assert counts == FilterCounts(
        kept=3, unreadable=1, small=1, duplicate=1, mute=1, short=1, silent=1
    )
    for clip in clips:
        assert clip.video.shape == (30, 24, 24, 3) and clip.video.dtype == torch.uint8
        assert clip.waveform.abs().max() > 0.1 and clip.openness is None
    # The first scene gives one clip, and the second two: their portrait is its first frame.
    whole = torch.stack(list(read_frames(tmp_path / "a.mp4", (24, 24))))
    for clip, first, portrait in zip(clips, (0, 40, 70), (0, 40, 40), strict=True):
        assert torch.equal(clip.video, whole[first : first + 30])
        assert torch.equal(clip.portrait, whole[portrait])
    # Their context is the speech of the scene before them, as long as the audio cache.
    assert not clips[0].context.any() and not clips[1].context.any()
    assert len(clips[2].context) == 8 * 16_000
    assert torch.equal(clips[2].context[-30 * 640 :], clips[1].waveform)
    assert not clips[2].context[: -30 * 640].any()


def test_the_middle_is_cropped_to_the_clips_shape(tmp_path):
    video = torch.zeros(3, 64, 96, 3)
    video[:, 8:56, 32:64] = 1  # 32 wide, 48 high, in the middle
    write(tmp_path / "a.mp4", video, None)
    square = next(read_frames(tmp_path / "a.mp4", (64, 64))).float() / 255
    assert square[8:56, 16:48].mean() > 0.95 and square[:, :12].mean() < 0.05
    tall = next(read_frames(tmp_path / "a.mp4", (48, 32))).float() / 255
    assert tall.shape == (48, 32, 3) and tall[10:38, 10:22].mean() > 0.95


def test_other_frame_rates_come_out_at_25_and_in_sync(tmp_path):
    """A picture that turns bright half-way does so at the same second."""
    for fps, frames in ((50, 100), (20, 40), (25, 50)):
        video = torch.zeros(frames, 32, 48, 3)
        video[frames // 2 :] = 1
        path = tmp_path / f"{fps}.mp4"
        write(path, video, None, fps)
        read = torch.stack(list(read_frames(path, (32, 32))))
        assert read.shape[1:] == (32, 32, 3) and abs(len(read) - 50) <= 1
        bright = read.float().mean(dim=(1, 2, 3)) > 127
        assert bright.int().argmax() == 25


def test_sources_without_videos_are_errors(tmp_path):
    with pytest.raises(FlashHeadError, match="holds no video"):
        find_videos([tmp_path])
    with pytest.raises(FlashHeadError, match="nowhere does not exist"):
        find_videos([tmp_path / "nowhere"])


@pytest.fixture(scope="module")
def talking(tmp_path_factory):
    """A drawn face that talks and sways for 5 s, with sound that follows its mouth."""
    path = tmp_path_factory.mktemp("talking") / "talking.mp4"
    frames, draws = 125, torch.Generator().manual_seed(1)
    openness = babble(frames, draws)[0]
    noise = torch.randn(frames * 640, generator=draws)
    sound = 0.2 * noise * openness.repeat_interleave(640)
    width = torch.full((frames,), 0.5)
    clip = draw_clip(REPERTOIRE[2], openness, width, 128, draws, waveform=sound)
    write(path, clip.video / 255, clip.waveform)
    return path


def test_a_video_becomes_clips_that_the_stages_take(talking, tmp_path, capsys):
    clips, encoded = tmp_path / "clips", tmp_path / "encoded"
    arguments = ["clips", str(talking), "--output", str(clips), "--frames", "57"]
    arguments += ["--size", "96x64", "--least-side", "128"]
    assert main(arguments) == 0
    assert "Clips kept: 2, of videos: 1." in capsys.readouterr().out
    cache = ClipDataset(clips)
    assert (len(cache), cache.frames, cache.size) == (2, 57, (64, 96))
    for clip in cache:
        assert clip.openness is None and clip.face is None and clip.identity is None
        loudness = clip.waveform.view(57, 640).square().mean(1).sqrt()
        assert loudness.max() > 0.05
    with av.open(str(talking)) as file:
        assert [s.codec_context.name for s in file.streams] == ["h264", "aac"]

    checkpoint = FIXTURES / "tiny-checkpoint"
    arguments = ["encode", "--clips", str(clips), "--output", str(encoded), "--variant", "lite"]
    assert main([*arguments, "--checkpoint", str(checkpoint)]) == 0
    made = [EncodedClip.load(path) for path in sorted(encoded.iterdir())]
    assert [clip.chunks for clip in made] == [2, 2]
    assert all(clip.mouth.isnan().all() and clip.face.min() == 1 for clip in made)
    assert all(clip.latents.isfinite().all() for clip in made)

    arguments = ["flow", "--encoded", str(encoded), "--checkpoint", str(checkpoint)]
    arguments += ["--variant", "lite", "--generator", str(checkpoint / "Model_Lite")]
    arguments += ["--work", str(tmp_path / "work"), "--output", str(tmp_path), "--updates", "1"]
    assert main(arguments) == 1
    assert "set stage.mouth_weight to 0" in capsys.readouterr().err
    assert main([*arguments, "--set", "stage.mouth_weight=0", "--set", "stage.batch=1"]) == 0

    # What needs drawn clips says so at once.
    for command in (
        ["vae", "--clips", str(clips), "--work", str(tmp_path / "vae"), "--output", str(tmp_path)],
        ["measure", "--clips", str(clips), "--kind", "drawn", "--output", str(tmp_path)],
    ):
        assert main(command) == 1
        assert "The clips of" in capsys.readouterr().err


def test_bad_input_is_one_error_before_any_work(talking, tmp_path, capsys):
    output = tmp_path / "clips"
    for words, message in (
        ([str(tmp_path / "none.mp4")], "none.mp4 does not exist"),
        ([str(talking), "--frames", "20"], "--frames 20: expected at least 33"),
        (
            [str(talking), __file__],
            "Clips kept: 0, of videos: 2; dropped: videos that cannot be read: 1, videos that are "
            "too small (--least-side): 1.",
        ),
        (
            [str(talking), "--least-side", "9", "--frames", "200"],
            "scenes that are too short (--least-seconds, --frames): 1.",
        ),
    ):
        assert main(["clips", *words, "--output", str(output)]) == 1
        assert message in capsys.readouterr().err
    assert not output.exists()
    with pytest.raises(SystemExit):
        main(["clips", str(talking), "--output", str(output), "--size", "512"])
