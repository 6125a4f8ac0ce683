"""The Wan 2.1 VAE against goldens of the reference, and what must hold at any size."""

from __future__ import annotations

import types
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from flashhead.checkpoint.components import open_vae
from flashhead.checkpoint.configs import read_wan_config
from flashhead.errors import CheckpointError
from flashhead.models.backend import Backend
from flashhead.models.config import WanVAEConfig
from flashhead.models.wan_vae import WanVAE

FIXTURES = Path(__file__).parent.parent / "fixtures"
FOLDER = FIXTURES / "tiny-checkpoint" / "VAE_Wan"
FILE = FOLDER / "Wan2.1_VAE.pth"
GOLDENS = ("wan_1", "wan_5", "wan_33")


def load(path: Path = FOLDER, dtype: torch.dtype | None = torch.float32, **backend) -> WanVAE:
    backend = Backend(**{"dtype": dtype, **backend})
    return open_vae(path).load(backend, dtype=dtype)


@pytest.fixture(scope="module")
def vae() -> WanVAE:
    return load()


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return torch.load(FILE, weights_only=True)


def random_video(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def random_latents(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", GOLDENS)
def test_encode_matches_the_reference(vae, name, golden, deviation):
    tensors = golden(name)
    latents = vae.encode(tensors["video"])
    assert latents.dtype == torch.float32
    assert deviation(latents, tensors["latents"]) < 1e-4


@pytest.mark.parametrize("name", GOLDENS)
def test_decode_matches_the_reference(vae, name, golden, deviation):
    tensors = golden(name)
    video = vae.decode(tensors["latents"])
    assert deviation(video, tensors["decoded"]) < 1e-4
    assert video.abs().max() <= 1


def test_calls_leave_nothing_behind(vae):
    video = random_video(1, 3, 9, 16, 16)
    before = {key: value.clone() for key, value in vae.state_dict().items()}
    first = vae.encode(video)
    vae.encode(random_video(1, 3, 5, 24, 16, seed=1))
    vae.decode(random_latents(1, 16, 4, 2, 2))
    assert torch.equal(vae.encode(video), first)
    assert all(torch.equal(value, before[key]) for key, value in vae.state_dict().items())


def test_inputs_are_not_written_to(vae):
    video, latents = random_video(1, 3, 5, 16, 16), random_latents(1, 16, 2, 2, 2)
    copies = video.clone(), latents.clone()
    vae.encode(video), vae.decode(latents)
    assert torch.equal(video, copies[0]) and torch.equal(latents, copies[1])


def test_a_batch_is_its_samples_one_by_one(vae):
    video, latents = random_video(2, 3, 9, 24, 16), random_latents(2, 16, 3, 2, 3)
    for whole, run, inputs in (
        (vae.encode(video), vae.encode, video),
        (vae.decode(latents), vae.decode, latents),
    ):
        singles = torch.cat([run(sample[None]) for sample in inputs])
        assert (whole - singles).abs().max() < 1e-5


@settings(max_examples=5, deadline=None, derandomize=True)
@given(groups=st.integers(0, 3), h=st.integers(1, 4), w=st.integers(1, 4), later=st.integers(0, 2))
def test_any_legal_size_and_nothing_sees_later_frames(vae, groups, h, w, later, deviation):
    frames = 1 + 4 * groups
    video = random_video(1, 3, frames + 4 * later, 8 * h, 8 * w)
    latents = vae.encode(video)
    assert latents.shape == (1, 16, 1 + groups + later, h, w)
    assert latents.isfinite().all()
    assert deviation(latents[:, :, : 1 + groups], vae.encode(video[:, :, :frames])) < 1e-5
    decoded = vae.decode(latents)
    assert decoded.shape == video.shape
    assert deviation(decoded[:, :, :frames], vae.decode(latents[:, :, : 1 + groups])) < 1e-5


def test_later_frames_see_earlier_ones(vae):
    video, latents = random_video(1, 3, 9, 16, 16), random_latents(1, 16, 3, 2, 2)
    other_video, other_latents = video.clone(), latents.clone()
    other_video[:, :, 0] *= -1
    other_latents[:, :, 0] *= -1
    assert not torch.equal(vae.encode(other_video)[:, :, -1], vae.encode(video)[:, :, -1])
    assert not torch.equal(vae.decode(other_latents)[:, :, -1], vae.decode(latents)[:, :, -1])


@pytest.mark.parametrize(
    "shape", [(1, 3, 2, 16, 16), (1, 3, 8, 16, 16), (1, 3, 0, 16, 16), (1, 3, 5, 20, 16)]
)
def test_an_illegal_video_is_one_clear_error(vae, shape):
    with pytest.raises(ValueError, match=r"does not fit the VAE: expected 1 \+ n \* 4 frames"):
        vae.encode(torch.zeros(shape))


def test_latents_of_another_vae_are_one_clear_error(vae):
    with pytest.raises(ValueError, match=r"\(1, 128, 5, 4, 4\).*\(batch, 16, frames"):
        vae.decode(torch.zeros(1, 128, 5, 4, 4))


def rms_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found.float() - expected).square().mean().sqrt() / expected.std()).item()


