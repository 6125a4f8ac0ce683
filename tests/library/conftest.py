"""What the library's tests share: the miniature checkpoint, goldens, random checkpoints."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import flashhead

FIXTURES = Path(__file__).parents[1] / "fixtures"
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="session")
def checkpoint():
    """The miniature checkpoint's folder."""
    return FIXTURES / "tiny-checkpoint"


@pytest.fixture(scope="session")
def golden():
    """Name -> tensors that the published code made from the miniature checkpoint."""
    return lambda name: load_file(FIXTURES / "goldens" / f"{name}.safetensors")


@pytest.fixture(scope="session")
def portrait():
    return FIXTURES / "goldens" / "portrait.png"


@pytest.fixture(scope="session")
def bundle(checkpoint):
    return flashhead.load_bundle(checkpoint, "lite")


@pytest.fixture(scope="session")
def bundles(checkpoint, bundle, tmp_path_factory):
    """Every variant of the miniature; Pro's weights stand for the teacher's too."""
    root = tmp_path_factory.mktemp("teacher")
    shutil.copytree(checkpoint / "Model_Pro", root / "teacher")
    for name in ("VAE_Wan", "wav2vec2-base-960h"):
        shutil.copytree(checkpoint / name, root / name)
    return {
        "lite": bundle,
        "pro": flashhead.load_bundle(checkpoint, "pro"),
        "pretrained": flashhead.load_bundle(root),
    }


@pytest.fixture(scope="session")
def deviation():
    """Largest difference, relative to the standard deviation of what was expected."""

    def measure(actual, expected):
        assert actual.shape == expected.shape
        return ((actual.double() - expected.double()).abs().max() / expected.double().std()).item()

    return measure


@pytest.fixture
def lite(checkpoint, tmp_path):
    """A copy of the Lite checkpoint, to spoil."""
    root = tmp_path / "checkpoint"
    for name in ("Model_Lite", "VAE_LTX", "wav2vec2-base-960h"):
        shutil.copytree(checkpoint / name, root / name)
    return root


@pytest.fixture(scope="session")
def rewrite():
    """(file, function of its dict of tensors): write the file anew."""

    def change(path, function):
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        tensors = {key: tensor.clone() for key, tensor in load_file(path).items()}
        save_file(function(tensors) or tensors, path, metadata)

    return change


@pytest.fixture(scope="session")
def write_generator():
    """Write a Model_* folder of random weights, keys and shapes as published (DESIGN §1.2)."""

    def write(folder, *, audio_width, audio_hidden, audio_tokens, seed=0, **config):
        dim, ffn, patch = config["dim"], config["ffn_dim"], config["patch_size"]
        vectors = config["vae_stride"][0] + 4
        rng = torch.Generator().manual_seed(seed)
        tensors = {}

        def draw(key, *shape, scale=0.3):
            tensors[key] = torch.randn(shape, generator=rng) * scale

        def linear(name, inputs, outputs):
            draw(f"{name}.weight", outputs, inputs, scale=inputs**-0.5)
            draw(f"{name}.bias", outputs)

        def norm(name, bias=True):
            tensors[f"{name}.weight"] = torch.rand(dim, generator=rng) + 0.5
            if bias:
                draw(f"{name}.bias", dim)

        inputs = config["in_dim"] * patch[0] * patch[1] * patch[2]
        draw("patch_embedding.weight", dim, config["in_dim"], *patch, scale=inputs**-0.5)
        draw("patch_embedding.bias", dim)
        linear("time_embedding.0", config["freq_dim"], dim)
        linear("time_embedding.2", dim, dim)
        linear("time_projection.1", dim, 6 * dim)
        linear("audio_proj.proj1", 5 * audio_width, audio_hidden)
        linear("audio_proj.proj1_vf", vectors * audio_width, audio_hidden)
        linear("audio_proj.proj2", audio_hidden, audio_hidden)
        linear("audio_proj.proj3", audio_hidden, audio_tokens * dim)
        norm("audio_proj.norm")
        for block in (f"blocks.{n}" for n in range(config["num_layers"])):
            for attention in ("self_attn", "cross_attn"):
                for name in "qkvo":
                    linear(f"{block}.{attention}.{name}", dim, dim)
                norm(f"{block}.{attention}.norm_q", bias=False)
                norm(f"{block}.{attention}.norm_k", bias=False)
            norm(f"{block}.norm3")
            linear(f"{block}.ffn.0", dim, ffn)
            linear(f"{block}.ffn.2", ffn, dim)
            draw(f"{block}.modulation", 1, 6, dim)
        linear("head.head", dim, config["out_dim"] * patch[0] * patch[1] * patch[2])
        draw("head.modulation", 1, 2, dim)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / WEIGHTS)
        (folder / "config.json").write_text(json.dumps({"eps": 1e-6, **config}))
        return tensors

    return write
