"""One-file bundles: their format, what loading them gives, and what is wrong with others."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import flashhead
from flashhead import CheckpointError, convert, load_bundle
from flashhead.checkpoint.loading import open_checkpoint
from flashhead.checkpoint.storage import dequantize, quantize
from flashhead.cli.main import main
from flashhead.dtypes import STORAGE_DTYPES

PARTS = ("generator", "vae", "audio_encoder")
CONFIGS = {f"{part}_config" for part in PARTS}


def state(bundle):
    return {
        f"{part}.{key}": tensor
        for part in PARTS
        for key, tensor in getattr(bundle, part).state_dict().items()
    }


def header(path):
    """(metadata, dtype of every tensor)."""
    with safe_open(path, framework="pt") as file:
        return file.metadata(), {k: file.get_slice(k).get_dtype() for k in file.keys()}


def is_wide(key, tensor):
    """Norms, biases and modulations."""
    return key.endswith("modulation") or tensor.numel() == max(tensor.shape)


@pytest.fixture(scope="module")
def converted(checkpoint, tmp_path_factory):
    """(variant, dtype) -> a bundle of the miniature."""
    folder = tmp_path_factory.mktemp("bundles")

    def make(variant="lite", dtype="bf16"):
        path = folder / f"{variant}-{dtype}.safetensors"
        if not path.exists():
            convert(checkpoint, path, variant, dtype)
        return path

    return make


@pytest.fixture
def spoilt(converted, tmp_path):
    """A copy of the Lite bundle whose metadata and tensors are put through functions."""

    def make(metadata=lambda m: m, tensors=lambda t: t, dtype="bf16"):
        source, path = converted(dtype=dtype), tmp_path / "spoilt.safetensors"
        save_file(tensors(load_file(source)), path, metadata(header(source)[0]))
        return path

    return make


def refuse(call, *parts):
    with pytest.raises(CheckpointError) as raised:
        call()
    message = str(raised.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message


# What is in it


@pytest.mark.parametrize("variant", ["lite", "pro"])
@pytest.mark.parametrize("dtype", STORAGE_DTYPES)
def test_weights_are_the_folders(variant, dtype, checkpoint, converted):
    """Every one, rounded once; norms, biases, modulations and the audio encoder not at all."""
    folder, one = load_bundle(checkpoint, variant), load_bundle(converted(variant, dtype))
    assert one.variant == variant
    assert [getattr(one, part).config for part in PARTS] == [
        getattr(folder, part).config for part in PARTS
    ]
    expected, rounded = state(folder), STORAGE_DTYPES[dtype]
    for key, tensor in state(one).items():
        wanted = expected.pop(key)
        assert tensor.dtype == wanted.dtype and tensor.shape == wanted.shape
        if not is_wide(key, wanted) and not key.startswith("audio_encoder."):
            if dtype != "fp8_e4m3fn":
                wanted = wanted.to(rounded).float()
            elif key.startswith("generator.blocks."):
                wanted = dequantize(*quantize(wanted))
            else:
                wanted = wanted.bfloat16().float()
        assert torch.equal(tensor, wanted), key
    assert not expected


@pytest.mark.parametrize("dtype, stored", [("bf16", "BF16"), ("fp16", "F16"), ("fp32", "F32")])
def test_stored_dtypes_and_keys(dtype, stored, converted, bundle):
    _, dtypes = header(converted(dtype=dtype))
    weights = state(bundle)
    assert dtypes.keys() == weights.keys()  # nothing that is not read
    for key, found in dtypes.items():
        wide = is_wide(key, weights[key]) or key.startswith("audio_encoder.")
        assert found == ("F32" if wide else stored), key


def test_float8_is_for_the_blocks_alone(converted, bundle):
    _, dtypes = header(converted(dtype="fp8_e4m3fn"))
    weights = state(bundle)
    small = {key for key, dtype in dtypes.items() if dtype == "F8_E4M3"}
    blocks = {key for key in weights if key.startswith("generator.blocks.")}
    assert small == {key for key in blocks if not is_wide(key, weights[key])}
    assert dtypes.keys() - weights.keys() == {f"{key}_scale" for key in small}
    assert {dtypes[f"{key}_scale"] for key in small} == {"F32"}
    assert dtypes["vae.decoder.conv_in.conv.weight"] == "BF16"
    assert dtypes["generator.head.head.weight"] == "BF16"


def test_metadata(checkpoint, converted):
    metadata, _ = header(converted("pro", "fp16"))
    assert metadata.keys() == CONFIGS | {
        "format", "bundle", "bundle_version", "variant", "dtype", "sources"
    }  # fmt: skip
    assert metadata["bundle"] == "flashhead" and metadata["bundle_version"] == "1"
    assert (metadata["variant"], metadata["dtype"]) == ("pro", "fp16")
    published = json.loads((checkpoint / "Model_Pro" / "config.json").read_text())
    config = json.loads(metadata["generator_config"])
    assert config.items() <= published.items() and len(config) > 10
    assert json.loads(metadata["sources"]) == {
        "generator": "Model_Pro/diffusion_pytorch_model.safetensors",
        "vae": "VAE_Wan/Wan2.1_VAE.pth",
        "audio_encoder": "wav2vec2-base-960h/model.safetensors",
    }


def test_same_source_same_bytes(checkpoint, converted, tmp_path):
    again = tmp_path / "again.safetensors"
    assert convert(checkpoint, again, "lite") == again.stat().st_size
    assert again.read_bytes() == converted().read_bytes()


def test_original_layout_becomes_ours(checkpoint, lite, converted, tmp_path):
    path = tmp_path / "original.safetensors"
    convert(lite, path, vae=checkpoint / "ltx_vae_original_layout.safetensors")
    expected, found = load_file(converted()), load_file(path)
    assert found.keys() == expected.keys()
    for key, tensor in found.items():
        assert torch.equal(tensor, expected[key]), key


def test_a_bundle_can_be_converted(converted, tmp_path):
    path = tmp_path / "again.safetensors"
    convert(converted(dtype="fp32"), path, dtype="bf16")
    expected, found = load_file(converted()), load_file(path)
    assert found.keys() == expected.keys()
    for key, tensor in found.items():
        assert torch.equal(tensor, expected[key]), key


def test_a_bundle_with_another_vae(checkpoint, converted, bundle):
    original = checkpoint / "ltx_vae_original_layout.safetensors"
    encoder = checkpoint / "wav2vec2-base-960h"
    one = state(load_bundle(converted(dtype="fp32"), vae=original, audio_encoder=encoder))
    for key, tensor in state(bundle).items():
        assert torch.equal(one[key], tensor), key
    refuse(lambda: load_bundle(converted(), vae=checkpoint / "VAE_Wan"), "VAE of the other variant")


# What it gives


@pytest.mark.parametrize("variant, size", [("lite", (64, 32)), ("pro", (16, 16))])
def test_bf16_bundle_gives_the_folders_bits(variant, size, checkpoint, converted, portrait):
    folder = load_bundle(checkpoint, variant, dtype=torch.bfloat16)
    one = load_bundle(converted(variant), dtype=torch.bfloat16)
    rng = torch.Generator().manual_seed(0)
    shape = (1, *folder.geometry.latent_shape(size))
    x, y = (torch.randn(shape, generator=rng) for _ in range(2))
    audio = torch.randn(1, 33, 5, 1, folder.generator.config.audio_width, generator=rng)
    video = torch.rand(1, 3, 9, *size, generator=rng) * 2 - 1
    noise = torch.randn(8000, generator=rng) * 0.1
    with torch.no_grad():
        made = [
            [
                bundle.generator(x, torch.tensor([833.3]), audio, y),
                bundle.vae.encode(video),
                bundle.vae.decode(y),
                bundle.audio_encoder.encode(noise),
                *(
                    chunk.frames
                    for chunk in flashhead.generate(
                        bundle, portrait, noise, 16_000, size=size, steps=2
                    )
                ),
            ]
            for bundle in (folder, one)
        ]
    for expected, actual in zip(*made, strict=True):
        assert torch.equal(actual, expected)


def test_float8_error(bundle, converted):
    """Of one velocity: measured 4.2 % on the miniature, and 0.5 % for bfloat16 weights."""
    rng = torch.Generator().manual_seed(0)
    x, y = (torch.randn(1, 8, 5, 4, 4, generator=rng) for _ in range(2))
    audio = torch.randn(1, 33, 5, 1, 48, generator=rng)

    @torch.no_grad()
    def velocity(bundle):
        return bundle.generator(x, torch.tensor([833.3]), audio, y)

    expected = velocity(bundle)
    errors = {
        dtype: ((velocity(load_bundle(converted(dtype=dtype))) - expected).norm() / expected.norm())
        for dtype in ("bf16", "fp8_e4m3fn")
    }
    assert errors["bf16"] < 0.01 and errors["fp8_e4m3fn"] < 0.06


@pytest.mark.parametrize("size", [1e-6, 0.02, 300.0])
def test_float8_scales(size):
    """Rows of any size keep their precision, and a row of zeros stays one."""
    rng = torch.Generator().manual_seed(0)
    weight = torch.randn(64, 16, 3, generator=rng) * size * torch.logspace(-3, 3, 64)[:, None, None]
    weight[5] = 0
    stored, scale = quantize(weight)
    assert stored.dtype == torch.float8_e4m3fn and scale.shape == (64,)
    again = dequantize(stored, scale)
    assert again[5].abs().max() == 0
    rows = [n for n in range(64) if n != 5]
    error = (again - weight).flatten(1).norm(dim=1) / weight.flatten(1).norm(dim=1)
    assert error[rows].max() < 0.05


def test_info_reads_no_weight(spoilt, capsys):
    """Nor needs to: of these tensors the header can be read, and loading them fails."""
    path = spoilt(tensors=lambda t: {k: v.view(torch.int32) for k, v in t.items()}, dtype="fp32")
    refuse(lambda: load_bundle(path), path, "is stored as I32")
    assert main(["info", str(path)]) == 0
    told = capsys.readouterr().out
    assert "one-file bundle of lite, stored as fp32" in told and "I32 402 kB" in told


# What is wrong with it


@pytest.mark.parametrize("kept", [0, 5, 4000, -1])
def test_a_truncated_bundle(kept, converted, tmp_path):
    path = tmp_path / "short.safetensors"
    path.write_bytes(converted().read_bytes()[:kept])
    refuse(lambda: load_bundle(path), path, "truncated")


def test_a_later_bundle(spoilt):
    path = spoilt(lambda m: {**m, "bundle_version": "2"})
    refuse(lambda: load_bundle(path), path, "format 2", "format 1", "update")


@pytest.mark.parametrize(
    "change, says",
    [
        ({"bundle_version": "x"}, "bundle_version"),
        ({"variant": "heavy"}, "'heavy'"),
        ({"variant": "pro"}, "'pro'"),
        ({"generator_config": "{"}, "generator_config"),
        ({"vae_config": "[]"}, "vae_config"),
        ({"audio_encoder_config": "{}"}, "conv_dim"),
        ({"sources": ""}, "sources"),
    ],
)
def test_damaged_metadata(change, says, spoilt):
    path = spoilt(lambda m: {**m, **change})
    if change == {"variant": "pro"}:  # only a name, until somebody asks for the other
        refuse(lambda: load_bundle(path, "lite"), path, says)
    else:
        refuse(lambda: load_bundle(path), path, says)


def test_no_metadata(spoilt):
    path = spoilt(lambda _: {"format": "pt"})
    refuse(lambda: load_bundle(path), path, "metadata", "convert")


@pytest.mark.parametrize("part", PARTS)
def test_a_missing_key(part, spoilt, bundle):
    gone = next(key for key in state(bundle) if key.startswith(f"{part}."))
    path = spoilt(tensors=lambda t: {k: v for k, v in t.items() if k != gone})
    refuse(lambda: load_bundle(path), path, part, gone.partition(".")[2], "missing")


def test_float8_without_its_scale(spoilt):
    gone = "generator.blocks.0.ffn.0.weight_scale"
    path = spoilt(tensors=lambda t: {k: v for k, v in t.items() if k != gone}, dtype="fp8_e4m3fn")
    refuse(lambda: load_bundle(path), path, "blocks.0.ffn.0.weight", "scales", "(88,)")


def test_the_other_variant(converted):
    refuse(lambda: load_bundle(converted(), "pro"), converted(), "'lite'", "not 'pro'")
    refuse(lambda: load_bundle(converted(), "light"), "'light'", "lite, pro, pretrained")
    assert open_checkpoint(converted(), "lite").variant == "lite"


@pytest.mark.parametrize(
    "name, says",
    [
        ("VAE_LTX/diffusion_pytorch_model.safetensors", "a VAE alone"),
        ("VAE_Wan/Wan2.1_VAE.pth", "a VAE alone"),
        ("wav2vec2-base-960h/model.safetensors", "an audio encoder alone"),
    ],
)
def test_one_component_is_no_bundle(name, says, checkpoint):
    refuse(lambda: load_bundle(checkpoint / name), checkpoint / name, says, "one-file bundle")


def test_a_foreign_file(tmp_path):
    path = tmp_path / "lora.safetensors"
    save_file({"lora_up.weight": torch.zeros(3)}, path)
    refuse(lambda: load_bundle(path), path, "'lora_up.weight'", "expected a FlashHead bundle")