# Measured on wan_5: 0.009 and 0.054 in bfloat16 (ComfyUI's own class on the same weights: 0.007 and
# 0.051), 0.001 and 0.006 in float16 (0.004 and 0.027). Four channels round worse than 96.
@pytest.mark.parametrize(
    ("dtype", "encoding", "decoding"), [(torch.bfloat16, 0.015, 0.08), (torch.float16, 0.002, 0.01)]
)
def test_half_precision_stays_near_float32(dtype, encoding, decoding, golden):
    tensors = golden("wan_5")
    half = load(dtype=dtype)
    latents = half.encode(tensors["video"])
    assert latents.dtype == torch.float32
    assert rms_error(latents, tensors["latents"]) < encoding
    video = half.decode(tensors["latents"])
    assert video.dtype == dtype
    assert rms_error(video, tensors["decoded"]) < decoding


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_silent_features_stay_finite(dtype):
    """All channels zero: the norm divides by nothing."""
    vae = load(dtype=dtype)
    for module in vae.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            module.bias = None
    assert vae.decode(torch.zeros(1, 16, 2, 2, 2)).isfinite().all()
    assert vae.encode(torch.zeros(1, 3, 5, 16, 16)).isfinite().all()


def test_gradients_pass(vae, deviation):
    """The pure path, which torch.compile takes too, gives what the in-place one does."""
    video = random_video(1, 3, 5, 16, 16).requires_grad_()
    latents = vae.encode(video)
    assert deviation(latents.detach(), vae.encode(video.detach())) < 1e-5
    vae.decode(latents).square().mean().backward()
    assert (video.grad.flatten(3).norm(dim=3) > 0).all()


class CastingConv3d(nn.Conv3d):
    """A host's layer: it keeps its weights in another dtype and casts them when called."""

    def forward(self, x):
        return self._conv_forward(x, self.weight.to(x), self.bias.to(x))


class CastingConv2d(nn.Conv2d):
    def forward(self, x):
        return self._conv_forward(x, self.weight.to(x), self.bias.to(x))


def test_a_host_drives_weights_and_attention(deviation):
    calls = []

    def attention(q, k, v, heads):
        calls.append((tuple(q.shape), heads))
        return nn.functional.scaled_dot_product_attention(q, k, v)

    backend = Backend(
        operations=types.SimpleNamespace(Conv3d=CastingConv3d, Conv2d=CastingConv2d),
        attention=attention,
    )
    vae = open_vae(FOLDER).load(backend, dtype=torch.bfloat16)
    assert {p.dtype for p in vae.parameters()} == {torch.bfloat16}
    plain = load()
    for parameter in plain.parameters():
        parameter.copy_(parameter.bfloat16())
    latents = random_latents(1, 16, 2, 2, 3)
    assert deviation(vae.decode(latents), plain.decode(latents)) < 1e-5
    assert calls == [((1, 6, 16), 1)] * 2


