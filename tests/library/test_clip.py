"""A clip cut into chunks that are asked for one by one, against `generate`, which streams it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

import flashhead
from flashhead import Settings
from flashhead.errors import AudioError, FlashHeadError
from flashhead.geometry import ChunkGeometry
from flashhead.image.portrait import prepare_portrait
from flashhead.media.audio_source import TensorAudio
from flashhead.stream.audio_context import AudioContextCache
from flashhead.stream.clip import ClipPlan, SpeechClip
from flashhead.stream.loop import ChunkAudio, ChunkLoop
from flashhead.stream.state_file import load_state, save_state

FIXTURES = Path(__file__).parents[1] / "fixtures"
LITE = ChunkGeometry((8, 32, 32), (1, 1, 1), 128)
PRO = ChunkGeometry((4, 8, 8), (1, 2, 2), 16)


def tone(seconds: float, rate: int = 16_000) -> TensorAudio:
    times = torch.arange(round(seconds * rate)) / rate
    return TensorAudio(torch.sin(1100 * times) * torch.sin(9 * times), rate)


def make_loop(bundle) -> ChunkLoop:
    return ChunkLoop(bundle, Settings(size=(64, 64)))


def begin(bundle, portrait):
    return make_loop(bundle).start(prepare_portrait(portrait, (64, 64)))


def render(bundle, clip: SpeechClip, state, chunks: range):
    """Frames and state of some chunks, made one by one."""
    loop, frames = make_loop(bundle), []
    for chunk in chunks:
        made, state = loop.step(clip.chunk_audio(bundle.geometry, chunk), state)
        frames.append(made[0])
    return torch.cat(frames), state


@pytest.mark.parametrize("mode", ["stream", "once"])
def test_chunk_by_chunk_is_what_generate_gives(bundle, portrait, mode):
    source = tone(1.7, 22_050)
    clip = SpeechClip.of(source)
    if mode == "once":
        clip = clip.encoded(bundle.audio_encoder, bundle.geometry)
    found, _ = render(
        bundle, clip, begin(bundle, portrait), range(clip.plan(bundle.geometry).chunks)
    )
    chunks = flashhead.generate(bundle, portrait, source, size=(64, 64), audio_mode=mode)
    assert torch.equal(found, torch.cat([chunk.frames for chunk in chunks]))


@given(st.integers(1, 500), st.sampled_from([LITE, PRO]), st.booleans())
@settings(max_examples=200, deadline=None)
def test_spans_cover_every_frame_once(frames, geometry, once):
    plan = ClipPlan(geometry, frames, once)
    spans = [plan.span(chunk) for chunk in range(plan.chunks)]
    assert [frame for span in spans for frame in span] == list(range(frames))
    for chunk, span in enumerate(spans):
        assert len(plan.shown(chunk)) == len(span) > 0
        assert plan.shown(chunk).stop <= geometry.frames
        samples = plan.samples(chunk)
        assert samples.start == span.start * 640
        assert len(samples) == 640 * (33 if once and chunk == 0 else geometry.new_frames)


def test_a_saved_state_goes_on_to_the_bit(bundle, portrait, tmp_path):
    clip = SpeechClip.of(tone(2.5))
    whole, _ = render(bundle, clip, begin(bundle, portrait), range(3))
    first, state = render(bundle, clip, begin(bundle, portrait), range(1))
    save_state(tmp_path / "half.safetensors", state, bundle.geometry)
    del state
    read, geometry = load_state(tmp_path / "half.safetensors")
    assert geometry == bundle.geometry
    assert read.index == 1
    rest, _ = render(bundle, clip, read, range(1, 3))
    assert torch.equal(torch.cat([first, rest]), whole)
    assert [path.name for path in tmp_path.iterdir()] == ["half.safetensors"]


def test_a_state_that_version_0_1_saved_goes_on(bundle):
    """Made when the library was one flat folder; beside it lies the chunk that came next then."""
    folder = FIXTURES / "saved"
    state, geometry = load_state(folder / "state.safetensors")
    assert (geometry, state.index) == (bundle.geometry, 1)
    following = load_file(folder / "next_chunk.safetensors")
    loop = ChunkLoop(bundle, Settings(size=(32, 32), steps=2, cache_seconds=1.32, seam_fade=3))
    frames, after = loop.step(ChunkAudio(following["samples"]), state)
    assert after.index == 2
    assert (frames[0] - following["frames"] / 255).abs().max() < 0.75 / 255


def test_a_chunk_shows_the_frames_that_are_asked_for(bundle, portrait):
    """None of them too: an empty range is no missing one."""
    loop, state = make_loop(bundle), begin(bundle, portrait)
    samples = torch.zeros(bundle.geometry.new_samples)
    for shown, count in ((None, 24), (range(9, 12), 3), (range(9, 9), 0)):
        frames, after = loop.step(ChunkAudio(samples, shown), state)
        assert frames.shape[1] == count and after.index == 1


@pytest.mark.parametrize("content", [b"", b"no weights", None])
def test_another_file_is_no_state(tmp_path, content, checkpoint):
    path = tmp_path / "x.safetensors"
    weights = checkpoint / "Model_Lite" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(weights.read_bytes() if content is None else content)
    with pytest.raises(FlashHeadError, match="x.safetensors is no"):
        load_state(path)


def test_a_missing_folder_loses_nothing(bundle, portrait, tmp_path):
    with pytest.raises(FlashHeadError, match="there is no folder"):
        save_state(tmp_path / "no" / "x.safetensors", begin(bundle, portrait), bundle.geometry)


def test_chunks_that_are_not_there_are_refused(bundle):
    clip = SpeechClip.of(tone(1.0))
    with pytest.raises(AudioError, match="chunks 0 to 1"):
        clip.chunk_audio(bundle.geometry, 2)


def test_features_for_other_chunks_are_refused(bundle):
    clip = SpeechClip.of(tone(1.0)).encoded(bundle.audio_encoder, LITE)
    with pytest.raises(AudioError, match="makes 28"):
        clip.check(PRO)


@given(st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=50, deadline=None)
def test_a_cache_of_another_length_keeps_its_end(had, wanted):
    samples = torch.arange(1, had * 640 + 1, dtype=torch.float32)[None]
    found = AudioContextCache(samples).resized(wanted / 25).samples
    kept = min(had, wanted) * 640
    assert found.shape == (1, wanted * 640)
    assert torch.equal(found[:, -kept:], samples[:, -kept:])
    assert not found[:, :-kept].any()


def test_a_cache_that_is_out_of_range_is_refused():
    with pytest.raises(FlashHeadError, match="audio cache"):
        SpeechClip.of(tone(1.0), cache_seconds=0.5)
