"""Where chunks meet: the jump fades out, and nothing else is touched."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import flashhead
from flashhead import LiveStream, Settings, pocket
from flashhead.image.seams import fade_seam
from flashhead.stream.batch import Session, generate_batch
from flashhead.stream.state_file import load_state, save_state

SPEECH = torch.randn(2 * 17_920, generator=torch.Generator().manual_seed(2)) * 0.1


@pytest.fixture(scope="module")
def bundle():
    return flashhead.load_bundle(pocket.NAME)


@pytest.fixture(scope="module")
def faces():
    return list(pocket.portraits().values())


def speak(bundle, face, **settings) -> list[torch.Tensor]:
    chunks = flashhead.generate(bundle, face, SPEECH, 16_000, size=(96, 96), steps=2, **settings)
    return [chunk.frames for chunk in chunks]


def step_over(before: torch.Tensor, after: torch.Tensor) -> float:
    """Mean change where two chunks meet, over that between their other frames."""
    inside = torch.cat([before.diff(dim=0), after.diff(dim=0)]).abs().mean()
    return float((after[0] - before[-1]).abs().mean() / inside)


@given(st.integers(2, 9), st.integers(1, 15), st.integers(0, 2**32))
def test_a_small_jump_is_gone_and_fades(repeated, length, seed):
    rng = torch.Generator().manual_seed(seed)
    frames = 0.3 + 0.4 * torch.rand(2, 33, 2, 3, 3, generator=rng)
    shown = frames[:, repeated - 1] + 0.02 * torch.rand(2, 2, 3, 3, generator=rng)
    faded = fade_seam(frames, shown, repeated, length)
    own = frames[:, repeated] - frames[:, repeated - 1]
    step = faded[:, repeated] - shown
    assert torch.allclose(step, own.sign() * (own.abs() - 0.5 / 255).clamp_min(0), atol=1e-6)
    left = (faded - frames)[:, repeated : repeated + length].abs().amax((0, 2, 3, 4))
    assert bool((left.diff() < 0).all())
    assert torch.equal(faded[:, :repeated], frames[:, :repeated])
    assert torch.equal(faded[:, repeated + length :], frames[:, repeated + length :])


def test_what_moved_is_not_held_back():
    """A mouth that was shown shut and is open now is open at once, but for a few shades."""
    frames, shown = torch.full((1, 33, 2, 2, 3), 0.2), torch.full((1, 2, 2, 3), 0.8)
    assert fade_seam(frames, shown, 5, 6)[0, 5].amax() < 0.25


def test_frames_stay_in_range():
    frames, shown = torch.full((1, 33, 2, 2, 3), 0.99), torch.ones(1, 2, 2, 3)
    frames[:, 4] = 0.9
    assert fade_seam(frames, shown, 5, 6).amax() == 1


def test_only_the_first_frames_of_a_chunk_change(bundle, faces):
    plain = speak(bundle, faces[0], seam_fade=0)
    faded = speak(bundle, faces[0], seam_fade=4)
    assert torch.equal(plain[0], faded[0])
    for one, other in zip(plain[1:], faded[1:], strict=True):
        assert torch.equal(one[4:], other[4:])
        assert not torch.equal(one[:4], other[:4])
    assert step_over(*faded) < 0.8 * step_over(*plain)


def test_a_checkpoint_has_its_own_fade(bundle, faces):
    assert bundle.limits.seam_fade == 6
    own = speak(bundle, faces[0])
    chosen = speak(bundle, faces[0], seam_fade=bundle.limits.seam_fade)
    assert all(map(torch.equal, own, chosen))
    plain = dataclasses.replace(bundle, limits=None)
    assert all(map(torch.equal, speak(plain, faces[0]), speak(bundle, faces[0], seam_fade=0)))


def test_another_face_does_not_fade_in(bundle, faces):
    def from_the_switch_on(fade: int) -> torch.Tensor:
        live = LiveStream(bundle, faces[0], Settings(steps=2, seam_fade=fade))
        parts = SPEECH.split(17_920)
        live.advance(parts[0])
        live.switch(faces[1])
        return live.advance(parts[1])

    assert torch.equal(from_the_switch_on(6), from_the_switch_on(0))


def test_a_saved_stream_and_one_of_a_batch_fade_alike(bundle, faces, tmp_path):
    alone = speak(bundle, faces[1], seed=7)
    live = LiveStream(bundle, faces[1], Settings(steps=2, seed=7))
    parts = SPEECH.split(17_920)
    live.advance(parts[0])
    save_state(tmp_path / "state.safetensors", live.state, live.geometry)
    live.state, _ = load_state(tmp_path / "state.safetensors")
    assert torch.equal(live.advance(parts[1]), alone[1])
    sessions = [Session(faces[0], SPEECH[:17_920], 16_000), Session(faces[1], SPEECH, 16_000, 7)]
    together = [chunks[1].frames for chunks in generate_batch(bundle, sessions, Settings(steps=2))]
    for one, other in zip(together, alone, strict=True):
        assert (one - other).abs().max() < 1e-3
