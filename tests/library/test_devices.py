"""What each network computes in, on cards and computers that are not here: torch is asked, and each
kind of device is faked by what torch says of it."""

from types import SimpleNamespace

import pytest
import torch

from flashhead.checkpoint.loading import open_checkpoint
from flashhead.models.config import LTXVAEConfig, WanVAEConfig
from flashhead.models.devices import default_device, precision, vae_dtypes, wider

BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
LTX, WAN = LTXVAEConfig((8,), (1, 1), (True,), 8), WanVAEConfig()


def fake_cuda(monkeypatch, name, capability=(0, 0), arch=None):
    card = SimpleNamespace(name=name, major=capability[0], minor=capability[1], gcnArchName=arch)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device=None: card)
    # What torch says counts emulation, and on ROCm everything.
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    monkeypatch.setattr(torch.version, "hip", arch and "6.4")
    return torch.device("cuda")


def fake(monkeypatch, device):
    """The device of that name, as torch describes it where there is one."""
    kind, *rest = device
    if kind in ("cuda", "rocm"):
        return fake_cuda(monkeypatch, *rest)
    if kind == "mps":
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
        newer = lambda major, minor: rest[0] >= (major, minor)  # noqa: E731
        monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", newer)
    if kind == "xpu":
        monkeypatch.setattr(torch.xpu, "is_available", lambda: True)
        monkeypatch.setattr(torch.xpu, "is_bf16_supported", rest[0])
    return torch.device(kind)


# Device, then what generator, LTX's VAE and Wan's VAE compute in.
DEVICES = {
    "RTX 5090": (("cuda", "NVIDIA GeForce RTX 5090", (12, 0)), BF16, BF16, BF16),
    "RTX 4090": (("cuda", "NVIDIA GeForce RTX 4090", (8, 9)), BF16, BF16, BF16),
    "RTX 3060": (("cuda", "NVIDIA GeForce RTX 3060", (8, 6)), BF16, BF16, BF16),
    "A100": (("cuda", "NVIDIA A100-SXM4-40GB", (8, 0)), BF16, BF16, BF16),
    "RTX 2080": (("cuda", "NVIDIA GeForce RTX 2080", (7, 5)), FP16, FP32, FP16),
    "T4": (("cuda", "Tesla T4", (7, 5)), FP16, FP32, FP16),
    "V100": (("cuda", "Tesla V100-SXM2-16GB", (7, 0)), FP16, FP32, FP16),
    "GTX 1660": (("cuda", "NVIDIA GeForce GTX 1660 SUPER", (7, 5)), FP32, FP32, FP32),
    "GTX 1080": (("cuda", "NVIDIA GeForce GTX 1080", (6, 1)), FP32, FP32, FP32),
    "RX 7900": (("rocm", "AMD Radeon RX 7900 XTX", (11, 0), "gfx1100"), BF16, BF16, BF16),
    "RX 6800": (("rocm", "AMD Radeon RX 6800", (10, 3), "gfx1030"), FP16, FP32, FP16),
    "MI210": (("rocm", "MI210", (9, 0), "gfx90a:sramecc+:xnack-"), BF16, BF16, BF16),
    "MI50": (("rocm", "MI50", (9, 0), "gfx906:sramecc-"), FP16, FP32, FP16),
    "macOS 15": (("mps", (15, 1)), BF16, BF16, BF16),
    "macOS 13": (("mps", (13, 6)), FP16, FP32, FP16),
    "Arc": (("xpu", lambda including_emulation=True: True), BF16, BF16, BF16),
    "older torch on Arc": (("xpu", lambda: True), BF16, BF16, BF16),
    "Iris Xe": (("xpu", lambda including_emulation=True: including_emulation), FP16, FP32, FP16),
    "DirectML": (("privateuseone",), FP16, FP32, FP16),
    "CPU": (("cpu",), FP32, FP32, FP32),
    "unknown": (("meta",), FP32, FP32, FP32),
}


@pytest.mark.parametrize("name", DEVICES)
def test_what_each_network_computes_in(name, monkeypatch):
    described, generator, ltx, wan = DEVICES[name]
    device = fake(monkeypatch, described)
    for config, vae in ((LTX, ltx), (WAN, wan), (None, wan)):
        found = precision(device, config)
        assert (found.generator, found.vae, found.audio_encoder) == (generator, vae, FP32)
        assert found.reasons.keys() == {"generator", "vae", "audio_encoder"} and not found.notes
        # Given back as what is asked for, it is the same.
        again = precision(device, config, generator)
        assert (again.generator, again.vae) == (generator, vae)


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("asked", [BF16, FP16, FP32], ids=str)
def test_what_is_asked_for_is_followed_or_a_note_says_why_not(name, asked, monkeypatch):
    described, usual, *_ = DEVICES[name]
    device = fake(monkeypatch, described)
    for config in (LTX, WAN):
        found = precision(device, config, asked)
        assert found.generator == asked
        assert found.vae in vae_dtypes(config)
        assert (found.vae == asked) or "LTX" in " ".join(found.notes)
        slow = asked == BF16 != usual or asked == FP16 and usual == FP32
        assert slow == any("slow here" in note for note in found.notes)


def test_what_may_help_where_numbers_overflow(monkeypatch):
    ampere = fake_cuda(monkeypatch, "NVIDIA GeForce RTX 3060", (8, 6))
    assert wider(FP16, ampere) == [BF16, FP32] and wider(BF16, ampere) == [FP32]
    turing = fake_cuda(monkeypatch, "NVIDIA GeForce RTX 2080", (7, 5))
    assert wider(FP16, turing) == [FP32] and wider(FP32, turing) == []


@pytest.mark.parametrize("found", ["cuda", "xpu", "mps", "cpu"])
def test_the_device_that_is_taken(found, monkeypatch):
    for kind in (torch.cuda, torch.xpu, torch.backends.mps):
        there = kind.__name__.rpartition(".")[2] == found
        monkeypatch.setattr(kind, "is_available", lambda there=there: there)
    assert default_device() == torch.device(found)


@pytest.mark.parametrize(("variant", "expected"), [("lite", FP32), ("pro", FP16)])
def test_a_checkpoint_is_loaded_so(variant, expected, checkpoint):
    bundle = open_checkpoint(checkpoint, variant).load(dtype=FP16)
    assert bundle.dtype == FP16
    assert bundle.vae.dtype == expected == next(bundle.vae.parameters()).dtype
