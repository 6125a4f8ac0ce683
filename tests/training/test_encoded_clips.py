"""Encoded clips hold what a stream computes: the audio cache, shared motion frames."""

import pytest
import torch

from flashhead.geometry import SAMPLES_PER_FRAME
from flashhead.stream.audio_context import AudioContextCache
from flashhead.training.data.encoded_clips import (
    EncodedClip,
    cached_samples,
    encode_clip,
    gather_chunks,
    gather_colors,
)

from .small import rng

FRAMES = 33 + 24


@pytest.fixture(scope="module")
def clip():
    draw = rng()
    return {
        "frames": torch.rand(FRAMES + 5, 3, 64, 64, generator=draw) * 2 - 1,
        "portrait": torch.rand(3, 64, 64, generator=draw) * 2 - 1,
        "speech": torch.randn(FRAMES * SAMPLES_PER_FRAME, generator=draw),
        "face": torch.rand(FRAMES + 5, 64, 64, generator=draw),
        "mouth": torch.rand(FRAMES + 5, 2, generator=draw),
    }


@pytest.fixture(scope="module")
def encoded(bundle, clip):
    return encode_clip(bundle.vae, bundle.audio_encoder, bundle.geometry, **clip)


def test_the_cache_by_hand():
    speech = torch.arange(1, 4 * 640 + 1, dtype=torch.float32)
    cache = cached_samples(speech, 2, cache_seconds=3 / 25)
    assert len(cache) == 3 * 640
    assert not cache[:640].any() and torch.equal(cache[640:], speech[:1280])
    assert torch.equal(cached_samples(speech, 4, 3 / 25), speech[640:])
    beyond = cached_samples(speech, 5, 3 / 25)
    assert torch.equal(beyond[:1280], speech[1280:]) and not beyond[1280:].any()


def test_the_audio_context_is_that_of_a_stream(bundle, clip, encoded):
    """Push the clip's audio as a stream does; its chunk 1 ends where the second chunk here does."""
    cache = AudioContextCache.silent().push(clip["speech"])
    expected = cache.context(bundle.audio_encoder, 33)[0]
    torch.testing.assert_close(encoded.context[1], expected, atol=1e-5, rtol=1e-4)


def test_without_a_cache_a_chunk_gets_its_own_audio_alone(bundle, clip, encoded):
    alone = encode_clip(
        bundle.vae, bundle.audio_encoder, bundle.geometry, cache_seconds=33 / 25, **clip
    )
    own = clip["speech"][24 * SAMPLES_PER_FRAME :][None]
    expected = AudioContextCache(own).context(bundle.audio_encoder, 33)[0]
    torch.testing.assert_close(alone.context[1], expected, atol=1e-5, rtol=1e-4)
    assert (alone.context[1] - encoded.context[1]).abs().max() > 1e-3


def test_motion_latents_are_the_start_of_the_next_chunks(bundle, clip, encoded):
    """What inference encodes anew from the last frames is what the next chunk's truth starts with:
    the encoder is causal."""
    assert encoded.chunks == 2
    last = clip["frames"][24 : 24 + 9].movedim(0, 1)[None]
    torch.testing.assert_close(
        bundle.vae.encode(last)[0], encoded.latents[1][:, :2], atol=1e-4, rtol=1e-3
    )


def test_chunks_are_gathered_by_number(clip, encoded):
    batch = gather_chunks([encoded, encoded], [1, 0])
    torch.testing.assert_close(batch.latents[0], encoded.latents[1])
    torch.testing.assert_close(batch.context[1], encoded.context[0])
    torch.testing.assert_close(batch.mouth[0], clip["mouth"][24:57])
    assert batch.face.shape == (2, 1, 5, 2, 2)
    torch.testing.assert_close(batch.face[0, 0, 0, 0, 0], clip["face"][24, :32, :32].mean())
    assert gather_colors([encoded, encoded]).mean.shape == (2, 3, 1, 1, 1)


def test_saved_and_loaded(encoded, tmp_path):
    encoded.half().save(tmp_path / "clip.safetensors")
    loaded = EncodedClip.load(tmp_path / "clip.safetensors")
    assert loaded.latents.dtype == torch.float16 and loaded.color_mean.dtype == torch.float32
    batch = gather_chunks([loaded], [1])
    assert batch.latents.dtype == torch.float32
    torch.testing.assert_close(batch.latents[0], encoded.latents[1], atol=1e-2, rtol=1e-2)


def test_a_clip_shorter_than_a_chunk_is_refused(bundle, clip):
    short = {**clip, "frames": clip["frames"][:32]}
    with pytest.raises(ValueError, match="too short"):
        encode_clip(bundle.vae, bundle.audio_encoder, bundle.geometry, **short)
