"""One-file bundles: what is in them, what loading them gives, and how they are written."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import wave
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import flashhead
from flashhead import CheckpointError, FlashHeadError, convert, load_bundle
from flashhead.checkpoint.float8 import dequantize, quantize
from flashhead.checkpoint.loading import open_checkpoint
from flashhead.checkpoint.weights import WeightFile
from flashhead.cli import main as cli
from flashhead.dtypes import STORAGE_DTYPES
from flashhead.testing import MINIATURE, published_shapes, write_checkpoint

ROOT = Path(__file__).parents[2]
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


def refuse(call, *parts, error=CheckpointError):
    with pytest.raises(error) as raised:
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


# How it is written


@pytest.fixture
def refuse_convert(checkpoint, tmp_path):
    def check(destination, *says, source=checkpoint, error=FlashHeadError, **options):
        before = sorted(tmp_path.rglob("*"))
        refuse(
            lambda: convert(source, destination, **{"variant": "lite"} | options),
            *says,
            error=error,
        )
        assert sorted(tmp_path.rglob("*")) == before

    return check


def test_where_it_cannot_be_written(refuse_convert, converted, tmp_path):
    refuse_convert(tmp_path / "nowhere" / "x.safetensors", tmp_path / "nowhere", "does not exist")
    refuse_convert(tmp_path / "x.ckpt", "x.ckpt", ".safetensors")
    refuse_convert(tmp_path / "x.safetensors", "'int4'", "fp8_e4m3fn", dtype="int4")
    folder = tmp_path / "folder.safetensors"
    folder.mkdir()
    refuse_convert(folder, folder)


def test_what_is_there_stays(refuse_convert, checkpoint, tmp_path):
    path = tmp_path / "mine.safetensors"
    path.write_bytes(b"mine")
    refuse_convert(path, path, "exists")
    assert path.read_bytes() == b"mine"
    convert(checkpoint, path, "lite", overwrite=True)
    assert load_bundle(path).variant == "lite"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("link", ["name", "symlink", "hard link"])
def test_the_source_is_not_overwritten(link, refuse_convert, lite, tmp_path):
    source = lite / "Model_Lite" / "diffusion_pytorch_model.safetensors"
    before, path = source.read_bytes(), tmp_path / "link.safetensors"
    if link == "name":
        path = lite / "VAE_LTX" / ".." / "Model_Lite" / source.name
    elif link == "symlink":
        path.symlink_to(source)
    else:
        path.hardlink_to(source)
    refuse_convert(path, path, "source", source=lite, overwrite=True)
    assert source.read_bytes() == before


def test_a_full_disk_is_found_first(refuse_convert, monkeypatch, tmp_path):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    refuse_convert(tmp_path / "x.safetensors", "needs", "free", tmp_path)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_failure_leaves_what_was_there(error, refuse_convert, tmp_path):
    path = tmp_path / "mine.safetensors"
    path.write_bytes(b"mine")

    def fail(done, total):
        # The new file lies beside the old one, which is whole.
        assert path.read_bytes() == b"mine" and len(list(tmp_path.iterdir())) == 2
        if done > total / 2:
            raise error

    refuse_convert(path, overwrite=True, on_bytes=fail, error=error)
    assert path.read_bytes() == b"mine"


@pytest.mark.parametrize("value", [1e6, float("nan"), float("inf")])
def test_values_that_the_dtype_cannot_hold(value, lite, rewrite, refuse_convert, tmp_path):
    source, key = lite / "Model_Lite" / "diffusion_pytorch_model.safetensors", "blocks.1.ffn.2.bias"
    rewrite(source, lambda w: {**w, key: torch.full_like(w[key], value)})  # kept as it is
    convert(lite, tmp_path / "fine.safetensors", dtype="fp16")
    key = "blocks.1.ffn.2.weight"
    rewrite(source, lambda w: {**w, key: torch.full_like(w[key], value)})
    options = {"source": lite, "error": CheckpointError}
    refuse_convert(tmp_path / "x.safetensors", source, key, "F16", dtype="fp16", **options)


# Memory

MEMORY = """
import gc, json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import torch, flashhead
from flashhead.checkpoint.loading import open_checkpoint
torch.set_num_threads(1)

def peak():
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(status["VmHWM"].split()[0]) * 1024

def measure(work):
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak, from here on
    before = peak()
    kept = work()
    return peak() - before

