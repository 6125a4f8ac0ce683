"""The LTX 0.9.0 VAE: the published code's output in both key layouts, and its time structure."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from flashhead import CheckpointError
from flashhead.checkpoint.components import open_vae

ORIGINAL = "ltx_vae_original_layout.safetensors"


def load(path, dtype=torch.float32):
    return open_vae(path).load(dtype=dtype)


@pytest.fixture(scope="module")
def vae(checkpoint):
    return load(checkpoint / "VAE_LTX")


def clip(frames, height=32, width=32, batch=1, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 3, frames, height, width, generator=rng) * 2 - 1


@pytest.mark.parametrize("layout", ["VAE_LTX", ORIGINAL])
@pytest.mark.parametrize("case", ["ltx_1", "ltx_9", "ltx_33"])
def test_matches_the_published_vae(case, layout, checkpoint, golden, deviation):
    data, vae = golden(case), load(checkpoint / layout)
    assert deviation(vae.encode(data["video"]), data["latents"]) < 1e-4
    assert deviation(vae.decode(data["latents"]), data["decoded"]) < 1e-4


def test_a_diffusers_file_loads_without_its_folder(checkpoint, vae):
    again = load(checkpoint / "VAE_LTX" / "diffusion_pytorch_model.safetensors")
    assert torch.equal(again.encode(clip(9)), vae.encode(clip(9)))


def test_the_original_inside_a_whole_model_loads_too(checkpoint, tmp_path, vae, metadata):
    tensors = {f"vae.{key}": t for key, t in load_file(checkpoint / ORIGINAL).items()}
    tensors["model.diffusion_model.patchify_proj.weight"] = torch.zeros(2, 2)
    save_file(tensors, tmp_path / "whole.safetensors", metadata)
    again = load(tmp_path / "whole.safetensors")
    assert torch.equal(again.encode(clip(9)), vae.encode(clip(9)))


@pytest.mark.parametrize(("frames", "latents"), [(1, 1), (9, 2), (17, 3), (41, 6)])
@pytest.mark.parametrize("size", [(32, 96), (64, 32)])
def test_shapes_there_and_back(frames, latents, size, vae):
    encoded = vae.encode(clip(frames, *size))
    assert encoded.shape == (1, 8, latents, size[0] // 32, size[1] // 32)
    assert vae.decode(encoded).shape == (1, 3, frames, *size)


def test_the_encoder_never_looks_ahead(vae):
    video = clip(25)
    later = video.clone()
    later[:, :, 17:] = clip(8, seed=1)
    before, after = vae.encode(video), vae.encode(later)
    assert torch.equal(before[:, :, :3], after[:, :, :3])
    assert not torch.equal(before[:, :, 3], after[:, :, 3])
    # So the first frames' latents are those of the short clip.
    torch.testing.assert_close(before[:, :, :2], vae.encode(video[:, :, :9]), rtol=0, atol=1e-5)


def test_the_decoder_does_look_ahead(vae):
    latents = vae.encode(clip(17))
    later = latents.clone()
    later[:, :, 1] += 1
    changed = (vae.decode(later) - vae.decode(latents)).abs().amax((0, 1, 3, 4))
    assert changed[0] > 0


def test_a_batch_is_its_clips_one_by_one(vae, deviation):
    video = clip(9, batch=3)
    latents = vae.encode(video)
    decoded = vae.decode(latents)
    for n in range(3):
        assert deviation(latents[n : n + 1], vae.encode(video[n : n + 1])) < 1e-5
        assert deviation(decoded[n : n + 1], vae.decode(latents[n : n + 1])) < 1e-4


def test_encoding_draws_no_random_numbers(vae):
    state = torch.get_rng_state()
    assert torch.equal(vae.encode(clip(9)), vae.encode(clip(9)))
    assert torch.equal(torch.get_rng_state(), state)


def test_latents_are_normalised_by_the_files_statistics(lite, vae, rewrite, deviation):
    path = lite / "VAE_LTX" / "diffusion_pytorch_model.safetensors"
    shift, scale = torch.linspace(-1, 1, 8), torch.linspace(0.5, 3, 8)
    rewrite(
        path,
        lambda w: {
            **w,
            "latents_mean": w["latents_mean"] + shift,
            "latents_std": w["latents_std"] * scale,
        },
    )
    other, latents = load(lite / "VAE_LTX"), vae.encode(clip(9))
    std = vae.latents_std * scale
    expected = (latents * vae.latents_std.view(8, 1, 1, 1) - shift.view(8, 1, 1, 1)) / std.view(
        8, 1, 1, 1
    )
    moved = other.encode(clip(9))
    assert deviation(moved, expected) < 1e-5
    assert deviation(other.decode(moved), vae.decode(latents)) < 1e-4


@pytest.mark.parametrize("shape", [(8, 32, 32), (9, 48, 32), (9, 32, 40)])
def test_a_video_that_does_not_fit_is_refused(shape, vae):
    with pytest.raises(ValueError, match=r"1 \+ n \* 8 frames.*multiples of 32"):
        vae.encode(clip(*shape))


@pytest.fixture
def metadata():
    names = "res_x compress_all res_x_y res_x compress_all res_x_y res_x compress_all res_x res_x"
    blocks = [*zip(names.split(), (2, 1, 1, 1, 1, 1, 1, 1, 1, 2), strict=True)]
    config = dict(latent_channels=8, blocks=blocks, patch_size=4, encoder_base_channels=4)
    return {"config": json.dumps({"vae": config})}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(timestep_conditioning=True), "timestep-conditioned.*later than the 0.9.0"),
        (dict(blocks=[["res_x", 2], ["compress_time", 1], ["res_x", 2]]), "'compress_time' block"),
        (None, "metadata holds no 'config'"),
    ],
)
def test_later_vaes_and_bare_files_are_refused(change, message, checkpoint, tmp_path, metadata):
    config = json.loads(metadata["config"])
    config["vae"].update(change or {})
    path = tmp_path / "later.safetensors"
    given = None if change is None else {"config": json.dumps(config)}
    save_file(load_file(checkpoint / ORIGINAL), path, given)
    with pytest.raises(CheckpointError, match=f"later.safetensors.*{message}"):
        load(path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("_class_name", "AutoencoderKLWan", "'AutoencoderKLWan'; expected AutoencoderKLLTXVideo"),
        ("timestep_conditioning", True, "expected False"),
        ("patch_size_t", 2, "expected 1"),
        ("latent_channels", 16, r"shape \(8,.*expected \(16,|has shape"),
    ],
)
def test_other_configs_are_refused(key, value, message, lite):
    path = lite / "VAE_LTX" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(CheckpointError, match=message):
        load(lite / "VAE_LTX")
