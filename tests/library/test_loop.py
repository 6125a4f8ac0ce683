"""The whole loop: the published code's videos, and a second loop written from DESIGN §1.5."""

import pytest
import torch
from torch.nn.functional import pad
from torch.utils._python_dispatch import TorchDispatchMode

import flashhead
from flashhead import LiveStream, Settings
from flashhead.image.color import color_target, match_color
from flashhead.image.portrait import prepare_portrait
from flashhead.stream.loop import ChunkAudio, ChunkLoop

LOOPS = {
    "loop_lite_stream": ("lite", (64, 64), 1.0),
    "loop_lite_nocolor": ("lite", (32, 64), 0.0),
    "loop_pro_stream": ("pro", (32, 32), 1.0),
    "loop_pretrained_stream": ("pretrained", (32, 32), 1.0),
}


def as_pixels(frames):
    return frames.float() / 255


@pytest.mark.parametrize("name", LOOPS)
def test_matches_the_published_stream(name, bundles, portrait, golden, deviation):
    data, (variant, size, strength) = golden(name), LOOPS[name]
    bundle = bundles[variant]
    new, samples = bundle.geometry.new_frames, bundle.geometry.new_samples
    live = LiveStream(bundle, portrait, Settings(size=size, color_match=strength))
    assert deviation(live.state.portrait.latents, data["ref_latents"]) < 1e-3
    slices = pad(data["waveform"], (0, -len(data["waveform"]) % samples)).split(samples)
    assert len(slices) * new == len(data["frames"])
    for index, samples in enumerate(slices):
        context, _ = live.loop.sampler.encode_audio(ChunkAudio(samples), live.state)
        assert deviation(context, data[f"context_{index}"]) < 1e-3
        frames = live.advance(samples)
        expected = as_pixels(data["frames"][index * new :][:new])
        assert (frames - expected).abs().max() < 0.75 / 255
        assert deviation(live.state.motion, data[f"motion_latents_{index}"]) < 1e-3


@pytest.mark.parametrize("name", LOOPS)
def test_generate_is_the_published_stream_cut_to_the_audio(name, bundles, portrait, golden):
    data, (variant, size, strength) = golden(name), LOOPS[name]
    chunks = flashhead.generate(
        bundles[variant], portrait, data["waveform"], 16_000, size=size, color_match=strength
    )
    frames = torch.cat([chunk.frames for chunk in chunks])
    assert len(frames) == round(len(data["waveform"]) / 640) < len(data["frames"])
    assert (frames - as_pixels(data["frames"][: len(frames)])).abs().max() < 0.75 / 255


def test_generate_matches_the_published_clip_encoded_once(bundle, portrait, golden):
    data = golden("loop_lite_once")
    live = LiveStream(bundle, portrait, Settings(size=(32, 32)))
    assert (live.state.portrait.latents - data["ref_latents"]).abs().max() < 1e-3
    chunks = list(
        flashhead.generate(
            bundle, portrait, data["waveform"], 16_000, size=(32, 32), audio_mode="once"
        )
    )
    # The published loop loses the last window; here every frame of the audio is there.
    assert [len(chunk.frames) for chunk in chunks] == [33, 24, 24, 12]
    frames = torch.cat([chunk.frames for chunk in chunks])[: len(data["frames"])]
    assert (frames - as_pixels(data["frames"])).abs().max() < 0.75 / 255


@torch.no_grad()
def written_out(bundle, portrait, waveform, *, mode, size, seed, steps, shift, strength):
    """DESIGN §1.5, step by step, on nothing but the bundle's three networks."""
    still = prepare_portrait(portrait, size)[None, :, None]
    reference = bundle.vae.encode(still.repeat(1, 1, 33, 1, 1))
    motion = reference[:, :, :1]
    rng = torch.Generator().manual_seed(seed)
    raw = {2: [1000, 500], 4: [1000, 750, 500, 250]}.get(steps)
    raw = raw or torch.linspace(1000, 1, steps).tolist()
    sigmas = [shift * t / 1000 / (1 + (shift - 1) * t / 1000) for t in (*raw, 0)]

    first = 24 if mode == "stream" else 33
    slices = max(0, -(-(len(waveform) - first * 640) // 15_360))
    padded = pad(waveform, (0, first * 640 + slices * 15_360 - len(waveform)))
    features = bundle.audio_encoder.encode(padded) if mode == "once" else None
    frames = []
    for chunk in range(slices + 1):
        if mode == "stream":
            heard = torch.cat([torch.zeros(128_000), padded[: (chunk + 1) * 15_360]])[-128_000:]
            features, start = bundle.audio_encoder.encode(heard), 200 - 33
        else:
            start = chunk * 24
        audio = torch.stack(
            [
                features[[min(max(n + d, 0), len(features) - 1) for d in (-2, -1, 0, 1, 2)]]
                for n in range(start, start + 33)
            ]
        )[None]
        x = torch.randn(reference.shape[1:], generator=rng)[None]
        for now, then in zip(sigmas, sigmas[1:], strict=False):
            x[:, :, : motion.shape[2]] = motion
            t = torch.tensor([now * 1000])
            x = x - now * bundle.generator(x, t, audio, reference)
            x = (1 - then) * x + then * torch.randn(reference.shape[1:], generator=rng)[None]
        x[:, :, : motion.shape[2]] = motion
        video = match_color(bundle.vae.decode(x), color_target(still), strength)
        motion = bundle.vae.encode(video[:, :, -9:])
        new = video[0] if mode == "once" and chunk == 0 else video[0, :, 9:]
        frames.append((new.permute(1, 2, 3, 0) + 1) / 2)
    return torch.cat(frames).clamp(0, 1)


@pytest.mark.parametrize(
    ("seconds", "options"),
    [
        (4.5, dict(mode="stream", size=(32, 32), seed=7, steps=2, shift=5.0, strength=1.0)),
        (1.0, dict(mode="stream", size=(64, 32), seed=2**64 - 1, steps=3, shift=2.0, strength=0.4)),
        (0.1, dict(mode="once", size=(32, 64), seed=0, steps=1, shift=5.0, strength=1.0)),
        (4.3, dict(mode="once", size=(32, 32), seed=3, steps=4, shift=7.0, strength=0.0)),
    ],
)
def test_equals_the_loop_written_out(seconds, options, bundle, portrait):
    rng = torch.Generator().manual_seed(1)
    waveform = torch.randn(round(seconds * 16_000), generator=rng) * 0.1
    expected = written_out(bundle, portrait, waveform, **options)
    mode, strength = options.pop("mode"), options.pop("strength")
    chunks = flashhead.generate(
        bundle, portrait, waveform, 16_000, audio_mode=mode, color_match=strength, **options
    )
    frames = torch.cat([chunk.frames for chunk in chunks])
    assert len(frames) == round(seconds * 25)
    assert (frames - expected[: len(frames)]).abs().max() < 0.75 / 255


class Waits(TorchDispatchMode):
    """Counts the values that Python asks for, each of which makes it wait for the device."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **kwargs or {})


@pytest.mark.parametrize("variant", ["lite", "pro"])
def test_a_chunk_waits_for_the_device_once(variant, bundles, portrait):
    bundle, size = bundles[variant], (32, 32)
    loop = ChunkLoop(bundle, Settings(size=size, seam_fade=3))
    state = loop.start(prepare_portrait(portrait, size))
    with Waits() as waits:
        loop.step(ChunkAudio(torch.zeros(bundle.geometry.new_samples)), state)
    assert waits.count == 1
