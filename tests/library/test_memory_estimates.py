"""The estimates of memory against what is counted at the published sizes, on the meta device."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from flashhead.doctor.machine import elements
from flashhead.geometry import SAMPLE_RATE
from flashhead.image.color import ColorTarget
from flashhead.models import memory
from flashhead.models.backend import Backend, build
from flashhead.models.bundle import make_vae
from flashhead.models.config import (
    PUBLISHED_LITE,
    PUBLISHED_PRO,
    TinyVAEConfig,
)
from flashhead.models.devices import Precision
from flashhead.models.generator import Generator
from flashhead.models.wav2vec2 import AudioEncoder
from flashhead.stream import loop, state
from flashhead.stream.audio_context import AudioContextCache
from flashhead.stream.sampling import plan_sampling
from flashhead.stream.state import PortraitCondition, StreamState, encode_portrait

from .counting import LiveBytes, fused

META = torch.device("meta")
SIZES = {"lite": PUBLISHED_LITE, "pro": PUBLISHED_PRO}
HALF, FULL = torch.bfloat16, torch.float32
CASES = [(HALF, (512, 512)), (FULL, (320, 576))]
SAMPLING = [("lite", HALF, (512, 512)), ("pro", FULL, (320, 576))]


def network(kind, config, dtype):
    made = build(lambda: kind(config, Backend(dtype=dtype, device=META, attention=fused)))
    for name, buffer in list(made.named_buffers()):
        setattr(made, name, torch.empty_like(buffer, device=META))
    return made.to(dtype)


def vae_of(sizes, dtype):
    return network(make_vae, sizes.vae, dtype)


def empty(*shape):
    return torch.empty(1, *shape, device=META)


def peak(call):
    with torch.no_grad(), LiveBytes() as counted:
        call()
    return counted.peak


def near(estimate, counted):
    return 0.85 * counted <= estimate <= 1.15 * counted


@pytest.fixture(autouse=True)
def no_numbers(monkeypatch):
    """The meta device has none to look at."""
    for module in (loop, state):
        monkeypatch.setattr(module, "all_finite", lambda _: torch.tensor(True))


@pytest.mark.parametrize(("dtype", "size"), CASES)
def test_what_lites_vae_takes(dtype, size):
    check_vae(PUBLISHED_LITE, dtype, size)


@pytest.mark.parametrize(("dtype", "size"), CASES)
def test_what_pros_vae_takes(dtype, size):
    check_vae(PUBLISHED_PRO, dtype, size)


@pytest.mark.parametrize(("dtype", "size"), CASES)
def test_what_the_tiny_vae_takes(dtype, size):
    check_vae(replace(PUBLISHED_PRO, vae=TinyVAEConfig()), dtype, size)


def check_vae(sizes, dtype, size):
    geometry, vae = sizes.generator.geometry, vae_of(sizes, dtype)
    latents, video = geometry.latent_shape(size), (geometry.frames, *size)
    decoded = peak(lambda: vae.decode(empty(*latents)))
    assert near(memory.decode_memory(sizes.vae, dtype, latents[1:]), decoded)
    portrait = torch.empty(3, *size, device=META)
    encoded = peak(lambda: encode_portrait(vae, geometry, portrait))
    assert near(memory.encode_memory(sizes.vae, dtype, video), encoded)


@pytest.mark.parametrize(("variant", "dtype", "size"), SAMPLING)
def test_what_sampling_takes(variant, dtype, size):
    sizes = SIZES[variant]
    config = replace(sizes.generator, num_layers=2)  # 30 take long to count
    generator, latents = network(Generator, config, dtype), config.geometry.latent_shape(size)
    encoder = network(AudioEncoder, sizes.audio_encoder, FULL)
    plan = plan_sampling(generator, (1, *latents), steps=2)
    color = ColorTarget(empty(3, 1, 1, 1), empty(3, 1, 1, 1))
    before = StreamState(
        PortraitCondition(empty(*latents), color),
        empty(latents[0], 2, *latents[2:]),
        AudioContextCache.silent(),
        (torch.Generator().get_state(),),
    )
    sampler = loop.ChunkSampler(generator, encoder, plan, 8.0)
    context = empty(config.geometry.frames, 5, 1, config.audio_width)
    audio = loop.ChunkAudio(torch.zeros(100), context=context)
    counted = peak(lambda: sampler.sample(audio, before))
    assert near(memory.sampling_memory(config, dtype, latents[1:]), counted)
    for seconds in (8, 20):
        samples = seconds * SAMPLE_RATE
        counted = peak(lambda samples=samples: encoder.encode(torch.zeros(samples)))
        assert near(memory.audio_memory(sizes.audio_encoder, samples), counted)


@pytest.mark.parametrize("size", [(512, 512), (96, 96)])
@pytest.mark.parametrize("dtype", [HALF, FULL])
def test_what_colours_take(dtype, size):
    """Where the VAE takes next to nothing."""

    class NoVAE:
        def decode(self, latents):
            return empty(3, 33, *size).to(dtype)

        def encode(self, video):
            return empty(16, 2, 8, 8)

    geometry = PUBLISHED_PRO.generator.geometry
    color = ColorTarget(empty(3, 1, 1, 1), empty(3, 1, 1, 1))
    before = StreamState(PortraitCondition(empty(1), color), empty(1), None, ())
    sampled = loop.SampledChunk(empty(1), range(5, 33), dtype)
    decoder = loop.ChunkDecoder(NoVAE(), geometry, 1.0, 0)
    assert near(memory.color_memory((33, *size)), peak(lambda: decoder.decode(sampled, before)))


@pytest.mark.parametrize("variant", SIZES)
def test_a_run_takes_the_most_of_its_calls(variant):
    """In float16, LTX's VAE is in float32, and takes twice as much."""
    sizes, size = SIZES[variant], (512, 512)
    half = Precision(torch.float16, torch.float16, FULL, {})
    wide = replace(half, vae=FULL)
    latents = sizes.generator.geometry.latent_shape(size)[1:]
    calls = [
        memory.decode_memory(sizes.vae, FULL, latents),
        memory.encode_memory(sizes.vae, FULL, (33, *size)),
    ]
    assert memory.working_memory(sizes, wide, size) == max(calls)
    assert memory.working_memory(sizes, half, size) == pytest.approx(max(calls) / 2, rel=0.01)
    # An audio cache of two minutes takes more than either.
    longer = memory.working_memory(sizes, half, size, seconds=600)
    assert longer == memory.audio_memory(sizes.audio_encoder, 600 * SAMPLE_RATE)


ROWS = {  # of the README's table: generator, the VAEs
    "RTX 30": (HALF, HALF, HALF),
    "RTX 20": (torch.float16, FULL, torch.float16),
    "GTX 16": (FULL, FULL, FULL),
}


@pytest.mark.parametrize("device", ROWS)
def test_the_readme_says_what_is_counted(device):
    readme = Path(__file__).parents[2].joinpath("README.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| {device}.*$", readme, re.M)
    told = [float(gigabytes) for gigabytes in re.findall(r"([\d.]+) GB", row)]
    generator, *vaes = ROWS[device]
    assert row.count("float") == 3 and all(str(dtype)[6:] in row for dtype in ROWS[device])
    for sizes, vae, gigabytes in zip(SIZES.values(), vaes, told, strict=True):
        dtypes = generator, vae, FULL
        weights = sum(n * d.itemsize for n, d in zip(elements(sizes), dtypes, strict=True))
        chunk = memory.working_memory(sizes, Precision(*dtypes, {}), (512, 512))
        assert gigabytes == pytest.approx((weights + chunk) / 1e9, abs=0.05)
