"""Converting a checkpoint to one file: what stops it, its memory, and the command line."""

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

from flashhead import CheckpointError, FlashHeadError, convert, load_bundle
from flashhead.checkpoint.published import PUBLISHED, compare
from flashhead.cli.main import main
from flashhead.testing import MINIATURE, published_shapes, write_checkpoint

ROOT = Path(__file__).parents[2]


@pytest.fixture
def refuse_convert(checkpoint, tmp_path):
    """Asserts that converting fails with one sentence, and leaves no file."""

    def check(destination, *says, source=checkpoint, error=FlashHeadError, **options):
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(error) as raised:
            convert(source, destination, **{"variant": "lite"} | options)
        message = str(raised.value)
        assert "\n" not in message
        for part in says:
            assert str(part) in message
        assert sorted(tmp_path.rglob("*")) == before

    return check


def test_where_it_cannot_be_written(refuse_convert, tmp_path):
    refuse_convert(
        tmp_path / "nowhere" / "x.safetensors", tmp_path / "nowhere", "there is no folder"
    )
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
        [sys.executable, "-c", MEMORY, *map(str, (ROOT, folder, tmp_path, checkpoint))],
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


def test_convert_and_info(checkpoint, tmp_path, capsys):
    path = tmp_path / "lite.safetensors"
    arguments = ["convert", str(checkpoint), str(path)]
    arguments += ["--variant", "lite", "--dtype", "fp8_e4m3fn"]
    assert main(arguments) == 0
    told = capsys.readouterr()
    assert told.out.startswith(f"{path}: 0.00 GB in ") and "GB" in told.err
    assert main(arguments) == 1
    assert "exists already" in capsys.readouterr().err
    (link := path.with_name("link.safetensors")).symlink_to("nowhere")
    assert main([*arguments[:2], str(link), *arguments[3:]]) == 1
    told = capsys.readouterr().err
    assert "exists already" in told and "GB" not in told  # before any work
    assert main([*arguments, "--force", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["info", str(path)]) == 0
    told = capsys.readouterr().out
    assert "one-file bundle of lite, stored as fp8_e4m3fn" in told
    assert "from Model_Lite/diffusion_pytorch_model.safetensors" in told
    assert "F8_E4M3 " in told and "BF16 " in told and "F32 " in told
    assert "dim 40, 3 layers" in told and "wav2vec2, 3 layers of 16" in told
    assert "sha256" not in told


def test_checksums(checkpoint, tmp_path, capsys):
    path = tmp_path / "lite.safetensors"
    convert(checkpoint, path, "lite")
    assert main(["info", "--sha256", str(path)]) == 0
    assert hashlib.sha256(path.read_bytes()).hexdigest() in capsys.readouterr().out
    assert main(["info", "--sha256", str(checkpoint)]) == 0
    told = capsys.readouterr().out
    for name in ("Model_Lite", "Model_Pro", "VAE_LTX", "VAE_Wan", "wav2vec2-base-960h"):
        for file in (checkpoint / name).iterdir():
            if file.suffix in (".safetensors", ".pth"):
                assert hashlib.sha256(file.read_bytes()).hexdigest() in told, file
    assert told.count("differs from the published file, which has 6,030,864,656 bytes") == 1


def test_a_checksum_says_whether_the_file_is_as_published():
    name = "VAE_Wan/Wan2.1_VAE.pth"
    size, sha256, _ = PUBLISHED[name]
    assert compare("elsewhere/vae.pth", size, sha256) == "as published"
    assert compare(name, size, "0" * 64) == "differs from the published file"
    assert "507,609,880" in compare(name, size - 1, "0" * 64)
    lite = "Model_Lite/diffusion_pytorch_model.safetensors"  # whose checksum nobody has stated
    assert compare(lite, PUBLISHED[lite].bytes, "0" * 64) == "of the published size"
    assert compare("loras/mine.safetensors", size, "0" * 64) == ""


def test_generate_from_a_bundle(checkpoint, portrait, tmp_path):
    convert(checkpoint, tmp_path / "pro.safetensors", "pro")
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(16_000))
    options = {"checkpoint": tmp_path / "pro.safetensors", "portrait": portrait}
    options |= {"audio": tmp_path / "a.wav", "output": tmp_path / "out.mp4"}
    options |= {"size": "32x32", "device": "cpu"}
    arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    assert main(["generate", "--quiet", *arguments]) == 0
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
