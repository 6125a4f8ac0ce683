"""The push interface: odd pieces, states to keep and resume, stopping in the middle."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import flashhead
from flashhead import AudioError, LiveStream, Settings, SizeError
from flashhead.media.live_audio import LiveAudio

SETTINGS = Settings(size=(32, 32), steps=2, seed=11, cache_seconds=2.0)


def noise(samples, seed=0):
    return torch.randn(samples, generator=torch.Generator().manual_seed(seed)) * 0.1


def live_frames(live, pieces):
    chunks = [chunk for piece in pieces for chunk in live.push(piece)]
    return [*chunks, *live.finish()]


def tensors_of(value):
    """Every tensor in a state, however deep."""
    if isinstance(value, torch.Tensor):
        return [value]
    if dataclasses.is_dataclass(value):
        value = [getattr(value, field.name) for field in dataclasses.fields(value)]
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in tensors_of(item)]
    return []


@given(
    samples=st.integers(1, 40_000),
    cuts=st.lists(st.integers(0, 40_000), max_size=5),
)
@settings(deadline=None, max_examples=8)
def test_odd_pieces_equal_generate_bit_for_bit(bundle, portrait, samples, cuts):
    waveform = noise(samples)
    bounds = [0, *sorted(min(cut, samples) for cut in cuts), samples]
    pieces = [waveform[a:b] for a, b in zip(bounds, bounds[1:], strict=False)]
    live = live_frames(LiveStream(bundle, portrait, SETTINGS), pieces)
    whole = list(
        flashhead.generate(bundle, portrait, waveform, 16_000, **dataclasses.asdict(SETTINGS))
    )
    assert [(c.index, c.start) for c in live] == [(c.index, c.start) for c in whole]
    assert all(torch.equal(a.frames, b.frames) for a, b in zip(live, whole, strict=True))
    assert sum(len(chunk.frames) for chunk in live) == max(1, round(samples / 640))


def test_chunks_come_as_soon_as_they_fill(bundle, portrait):
    live = LiveStream(bundle, portrait, SETTINGS)
    assert list(live.push(noise(15_359))) == []
    (chunk,) = live.push(noise(1))
    assert (chunk.index, chunk.start, len(chunk.frames)) == (0, 0, 24)
    assert [chunk.start for chunk in live.push(noise(2 * 15_360))] == [24, 48]


def test_pushed_samples_count_even_if_nobody_walks(bundle, portrait):
    live, other = (LiveStream(bundle, portrait, SETTINGS) for _ in range(2))
    waveform = noise(20_000)
    live.push(waveform[:18_000])
    live.push(waveform[18_000:])
    expected = live_frames(other, [waveform])
    assert all(
        torch.equal(a.frames, b.frames) for a, b in zip(live.finish(), expected, strict=True)
    )


def test_finishing_what_heard_nothing_or_was_finished_gives_nothing(bundle, portrait):
    live = LiveStream(bundle, portrait, SETTINGS)
    assert list(live.finish()) == []
    live_frames(live, [noise(700)])
    assert list(live.finish()) == []


def test_a_state_is_frozen_and_a_chunk_leaves_it_as_it_was(bundle, portrait):
    live = LiveStream(bundle, portrait, SETTINGS)
    live.advance(noise(15_360))
    state = live.state
    before = [tensor.clone() for tensor in tensors_of(state)]
    assert len(before) >= 6
    live.advance(noise(15_360, seed=1))
    assert live.state is not state
    assert all(torch.equal(a, b) for a, b in zip(before, tensors_of(state), strict=True))
    with pytest.raises(dataclasses.FrozenInstanceError):
        state.index = 0


def test_a_kept_state_resumes_exactly_even_in_another_stream(bundle, portrait):
    live = LiveStream(bundle, portrait, SETTINGS)
    live.advance(noise(15_360))
    state = live.state
    expected = [live.advance(noise(15_360, seed=n)) for n in (1, 2)]
    other = LiveStream(bundle, portrait, dataclasses.replace(SETTINGS, seed=99))
    for stream in (live, other):
        stream.state = state
        for n, frames in enumerate(expected, 1):
            assert torch.equal(stream.advance(noise(15_360, seed=n)), frames)


def test_a_chunk_that_is_stopped_can_be_done_again(bundle, portrait):
    """An exception from on_step loses neither the state nor the audio."""

    class Stop(BaseException):
        pass

    stops = [(1, 1), (1, 2), (2, 2)]

    def on_step(chunk, done, _steps):
        if stops and (chunk, done) == stops[0]:
            stops.pop(0)
            raise Stop

    waveform = noise(40_000)
    expected = live_frames(LiveStream(bundle, portrait, SETTINGS), [waveform])
    live = LiveStream(bundle, portrait, SETTINGS, on_step)
    chunks = []
    for pull in (lambda: live.push(waveform), *[lambda: live.push(noise(0))] * 2, live.finish):
        state = live.state
        try:
            for chunk in pull():
                chunks.append(chunk)
                state = live.state
        except Stop:
            assert live.state is state
    # The last stop was in finish() itself.
    chunks += live.finish()
    assert not stops
    assert [(c.index, c.start) for c in chunks] == [(0, 0), (1, 24), (2, 48)]
    assert all(torch.equal(a.frames, b.frames) for a, b in zip(chunks, expected, strict=True))


@pytest.mark.parametrize(
    "samples", [torch.zeros(2, 100), torch.tensor([0.0, float("nan")]), torch.tensor([3e38])]
)
def test_bad_samples_are_refused_and_forgotten(samples, bundle, portrait):
    live = LiveStream(bundle, portrait, SETTINGS)
    with pytest.raises(AudioError, match="finite mono"):
        live.push(samples)
    assert list(live.finish()) == []


def test_an_illegal_size_is_refused(bundle, portrait):
    with pytest.raises(SizeError, match="48x32.*nearest: 32x32 or 64x32"):
        LiveStream(bundle, portrait, Settings(size=(32, 48)))


@pytest.mark.parametrize("value", [3e38, -1e20, 1e5, float("inf"), float("nan")])
def test_live_sound_that_resampling_would_break_is_refused(value, bundle):
    live = LiveAudio(48_000, "float32", "keep", bundle.geometry)
    live.push(bytes(4 * 24_000))
    with pytest.raises(AudioError, match=r"the audio holds .* at 0\.50 s"):
        live.push(np.array([value], "<f4").tobytes())


def test_live_sound_far_above_full_scale_is_warned_of(bundle):
    live = LiveAudio(16_000, "float32", "keep", bundle.geometry)
    quiet = np.full(bundle.geometry.new_samples, 0.5, "<f4")
    live.push(quiet.tobytes())
    assert not live.take().warning
    live.push((quiet * 65_535).tobytes())
    assert "full scale is 1" in live.take().warning
