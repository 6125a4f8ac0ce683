"""Clips of pixels become encoded clips: scales, weights, context, and files that are made once."""

import pytest
import torch

from flashhead.errors import FlashHeadError, SizeError
from flashhead.stream.audio_context import AudioContextCache
from flashhead.training.data.clip_dataset import ClipDataset, write_clips
from flashhead.training.data.clip_encoding import encode, encode_clips, face_weight, mouth_truth
from flashhead.training.data.clips import Clip
from flashhead.training.data.encoded_clips import EncodedClip

from .small import rng

FRAMES = 33


def clip(**changes) -> Clip:
    draw = rng()

    def picture(*shape: int) -> torch.Tensor:
        return torch.randint(256, shape, generator=draw, dtype=torch.uint8)

    values = {
        "video": picture(FRAMES, 32, 32, 3),
        "waveform": torch.randn(FRAMES * 640, generator=draw),
        "portrait": picture(32, 32, 3),
        "openness": torch.rand(FRAMES, generator=draw),
        "width": torch.rand(FRAMES, generator=draw),
        "mouth": picture(FRAMES, 32, 32),
        "face": picture(FRAMES, 32, 32),
    }
    return Clip(**{**values, **changes})


def test_the_face_weight_by_hand():
    mouth, face = torch.zeros(FRAMES, 32, 32, dtype=torch.uint8), torch.zeros(FRAMES, 32, 32)
    mouth[:, 0, 0] = 255
    face[:, 0, :2] = 255
    weight = face_weight(clip(mouth=mouth, face=face.to(torch.uint8)), level=0.2)
    torch.testing.assert_close(weight[0, 0, :3], torch.tensor([1.0, 0.2, 0.0]))
    assert face_weight(clip(face=None)).min() == 1


def test_the_mouth_is_openness_and_width():
    known = clip()
    assert torch.equal(mouth_truth(known)[:, 0], known.openness)
    assert torch.equal(mouth_truth(known)[:, 1], known.width)
    assert mouth_truth(clip(openness=None)).isnan().all()


def test_pixels_are_scaled_to_what_the_vae_takes(bundle):
    known = clip()
    made = encode(bundle.vae, bundle.audio_encoder, bundle.geometry, known)
    video = (known.video.movedim(3, 0).float() / 127.5 - 1)[None]
    torch.testing.assert_close(made.latents, bundle.vae.encode(video))
    still = (known.portrait.movedim(2, 0).float() / 127.5 - 1)[None, :, None]
    reference = bundle.vae.encode(still.expand(-1, -1, 33, -1, -1))[0]
    torch.testing.assert_close(made.reference, reference)


def test_speech_before_the_clip_is_in_its_audio_context(bundle):
    context = torch.randn(10 * 640, generator=rng(4))
    parts = (bundle.vae, bundle.audio_encoder, bundle.geometry)
    made = encode(*parts, clip(context=context))
    cache = AudioContextCache.silent().push(torch.cat([context, clip().waveform]))
    expected = cache.context(bundle.audio_encoder, 33)[0]
    torch.testing.assert_close(made.context[0], expected, atol=1e-5, rtol=1e-4)
    assert (encode(*parts, clip()).context[0] - expected).abs().max() > 1e-4
    with pytest.raises(ValueError, match="whole number of frames"):
        encode(*parts, clip(context=context[:-1]))


def test_files_are_made_once(bundle, tmp_path):
    clips = ClipDataset(write_clips(tmp_path / "clips", [clip(), clip()]))
    parts = (bundle.vae, bundle.audio_encoder, bundle.geometry, clips, tmp_path / "encoded")
    first = next(encode_clips(*parts))
    first.write_bytes(b"kept")
    paths = list(encode_clips(*parts))
    assert paths[0] == first and first.read_bytes() == b"kept"
    assert EncodedClip.load(paths[1]).chunks == 1 and len(paths) == 2


def test_clips_that_cannot_be_encoded_are_refused_at_once(bundle, tmp_path):
    parts = (bundle.vae, bundle.audio_encoder, bundle.geometry)
    clips = ClipDataset(write_clips(tmp_path / "clips", [clip()]))
    with pytest.raises(FlashHeadError, match="have 33 frames; expected at least 45"):
        next(encode_clips(*parts, clips, tmp_path / "encoded", offsets=2))
    odd = clip(video=clip().video[:, :24], portrait=clip().portrait[:24], mouth=None, face=None)
    clips = ClipDataset(write_clips(tmp_path / "odd", [odd]))
    with pytest.raises(SizeError, match="32x24"):
        next(encode_clips(*parts, clips, tmp_path / "encoded"))
    assert not (tmp_path / "encoded").exists()


def test_offsets_start_between_the_chunks(bundle, tmp_path):
    """From frame 12 on, with the speech before it in the audio context."""
    draw = rng(8)
    longer = Clip(
        torch.randint(256, (45, 32, 32, 3), generator=draw, dtype=torch.uint8),
        torch.randn(45 * 640, generator=draw),
        torch.zeros(32, 32, 3, dtype=torch.uint8),
    )
    parts = (bundle.vae, bundle.audio_encoder, bundle.geometry)
    clips = ClipDataset(write_clips(tmp_path / "clips", [longer]))
    paths = list(encode_clips(*parts, clips, tmp_path / "encoded", offsets=2))
    assert [path.name for path in paths] == ["000000-0.safetensors", "000000-1.safetensors"]
    second = EncodedClip.load(paths[1])
    cache = AudioContextCache.silent().push(longer.waveform)
    expected = cache.context(bundle.audio_encoder, 33)[0]
    torch.testing.assert_close(second.context[0], expected, atol=5e-3, rtol=5e-3)
    video = (longer.video[12:].movedim(3, 0).float() / 127.5 - 1)[None]
    made = bundle.vae.encode(video)[0]
    torch.testing.assert_close(second.latents[0].float(), made, atol=2e-2, rtol=1e-2)
