"""`generate`: any audio makes the right frames, bad input is refused at once, seeds decide."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

import flashhead
from flashhead import AudioError, FlashHeadError, PortraitError, SizeError

QUICK = dict(size=(32, 32), steps=1, cache_seconds=1.32)


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.1


def frames_of(chunks):
    return torch.cat([chunk.frames for chunk in chunks])


@given(
    seconds=st.floats(0, 2.2),
    rate=st.sampled_from([8000, 11_025, 16_000, 22_050, 44_100, 48_000])
    | st.integers(4000, 96_000),
    mode=st.sampled_from(["stream", "once"]),
    channels=st.sampled_from([None, 1, 2, 6]),
)
@example(seconds=0.02, rate=44_100, mode="stream", channels=2)
@example(seconds=0.02, rate=8000, mode="once", channels=None)
@example(seconds=0.96, rate=16_000, mode="stream", channels=None)
@example(seconds=1.32, rate=48_000, mode="once", channels=6)
@settings(deadline=None, max_examples=18)
def test_any_length_and_rate_gives_exactly_its_frames(
    bundle, portrait, seconds, rate, mode, channels
):
    samples = max(1, round(seconds * rate))
    waveform = noise(samples) if channels is None else noise(channels, samples)
    chunks = list(flashhead.generate(bundle, portrait, waveform, rate, audio_mode=mode, **QUICK))
    total = max(1, round(samples / rate * 25))
    assert sum(len(chunk.frames) for chunk in chunks) == total
    start = 0
    for index, chunk in enumerate(chunks):
        assert (chunk.index, chunk.start) == (index, start)
        assert chunk.frames.shape[1:] == (32, 32, 3) and chunk.frames.dtype == torch.float32
        assert 0 <= chunk.frames.min() and chunk.frames.max() <= 1
        start += len(chunk.frames)


def test_one_sample_makes_one_frame(bundle, portrait):
    for mode in ("stream", "once"):
        chunks = flashhead.generate(bundle, portrait, noise(1), 48_000, audio_mode=mode, **QUICK)
        assert len(frames_of(chunks)) == 1


def test_silence_makes_a_video(bundle, portrait):
    frames = frames_of(flashhead.generate(bundle, portrait, torch.zeros(16_000), 16_000, **QUICK))
    assert len(frames) == 25 and frames.isfinite().all()


def test_channels_are_averaged(bundle, portrait):
    stereo = noise(2, 16_000)
    mono = stereo.mean(0)
    for other in (torch.stack([mono] * 6), mono.numpy()[None], stereo.numpy()):
        torch.testing.assert_close(
            frames_of(flashhead.generate(bundle, portrait, other, 16_000, **QUICK)),
            frames_of(flashhead.generate(bundle, portrait, mono, 16_000, **QUICK)),
            rtol=0,
            atol=1e-3,
        )


def test_a_chunk_hears_no_later_audio(bundle, portrait):
    waveform = noise(50_000)
    later = waveform.clone()
    later[2 * 15_360 :] = noise(50_000, seed=1)[2 * 15_360 :]
    before, after = (
        [c.frames for c in flashhead.generate(bundle, portrait, w, 16_000, **QUICK)]
        for w in (waveform, later)
    )
    assert torch.equal(before[0], after[0]) and torch.equal(before[1], after[1])
    assert not torch.equal(before[2], after[2])


def test_the_same_seed_gives_the_same_bytes(bundle, portrait):
    def run(**options):
        return frames_of(
            flashhead.generate(bundle, portrait, noise(40_000), 16_000, **{**QUICK, **options})
        )

    for mode in ("stream", "once"):
        assert torch.equal(run(seed=5, audio_mode=mode), run(seed=5, audio_mode=mode))
        assert not torch.equal(run(seed=5, audio_mode=mode), run(seed=6, audio_mode=mode))


def test_interleaved_runs_equal_the_runs_apart(bundle, portrait):
    def start(seed, mode):
        return flashhead.generate(
            bundle, portrait, noise(50_000, seed=seed), 16_000,
            size=(32, 32), steps=2, seed=seed, audio_mode=mode,
        )  # fmt: skip

    wanted = [(1, "stream"), (2, "stream"), (3, "once")]
    apart = [[chunk.frames for chunk in start(*run)] for run in wanted]
    together = [[] for _ in wanted]
    iterators = [start(*run) for run in wanted]
    for _ in range(4):
        for iterator, frames in zip(iterators, together, strict=True):
            if (chunk := next(iterator, None)) is not None:
                frames.append(chunk.frames)
    for alone, mixed in zip(apart, together, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(alone, mixed, strict=True))


def test_the_hosts_random_state_and_defaults_are_left_alone(bundle, portrait):
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    waveform = noise(30_000)
    kept = waveform.clone()
    first = frames_of(flashhead.generate(bundle, portrait, waveform, 22_050, **QUICK))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002
    assert torch.get_default_dtype() == torch.float32 and torch.is_grad_enabled()
    assert torch.equal(waveform, kept)
    # Nor does the host's random state reach the video.
    torch.manual_seed(4)
    again = frames_of(flashhead.generate(bundle, portrait, waveform, 22_050, **QUICK))
    assert torch.equal(first, again)


def test_the_hosts_default_dtype_does_not_reach_the_video(bundle, portrait):
    waveform = noise(20_000)
    for mode in ("stream", "once"):
        expected = frames_of(
            flashhead.generate(bundle, portrait, waveform, 16_000, audio_mode=mode, **QUICK)
        )
        torch.set_default_dtype(torch.float64)
        try:
            actual = frames_of(
                flashhead.generate(bundle, portrait, waveform, 16_000, audio_mode=mode, **QUICK)
            )
        finally:
            torch.set_default_dtype(torch.float32)
        assert actual.dtype == torch.float32 and torch.equal(actual, expected)


def test_steps_are_reported(bundle, portrait):
    told = []
    chunks = flashhead.generate(
        bundle, portrait, noise(20_000), 16_000, size=(32, 32), steps=2,
        on_step=lambda *step: told.append(step),
    )  # fmt: skip
    assert told == []  # nothing is done before it is asked for
    next(chunks)
    assert told == [(0, 1, 2), (0, 2, 2)]
    next(chunks)
    assert told[2:] == [(1, 1, 2), (1, 2, 2)]


def test_runs_inside_and_outside_inference_mode(bundle, portrait):
    chunks = flashhead.generate(bundle, portrait, noise(50_000), 16_000, **QUICK)
    with torch.inference_mode():
        first = next(chunks).frames
    frames = torch.cat([first, *(chunk.frames for chunk in chunks)])
    assert not frames.requires_grad
    assert torch.equal(
        frames,
        frames_of(flashhead.generate(bundle, portrait, noise(50_000), 16_000, **QUICK)),
    )


NAN = torch.tensor([0.0, float("nan"), 0.0])
BAD = [
    (dict(waveform=torch.empty(0)), AudioError, "empty"),
    (dict(waveform=torch.empty(2, 0)), AudioError, "empty"),
    (dict(waveform=NAN), AudioError, "NaN or infinity"),
    (dict(waveform=torch.full((2, 9), float("inf"))), AudioError, "NaN or infinity"),
    (dict(waveform=torch.zeros(1, 2, 16_000)), AudioError, r"\(1, 2, 16000\)"),
    (dict(waveform=torch.tensor(1.0)), AudioError, r"shape \(\)"),
    (dict(waveform=torch.zeros(16_000, 2)), AudioError, "transpose"),
    (dict(waveform=[0.0] * 16_000), AudioError, "list"),
    (dict(waveform="speech.wav"), AudioError, "str"),
    (dict(waveform=None), AudioError, "NoneType"),
    (dict(sample_rate=None), AudioError, "sample_rate"),
    (dict(sample_rate=0), AudioError, "rate is 0"),
    (dict(sample_rate=-16_000), AudioError, "rate is -16000"),
    (dict(sample_rate=16_000.5), AudioError, "16000.5"),
    (dict(audio_mode="live"), AudioError, "'live'; expected one of stream, once"),
    (dict(size=(500, 512)), SizeError, "512x500.*512x480 or 512x512"),
    (dict(size=(512, 33)), SizeError, "33x512.*32x512 or 64x512"),
    (dict(size=(0, 32)), SizeError, "multiple of 32.*nearest: 32x32"),
    (dict(size=(-32, 32)), SizeError, "nearest: 32x32"),
    (dict(seed=-1), FlashHeadError, "seed is -1; expected.* 0 to 2"),
    (dict(seed=2**64), FlashHeadError, "seed"),
    (dict(seed=1.5), FlashHeadError, "seed is 1.5"),
    (dict(steps=0), FlashHeadError, "0 sampling steps"),
    (dict(steps=2.5), FlashHeadError, "2.5 sampling steps"),
    (dict(shift=0), FlashHeadError, "shift is 0"),
    (dict(shift=float("nan")), FlashHeadError, "shift is nan"),
    (dict(color_match=1.01), FlashHeadError, "1.01; expected 0 to 1"),
    (dict(color_match=float("nan")), FlashHeadError, "nan; expected 0 to 1"),
    (dict(cache_seconds=1.0), FlashHeadError, "1.0 s; expected 1.32 s"),
    (dict(cache_seconds=3600), FlashHeadError, "3600 s"),
    (dict(seam_fade=16), FlashHeadError, "fade of the seams is 16 frames.* 0 to 15"),
    (dict(seam_fade=2.5), FlashHeadError, "seams is 2.5"),
    (dict(portrait="absent.png"), PortraitError, "absent.png does not exist"),
    (dict(portrait=torch.full((2, 9, 9, 3), 0.5)), PortraitError, "batch of 2"),
    (dict(portrait=torch.full((9, 9, 4), 0.5)), PortraitError, "alpha"),
    (dict(portrait=torch.full((3, 9, 9), 0.5)), PortraitError, r"\(H, W, 3\)"),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD, ids=lambda value: repr(value)[:40])
def test_bad_input_is_refused_at_the_call(change, error, message, bundle, portrait):
    ran = []
    networks = (bundle.generator, bundle.vae, bundle.audio_encoder)
    hooks = [
        module.register_forward_pre_hook(lambda *_: ran.append(1))
        for network in networks
        for module in network.modules()
    ]
    given = dict(portrait=portrait, waveform=noise(16_000), sample_rate=16_000, size=(32, 32))
    try:
        with pytest.raises(error, match=message) as raised:
            flashhead.generate(bundle, **{**given, **change})
    finally:
        for hook in hooks:
            hook.remove()
    assert not ran
    assert "\n" not in str(raised.value)


def test_good_input_does_run_the_networks(bundle, portrait):
    """What the test above watches does move."""
    ran = []
    hook = bundle.generator.patch_embedding.register_forward_pre_hook(lambda *_: ran.append(1))
    try:
        chunks = flashhead.generate(bundle, portrait, noise(9000), 16_000, **QUICK)
        assert not ran
        next(chunks)
    finally:
        hook.remove()
    assert ran


def test_a_lite_generator_with_another_vaes_latents_is_not_made(bundle, checkpoint, lite):
    pro = checkpoint / "Model_Pro"
    for file in pro.iterdir():
        (lite / "Model_Lite" / file.name).write_bytes(file.read_bytes())
    with pytest.raises(flashhead.CheckpointError, match="VAE of the other variant"):
        flashhead.load_bundle(lite, "lite")


def test_chunks_are_frozen(bundle, portrait):
    chunk = next(flashhead.generate(bundle, portrait, noise(9000), 16_000, **QUICK))
    with pytest.raises(dataclasses.FrozenInstanceError):
        chunk.index = 3
