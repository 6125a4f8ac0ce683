"""LeapTalk, Pro in one step, against a second writing-down of it in float64, on a miniature.

Merging, audio projection, sampling and noise are written out here; the generator is the naive one
of test_generator_oracle.py. Audio encoder and Wan VAE, which have goldens of their own, are given.
"""

from __future__ import annotations

import json
import math
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import flashhead
from flashhead import CheckpointError, LiveStream, Settings
from flashhead.checkpoint.info import describe
from flashhead.errors import CheckpointWarning
from flashhead.stream.loop import ChunkAudio
from flashhead.testing import MINIATURE_PRO, write_adapter, write_checkpoint

from .test_generator_oracle import velocity

SIZE = (16, 32)
SEED = 7


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A published folder with Pro, and LeapTalk's folder in it."""
    root = write_checkpoint(tmp_path_factory.mktemp("published"), MINIATURE_PRO)
    write_adapter(root / "LeapTalk", rank=4)
    config = root / "LeapTalk" / "lora" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"lora_alpha": 2}))
    return root


@pytest.fixture(scope="module")
def weights(root):
    """The generator's weights in float64: W + alpha / rank B A, and the other projection."""
    found = load_file(root / "Model_Pro" / "diffusion_pytorch_model.safetensors")
    found = {key: tensor.double() for key, tensor in found.items()}
    lora = load_file(root / "LeapTalk" / "lora" / "adapter_model.safetensors")
    assert len(lora) == 2 * 2 * 2 * 4
    for name, down in lora.items():
        if ".lora_A." in name:
            up = lora[name.replace(".lora_A.", ".lora_B.")].double()
            key = name.removeprefix("base_model.model.").replace("lora_A.weight", "weight")
            found[key] += 2 / 4 * up @ down.double()
    projection = torch.load(root / "LeapTalk" / "audio_proj_step_10400.pt", weights_only=True)
    assert len(projection) == 10
    return found | {f"audio_proj.{key}": value.double() for key, value in projection.items()}


@pytest.fixture(scope="module")
def network(root, weights):
    """The naive generator on them: (x, t, audio, y) -> velocity, for one sample."""
    config = json.loads((root / "Model_Pro" / "config.json").read_text())
    config |= {"audio_tokens": MINIATURE_PRO.generator.audio_tokens}
    return lambda x, t, audio, y: velocity(weights, config, x, t, audio.double(), y)


@pytest.fixture(scope="module")
def leaptalk(root):
    return flashhead.load_bundle(root, "leaptalk")


def sampled(network, reference, motion, audio, steps, scale=1.0, noise=None):
    """published-weights.md §3 to the letter, all tensors (C, T, h, w) in float64."""
    kept = motion.shape[1]
    x = torch.cat([motion, reference[:, kept:]], dim=1)
    raw = torch.tensor([1000.0, 500.0][:steps]) / 1000  # in float32, as published
    times = (5 * raw / (1 + 4 * raw) * 1000).tolist()
    for step, t in enumerate(times):
        x[:, :kept] = motion
        v = network(x, t, audio, reference)
        if scale != 1:
            silent = network(x, t, torch.zeros_like(audio), reference)
            v = silent + scale * (v - silent)
        following = times[step + 1] if step + 1 < steps else -1.0
        delta, c = (following - t) / 1000, (t + 1) / 1000
        x = x + delta * v
        eta = math.sqrt(max(0.0, -delta * (c + delta) / c))
        if step + 1 < steps:
            assert abs(eta - 0.3727) < 1e-4
            x = x + eta * noise
        else:
            assert eta < 1e-9
        x[:, :kept] = motion
    return x


def speech(chunks):
    samples = torch.randn(chunks * 28 * 640, generator=torch.Generator().manual_seed(1)) * 0.1
    return samples.cumsum(0).sin().split(28 * 640)


@pytest.mark.parametrize(("steps", "scale"), [(1, 1.0), (2, 2.0)])
def test_two_chunks_are_those_written_out(leaptalk, network, portrait, deviation, steps, scale):
    settings = Settings(size=SIZE, seed=SEED, steps=None if steps == 1 else steps, guidance=scale)
    loop = LiveStream(leaptalk, portrait, settings).loop
    state = LiveStream(leaptalk, portrait, settings).state
    rng = torch.Generator().manual_seed(SEED)
    for index, samples in enumerate(speech(2)):
        part = ChunkAudio(samples)
        context, _ = loop.sampler.encode_audio(part, state)
        made, after = loop.sampler.sample(part, state)
        reference, motion = state.portrait.latents[0].double(), state.motion[0].double()
        assert motion.shape[1] == index + 1
        noise = torch.randn(reference.shape, generator=rng).double() if steps == 2 else None
        expected = sampled(network, reference, motion, context[0], steps, scale, noise)
        assert deviation(made.latents[0], expected) < 1e-5
        frames, state = loop.decoder.decode(made, after)
        assert len(frames[0]) == 28


