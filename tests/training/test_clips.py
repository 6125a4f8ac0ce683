import itertools
from dataclasses import replace

import pytest
import torch

from flashhead.errors import FlashHeadError
from flashhead.training.data.clip_dataset import ClipDataset, write_clips
from flashhead.training.data.clips import Clip
from flashhead.training.faces.drawn_clips import babbling_clips
from flashhead.training.faces.motions import babble, blinks, idle


def clip(frames: int = 40, number: int = 0) -> Clip:
    """A clip whose every value says which frame it belongs to."""
    index = torch.arange(frames)
    return Clip(
        video=index.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 4, 4, 3).contiguous(),
        waveform=index.repeat_interleave(640).float(),
        portrait=torch.zeros(4, 4, 3, dtype=torch.uint8),
        openness=index / frames,
        identity=number,
    )


def test_a_cut_takes_everything_of_its_frames():
    cut = clip().cut(5, 10)
    assert cut.video[:, 0, 0, 0].tolist() == list(range(5, 15))
    assert cut.waveform.view(10, 640)[:, 0].tolist() == list(range(5, 15))
    assert cut.openness[0] == 5 / 40 and cut.width is None and cut.context is None


def test_context_is_the_speech_before_and_silence_before_that():
    context = clip().cut(2, 10, context_samples=4 * 640).context.view(4, 640)[:, 0]
    assert context.tolist() == [0, 0, 0, 1]
    later = clip().cut(2, 30).cut(3, 10, context_samples=2 * 640)
    assert later.context.view(2, 640)[:, 0].tolist() == [3, 4]


def test_context_of_a_cut_goes_on_in_cuts_of_it():
    first = clip().cut(6, 20, context_samples=3 * 640)
    second = first.cut(1, 10, context_samples=3 * 640)
    assert second.context.view(3, 640)[:, 0].tolist() == [4, 5, 6]


def test_speech_must_be_as_long_as_the_video():
    with pytest.raises(ValueError, match="40 frames has 10 samples"):
        Clip(clip().video, torch.zeros(10), clip().portrait)
    with pytest.raises(ValueError, match="Frames 35 to 45"):
        clip().cut(35, 10)


def test_clips_survive_the_cache(tmp_path):
    drawn = list(itertools.islice(babbling_clips(32, 9, seed=1), 3))
    cache = ClipDataset(write_clips(tmp_path / "set", iter(drawn), 3))
    assert len(cache) == 3 and cache.frames == 9 and cache.identities == [0, 1, 2]
    for stored, made in zip(cache, drawn, strict=True):
        for name in ("video", "waveform", "portrait", "openness", "mouth", "eyes", "pose"):
            assert torch.equal(getattr(stored, name), getattr(made, name)), name
    part = cache.part(1, 2, 3)
    assert torch.equal(part.video, drawn[1].video[2:5]) and len(part.waveform) == 3 * 640


def test_an_unfinished_cache_is_refused(tmp_path):
    with pytest.raises(FlashHeadError, match="1 clips came; expected 2"):
        write_clips(tmp_path / "set", itertools.islice(babbling_clips(32, 5, seed=1), 1), 2)
    with pytest.raises(FlashHeadError, match="does not exist"):
        ClipDataset(tmp_path / "set")


def test_what_clips_do_not_know_is_left_out(tmp_path):
    """Also when a data set whose clips knew more is replaced; any number of clips may come."""
    write_clips(tmp_path, babbling_clips(32, 5, seed=1), 2)
    known = [replace(clip(5, n), openness=None, identity=None) for n in range(3)]
    context = torch.arange(3.0)
    cache = ClipDataset(write_clips(tmp_path, [replace(c, context=context) for c in known]))
    assert len(cache) == 3 and set(cache.arrays) == {"video", "waveform", "portrait", "context"}
    for stored, made in zip(cache, known, strict=True):
        assert torch.equal(stored.video, made.video) and stored.openness is stored.identity is None
        assert torch.equal(stored.context, context)
    with pytest.raises(FlashHeadError, match="do not know their mouth"):
        ClipDataset(tmp_path, needed=("video", "mouth"))


@pytest.mark.parametrize("other", [clip(6), replace(clip(5), openness=None)])
def test_clips_of_a_set_are_alike(tmp_path, other):
    with pytest.raises(FlashHeadError, match="clip 1 has other fields or another length"):
        write_clips(tmp_path, [clip(5), other])
    with pytest.raises(FlashHeadError, match="does not exist"):
        ClipDataset(tmp_path)


def test_babble_covers_the_mouth_and_repeats_with_its_seed():
    openness, width = babble(3000, torch.Generator().manual_seed(0))
    again, _ = babble(3000, torch.Generator().manual_seed(0))
    assert torch.equal(openness, again)
    for curve in (openness, width):
        assert curve.min() >= 0 and curve.max() <= 1 and curve.max() > 0.95
        assert curve.quantile(0.1) < 0.2 and curve.diff().abs().max() < 0.7


def test_lids_shut_now_and_then():
    lids = blinks(500, torch.Generator().manual_seed(3))
    shut = ((lids[1:] == 1) & (lids[:-1] < 1)).sum()
    assert 4 <= shut <= 14 and (lids == 0).float().mean() > 0.85


def test_idling_keeps_the_mouth_shut_and_the_head_near_its_place():
    motion = idle(400, torch.Generator().manual_seed(1))
    assert motion.openness.abs().max() == 0
    assert motion.pose.abs().amax(0).tolist() < [0.12, 0.1, 0.12]
    assert motion.pose.std(0).min() > 0.005