folder, out = Path(sys.argv[2]), Path(sys.argv[3])
# Whatever is loaded late is loaded now.
flashhead.convert(sys.argv[4], out / "first.safetensors", "pro", "fp16")
flashhead.load_bundle(out / "first.safetensors")
convert = lambda dtype: measure(
    lambda: flashhead.convert(folder, out / f"{dtype}.safetensors", dtype=dtype) and None
)
load = lambda stored, dtype: measure(
    lambda: flashhead.load_bundle(out / f"{stored}.safetensors", dtype=dtype)
)
print(json.dumps({
    "convert": {dtype: convert(dtype) for dtype in ("bf16", "fp8_e4m3fn")},
    "load": {
        "bf16 float32": load("bf16", torch.float32),
        "bf16 bfloat16": load("bf16", torch.bfloat16),
        "fp8_e4m3fn bfloat16": load("fp8_e4m3fn", torch.bfloat16),
    },
}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read the Linux way")
def test_one_tensor_is_held_at_a_time(checkpoint, tmp_path, wide_checkpoint):
    folder, sizes, largest = wide_checkpoint
    result = subprocess.run(
        [
            sys.executable,
            "-I",
            "-c",
            MEMORY,
            str(ROOT),
            str(folder),
            str(tmp_path),
            str(checkpoint),
        ],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    seen = json.loads(result.stdout)
    # The mapped pages around a tensor, Python's objects, the allocator's slack.
    slack = 3 * largest + 32e6
    for dtype, peak in seen["convert"].items():
        assert peak < slack, dtype
    for name, peak in seen["load"].items():
        loaded = sizes / (2 if name.endswith("bfloat16") else 1)
        assert peak < loaded + slack, name


@pytest.fixture(scope="module")
def wide_checkpoint(tmp_path_factory):
    """A checkpoint of some 200 MB with many tensors; its bytes in float32, and the largest's."""
    generator = replace(MINIATURE.generator, dim=512, ffn_dim=2048, num_heads=8, num_layers=11)
    sizes = replace(MINIATURE, generator=generator)
    folder = write_checkpoint(tmp_path_factory.mktemp("wide"), sizes)
    counts = [
        torch.Size(shape).numel() * 4
        for shapes in published_shapes(sizes).values()
        for shape in shapes.values()
    ]
    assert sum(counts) > 180e6
    yield folder, sum(counts), max(counts)
    shutil.rmtree(folder)


# The command line


def test_convert_and_info(checkpoint, tmp_path, capsys, monkeypatch):
    path = tmp_path / "lite.safetensors"
    arguments = [
        "convert",
        str(checkpoint),
        str(path),
        "--variant",
        "lite",
        "--dtype",
        "fp8_e4m3fn",
    ]
    assert cli.main(arguments) == 0
    told = capsys.readouterr()
    assert told.out.startswith(f"{path}: 0.00 GB in ") and "GB" in told.err
    assert cli.main(arguments) == 1
    assert "exists already" in capsys.readouterr().err
    assert cli.main([*arguments, "--force", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(WeightFile, "__getitem__", lambda *_: pytest.fail("a weight was read"))
    assert cli.main(["info", str(path)]) == 0
    told = capsys.readouterr().out
    assert "one-file bundle of lite, stored as fp8_e4m3fn" in told
    assert "from Model_Lite/diffusion_pytorch_model.safetensors" in told
    assert "F8_E4M3 " in told and "BF16 " in told and "F32 " in told
    assert "dim 40, 3 layers" in told and "wav2vec2, 3 layers of 16" in told
    assert "sha256" not in told


def test_checksums(checkpoint, converted, capsys):
    path = converted()
    assert cli.main(["info", "--sha256", str(path)]) == 0
    assert hashlib.sha256(path.read_bytes()).hexdigest() in capsys.readouterr().out
    assert cli.main(["info", "--sha256", str(checkpoint)]) == 0
    told = capsys.readouterr().out
    for name in ("Model_Lite", "Model_Pro", "VAE_LTX", "VAE_Wan", "wav2vec2-base-960h"):
        for file in (checkpoint / name).iterdir():
            if file.suffix in (".safetensors", ".pth"):
                assert hashlib.sha256(file.read_bytes()).hexdigest() in told, file


def test_generate_from_a_bundle(converted, portrait, tmp_path):
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(16_000))
    options = {"checkpoint": converted("pro"), "portrait": portrait, "audio": tmp_path / "a.wav"}
    options |= {"output": tmp_path / "out.mp4", "size": "32x32", "device": "cpu"}
    arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    assert cli.main(["generate", "--quiet", *arguments]) == 0
    assert (tmp_path / "out.mp4").stat().st_size > 1000


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT to one process")
def test_ctrl_c_leaves_nothing(wide_checkpoint, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "flashhead", "convert", str(wide_checkpoint[0]),
         str(tmp_path / "x.safetensors"), "--dtype", "fp8_e4m3fn"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    while not list(tmp_path.iterdir()) and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and out == "" and err.endswith("interrupted\n"), err
    assert list(tmp_path.iterdir()) == []