def test_one_step_has_no_chance_in_it(leaptalk, portrait):
    """Neither the seed nor torch's own generator changes a frame, and none is drawn."""
    made = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        stream = LiveStream(leaptalk, portrait, Settings(size=SIZE, seed=seed))
        before = stream.state.rng
        made.append(torch.cat([c.frames for c in stream.push(torch.cat(speech(2)))]))
        assert all(map(torch.equal, before, stream.state.rng))
    assert made[0].shape[0] == 56 and torch.equal(*made)


def test_the_lone_parts(root, weights):
    """What is merged, by hand: LoRA alone at a strength, projection alone, and both."""
    key, own = "blocks.1.cross_attn.o.weight", "audio_proj.proj1.weight"
    plain = flashhead.load_bundle(root, "pro").generator.state_dict()
    folder = root / "LeapTalk"
    file = folder / "audio_proj_step_10400.pt"
    with pytest.warns(CheckpointWarning, match="audio_proj_step_10400"):
        lora = flashhead.load_bundle(root, "pro", lora=f"{folder / 'lora'}:0.5").generator
    half = plain[key] + (weights[key] - plain[key]) / 2
    torch.testing.assert_close(lora.state_dict()[key].double(), half, rtol=1e-6, atol=1e-6)
    assert torch.equal(lora.state_dict()[own], plain[own])
    other = flashhead.load_bundle(root, "pro", audio_projection=file).generator.state_dict()
    assert torch.equal(other[own].double(), weights[own]) and torch.equal(other[key], plain[key])


def test_a_lora_as_our_training_writes_it(root, tmp_path):
    """ComfyUI's prefix, and alpha in the file; the file alone, given twice."""
    key, rng = "blocks.0.ffn.0.weight", torch.Generator().manual_seed(0)
    down, up = torch.randn(3, 64, generator=rng), torch.randn(128, 3, generator=rng)
    name = "diffusion_model." + key.removesuffix(".weight")
    tensors = {"lora_A.weight": down, "lora_B.weight": up, "alpha": torch.tensor(6.0)}
    path = tmp_path / "mine.safetensors"
    save_file({f"{name}.{part}": value for part, value in tensors.items()}, path)
    plain, twice = (
        flashhead.load_bundle(root, "pro", lora=lora).generator.state_dict()[key]
        for lora in ((), (path, f"{path}:-0.25"))
    )
    torch.testing.assert_close(twice, plain + 2 * 0.75 * up @ down)


def test_where_the_adapter_may_lie(root, tmp_path):
    """In the published folder, beside it, or named; a bundle of Pro takes it too."""
    published = tmp_path / "models" / "published"
    shutil.copytree(root, published, ignore=lambda *_: ["LeapTalk"])
    with pytest.raises(CheckpointError, match="z-rx/leaptalk"):
        flashhead.load_bundle(published, "leaptalk")
    with pytest.raises(CheckpointError, match="z-rx/leaptalk"):
        flashhead.load_bundle(published, "leaptalk", lora=root / "LeapTalk")
    assert flashhead.load_bundle(published).variant == "pro"
    bundle = tmp_path / "pro.safetensors"
    flashhead.convert(published, bundle, dtype="fp32")
    expected = flashhead.load_bundle(root, "leaptalk").generator.state_dict()
    named = {
        "lora": root / "LeapTalk" / "lora" / "adapter_model.safetensors",
        "audio_projection": root / "LeapTalk" / "audio_proj_step_10400.pt",
    }
    for path in (published, published / "Model_Pro", bundle):
        found = flashhead.load_bundle(path, "leaptalk", **named).generator.state_dict()
        assert all(torch.equal(found[key], expected[key]) for key in expected)
    twice = flashhead.load_bundle(
        root, "leaptalk", lora=f"{named['lora']}:1"
    ).generator.state_dict()
    assert all(torch.equal(twice[key], expected[key]) for key in expected)
    shutil.copytree(root / "LeapTalk", published.parent / "leaptalk")
    for folder in (root, published):  # it is taken only where it is named
        assert flashhead.load_bundle(folder).variant == "pro"
    found = flashhead.load_bundle(published, "leaptalk").generator.state_dict()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    (published.parent / "leaptalk" / "audio_proj_step_10400.pt").unlink()
    with pytest.raises(CheckpointError, match=r"an audio projection is missing; .*/leaptalk,"):
        flashhead.load_bundle(published, "leaptalk")


