"""The audio cache of stream mode, and the context that frames see."""

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flashhead import AudioError
from flashhead.stream.audio_context import AudioContextCache, frame_context


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(total=st.integers(1, 40), start=st.integers(0, 39), count=st.integers(1, 40))
@settings(deadline=None, max_examples=50)
def test_windows_reach_two_frames_each_way_within_the_clip(total, start, count):
    features = torch.arange(float(total)).view(1, total, 1, 1)
    context = frame_context(features, start, count)
    expected = [
        [np.clip(frame + offset, 0, total - 1) for offset in (-2, -1, 0, 1, 2)]
        for frame in range(start, start + count)
    ]
    assert context.shape == (1, count, 5, 1, 1)
    assert context.flatten(1)[0].view(count, 5).tolist() == expected


def test_it_starts_as_eight_seconds_of_silence():
    cache = AudioContextCache.silent(batch=2)
    assert cache.seconds == 8
    assert torch.equal(cache.samples, torch.zeros(2, 128_000))


@given(pieces=st.lists(st.integers(0, 60_000), max_size=6))
@settings(deadline=None, max_examples=30)
def test_odd_pieces_leave_the_last_seconds_of_the_whole(pieces):
    heard = noise(sum(pieces))
    cache = AudioContextCache.silent(seconds=2)
    for piece in heard.split(pieces):
        cache = cache.push(piece)
    assert torch.equal(cache.samples[0], torch.cat([torch.zeros(32_000), heard])[-32_000:])


def test_pushing_makes_a_new_cache():
    cache = AudioContextCache.silent()
    before = cache.samples.clone()
    assert cache.push(noise(500)) is not cache
    assert torch.equal(cache.samples, before)
    with pytest.raises(FrozenInstanceError):
        cache.samples = before


def test_features_are_those_of_the_whole_window(bundle):
    encoder = bundle.audio_encoder
    cache = AudioContextCache.silent().push(noise(100_000))
    features = encoder.encode(cache.samples[0])
    context = cache.context(encoder, 33)
    assert context.shape == (1, 33, 5, 3, 16)
    for n in range(33):
        for offset in range(5):
            frame = min(200 - 33 + n + offset - 2, 199)
            torch.testing.assert_close(context[0, n, offset], features[frame], rtol=0, atol=1e-5)


def test_sessions_in_a_batch_hear_their_own_audio(bundle):
    clips = noise(2, 20_000)
    both = AudioContextCache.silent(2).push(clips).context(bundle.audio_encoder, 33)
    for n in range(2):
        alone = AudioContextCache.silent().push(clips[n]).context(bundle.audio_encoder, 33)
        torch.testing.assert_close(both[n : n + 1], alone, rtol=0, atol=1e-5)


def test_a_cache_shorter_than_a_chunk_is_refused(bundle):
    with pytest.raises(AudioError, match=r"holds 1 s, less than the 1\.32 s"):
        AudioContextCache.silent(seconds=1).context(bundle.audio_encoder, 33)