def test_sizes_are_read_off_the_shapes():
    config = load().config
    assert config == WanVAEConfig(base_width=4, widths=(4, 8, 16, 16))
    with torch.device("meta"):
        published = WanVAE(WanVAEConfig())
    shapes = {key: tuple(tensor.shape) for key, tensor in published.state_dict().items()}
    assert (len(shapes), sum(p.numel() for p in published.parameters())) == (194, 126_892_531)
    assert read_wan_config(shapes, "file") == WanVAEConfig()
    assert (published.latent_channels, published.stride) == (16, (4, 8, 8))


def test_the_16_bit_safetensors_file_is_the_same_vae(tmp_path, weights, deviation):
    path = tmp_path / "wan_2.1_vae.safetensors"
    save_file({key: tensor.half() for key, tensor in weights.items()}, path)
    stored = load(tmp_path, dtype=None)
    assert {p.dtype for p in stored.parameters()} == {torch.float16}
    latents = random_latents(1, 16, 1, 2, 2)
    assert deviation(load(path).decode(latents), load(FILE).decode(latents)) < 0.01


class Trap:
    def __reduce__(self):
        return (Path.touch, (Path("sprung"),))


def test_wrong_files_are_one_clear_error(tmp_path, weights, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def refused(path: Path, *parts: str):
        with pytest.raises(CheckpointError) as caught:
            load(path)
        message = str(caught.value)
        assert all(part in message for part in (str(path), *parts)), message
        assert "\n" not in message

    def saved(name: str, value) -> Path:
        torch.save(value, tmp_path / name)
        return tmp_path / name

    refused(tmp_path, "Wan2.1_VAE.pth or wan_2.1_vae.safetensors")
    refused(tmp_path / "none.pth", "does not exist")
    refused(tmp_path / "none.safetensors", "does not exist")

    (tmp_path / "cut.pth").write_bytes(FILE.read_bytes()[:500_000])
    refused(tmp_path / "cut.pth", "truncated")
    (tmp_path / "text.pth").write_text("<html>404</html>")
    refused(tmp_path / "text.pth", "a web page")
    (tmp_path / "empty.pth").touch()
    refused(tmp_path / "empty.pth", "truncated or no file")
    (tmp_path / "cut.safetensors").write_bytes(b"\x40\0\0\0\0\0\0\0{")
    refused(tmp_path / "cut.safetensors", "truncated")

    refused(saved("trap.pth", {"conv1.weight": Trap()}), "no file of plain weights")
    assert not (tmp_path / "sprung").exists()
    refused(saved("list.pth", [1, 2]), "holds more than tensors")
    refused(saved("nested.pth", {"state_dict": weights}), "holds more than tensors")

    refused(saved("foreign.pth", {"a": torch.zeros(2)}), "neither the Wan", "'a'")
    key = "decoder.upsamples.7.time_conv.bias"
    refused(
        saved("lacks.pth", {k: v for k, v in weights.items() if k != key}),
        f"'{key}' is missing; expected shape (32,)",
    )
    refused(
        saved("shape.pth", {**weights, key: torch.zeros(3)}), f"'{key}' has shape (3,)", "(32,)"
    )
    refused(
        saved("wan22.pth", {**weights, "conv2.weight": torch.zeros(48, 48, 1, 1, 1)}),
        "48 latent channels; expected 16",
    )
    cut = {k: v for k, v in weights.items() if not k.startswith("encoder.downsamples.0.")}
    refused(saved("stage.pth", cut), "'encoder.downsamples.0.residual.6.weight' is missing")