def test_one_file_of_it(root, tmp_path, portrait):
    """Merged in float32, written once; the variant is known from the file."""
    path = tmp_path / "leaptalk.safetensors"
    flashhead.convert(root, path, "leaptalk", "fp32")
    whole, parts = flashhead.load_bundle(path), flashhead.load_bundle(root, "leaptalk")
    assert whole.variant == "leaptalk"
    assert "one-file bundle of leaptalk" in describe(path)
    assert "lora/adapter_model.safetensors + LeapTalk/audio_proj_step_10400.pt" in describe(path)
    assert describe(root).count("changed by ") == 2
    expected = parts.generator.state_dict()
    found = whole.generator.state_dict()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    adapter = root / "LeapTalk" / "lora" / "adapter_model.safetensors"
    with pytest.raises(flashhead.FlashHeadError, match="a file of the source itself"):
        flashhead.convert(root, adapter, "leaptalk", overwrite=True)
    with pytest.raises(CheckpointError, match="variant 'leaptalk', not 'pro'"):
        flashhead.load_bundle(path, "pro")


def _spoil(tensors, name, value):
    return (
        {**tensors, name: value}
        if value is not None
        else {key: tensor for key, tensor in tensors.items() if key != name}
    )


FIRST = "base_model.model.blocks.0.self_attn.q."


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        (FIRST + "lora_A.weight", torch.zeros(4, 63), r"\(64, 64\), .* shapes \(4, 63\)"),
        (FIRST + "lora_B.weight", torch.zeros(64, 5), r"\(64, 5\); expected"),
        (FIRST + "lora_B.weight", None, r"and \(\); expected"),
        (FIRST + "lora_A.weight", torch.zeros(0, 64), r"shapes \(0, 64\)"),
        (FIRST + "alpha", torch.tensor(float("nan")), "alpha"),
        (FIRST + "alpha", torch.zeros(2), "alpha"),
        (FIRST + "lora_A.weight", torch.zeros(4, 64, dtype=torch.int8), "stored as I8"),
        (FIRST + "lora_magnitude_vector", torch.zeros(64), "of no matrix of this generator"),
        ("base_model.model.blocks.9.self_attn.q.lora_A.weight", torch.zeros(4, 64), "no matrix"),
        ("base_model.model.patch_embedding.lora_A.weight", torch.zeros(4, 32), "for a matrix"),
        ("lora_unet_blocks_0_self_attn_q.alpha", torch.zeros(()), "of no matrix"),
    ],
)
def test_a_lora_that_does_not_fit_is_refused(root, tmp_path, name, value, match):
    tensors = load_file(root / "LeapTalk" / "lora" / "adapter_model.safetensors")
    save_file(_spoil(tensors, name, value), tmp_path / "lora.safetensors")
    with pytest.raises(CheckpointError, match=match):
        flashhead.load_bundle(root, "pro", lora=tmp_path / "lora.safetensors")


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ("[" * 5000, "lora_alpha"),
        ("[]", "lora_alpha"),
        ('{"lora_alpha": "much"}', "lora_alpha"),
        ('{"lora_alpha": 0}', "lora_alpha"),
        ('{"lora_alpha": 4, "use_rslora": true}', "use_rslora"),
    ],
)
def test_a_config_that_is_not_understood_is_refused(root, tmp_path, config, match):
    adapter = root / "LeapTalk" / "lora" / "adapter_model.safetensors"
    shutil.copy(adapter, tmp_path / adapter.name)
    (tmp_path / "adapter_config.json").write_text(config)
    with pytest.raises(CheckpointError, match=match):
        flashhead.load_bundle(root, "pro", lora=tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("proj1.weight", torch.zeros(32, 4), "audio_proj.proj1.weight"),
        ("norm.bias", None, "audio_proj.norm.bias' .* missing"),
        ("proj4.bias", torch.zeros(4), "no such key"),
        ("norm.bias", torch.zeros(64, dtype=torch.int32), "stored as"),
    ],
)
def test_a_projection_that_does_not_fit_is_refused(root, tmp_path, name, value, match):
    tensors = torch.load(root / "LeapTalk" / "audio_proj_step_10400.pt", weights_only=True)
    torch.save(_spoil(tensors, name, value), tmp_path / "projection.pt")
    with pytest.raises(CheckpointError, match=match):
        flashhead.load_bundle(root, "pro", audio_projection=tmp_path / "projection.pt")
