"""Speech cut into chunks that are asked for one by one, against `generate`, which streams it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import flashhead
from flashhead.errors import AudioError, FlashHeadError
from flashhead.geometry import ChunkGeometry
from flashhead.image.portrait import prepare_portrait
from flashhead.media.audio_source import TensorAudio
from flashhead.stream.audio_context import AudioContextCache
from flashhead.stream.loop import decode_chunk, plan_stream, sample_chunk
from flashhead.stream.settings import Settings
from flashhead.stream.speech import Speech
from flashhead.stream.state import encode_portrait, start_stream
from flashhead.stream.state_file import load_state, save_state

LITE = ChunkGeometry((8, 32, 32), (1, 1, 1), 128)
PRO = ChunkGeometry((4, 8, 8), (1, 2, 2), 16)


def tone(seconds: float, rate: int = 16_000) -> TensorAudio:
    times = torch.arange(round(seconds * rate)) / rate
    return TensorAudio(torch.sin(1100 * times) * torch.sin(9 * times), rate)


def begin(bundle, portrait, seed: int = 42):
    picture = prepare_portrait(portrait, (64, 64))
    return start_stream(encode_portrait(bundle.vae, bundle.geometry, picture), seed)


def render(bundle, speech: Speech, state, chunks: range):
    """Frames and state of some chunks, made one by one."""
    plan = plan_stream(bundle.generator, bundle.variant, Settings(), state.portrait.latents)
    frames = []
    for chunk in chunks:
        context, state = speech.hear(bundle.audio_encoder, bundle.geometry, chunk, state)
        latents, state = sample_chunk(bundle.generator, plan, context, state)
        made, state = decode_chunk(bundle.vae, bundle.geometry, latents, state)
        fresh = speech.new_frames(bundle.geometry, chunk)
        frames.append(made[0, fresh.start : fresh.stop])
    return torch.cat(frames), state


@pytest.mark.parametrize("mode", ["stream", "once"])
def test_chunk_by_chunk_is_what_generate_gives(bundle, portrait, mode):
    source = tone(1.7, 22_050)
    speech = Speech.of(source)
    if mode == "once":
        speech = speech.encoded(bundle.audio_encoder, bundle.geometry)
    found, _ = render(
        bundle, speech, begin(bundle, portrait), range(speech.chunks(bundle.geometry))
    )
    chunks = flashhead.generate(bundle, portrait, source, size=(64, 64), audio_mode=mode)
    assert torch.equal(found, torch.cat([chunk.frames for chunk in chunks]))


@given(st.integers(1, 16_000 * 20), st.sampled_from([LITE, PRO]), st.booleans())
@settings(max_examples=200, deadline=None)
def test_spans_cover_every_frame_once(samples, geometry, once):
    speech = Speech(torch.zeros(samples), max(1, round(samples / 640)))
    if once:
        speech = Speech(speech.samples, speech.frames, features=torch.zeros(1), geometry=geometry)
    spans = [speech.span(geometry, chunk) for chunk in range(speech.chunks(geometry))]
    assert [frame for span in spans for frame in span] == list(range(speech.frames))
    for chunk, span in enumerate(spans):
        fresh = speech.new_frames(geometry, chunk)
        assert len(fresh) == len(span) > 0
        assert fresh.stop <= geometry.frames
        length = len(speech.heard(geometry, chunk)) // 640
        assert length == (geometry.frames if once and chunk == 0 else geometry.new_frames)


def test_a_saved_state_goes_on_to_the_bit(bundle, portrait, tmp_path):
    speech = Speech.of(tone(2.5))
    whole, _ = render(bundle, speech, begin(bundle, portrait), range(3))
    first, state = render(bundle, speech, begin(bundle, portrait), range(1))
    save_state(tmp_path / "half.safetensors", state, bundle.geometry)
    del state
    read, geometry = load_state(tmp_path / "half.safetensors")
    assert geometry == bundle.geometry
    assert read.index == 1
    rest, _ = render(bundle, speech, read, range(1, 3))
    assert torch.equal(torch.cat([first, rest]), whole)
    assert [path.name for path in tmp_path.iterdir()] == ["half.safetensors"]


@pytest.mark.parametrize("content", [b"", b"no weights", None])
def test_another_file_is_no_state(tmp_path, content, checkpoint):
    path = tmp_path / "x.safetensors"
    weights = checkpoint / "Model_Lite" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(weights.read_bytes() if content is None else content)
    with pytest.raises(FlashHeadError, match="x.safetensors is no"):
        load_state(path)


def test_a_missing_folder_loses_nothing(bundle, portrait, tmp_path):
    with pytest.raises(FlashHeadError, match="could not be written"):
        save_state(tmp_path / "no" / "x.safetensors", begin(bundle, portrait), bundle.geometry)


def test_chunks_that_are_not_there_are_refused(bundle, portrait):
    speech = Speech.of(tone(1.0))
    with pytest.raises(AudioError, match="chunks 0 to 1"):
        speech.hear(bundle.audio_encoder, bundle.geometry, 2, begin(bundle, portrait))


def test_features_for_other_chunks_are_refused(bundle):
    speech = Speech.of(tone(1.0)).encoded(bundle.audio_encoder, LITE)
    with pytest.raises(AudioError, match="makes 28"):
        speech.check(PRO)


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
        Speech.of(tone(1.0), cache_seconds=0.5)
