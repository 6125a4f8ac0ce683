"""Random checkpoints: the published keys and sizes, the same bytes from the same seed."""

import json
import math

import pytest
import torch
from safetensors import safe_open

import flashhead
from flashhead.checkpoint.configs import (
    read_audio_encoder_config,
    read_generator_config,
    read_ltx_config,
)
from flashhead.checkpoint.storage import lay_out
from flashhead.testing import (
    MINIATURE,
    MINIATURE_PRO,
    PUBLISHED_LITE,
    PUBLISHED_PRO,
    CheckpointConfigs,
    legacy_head,
    published_shapes,
    write_checkpoint,
)

FILES = (
    "Model_Lite/diffusion_pytorch_model.safetensors",
    "VAE_LTX/diffusion_pytorch_model.safetensors",
    "wav2vec2-base-960h/model.safetensors",
)


def shapes_in(path):
    with safe_open(path, framework="pt") as file:
        return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_same_seed_same_bytes(tmp_path):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, second, other = (
        contents(
            write_checkpoint(write_checkpoint(tmp_path / name, seed=seed), MINIATURE_PRO, seed)
        )
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first == second
    assert all(first[name] != other[name] for name in FILES)
    assert torch.equal(torch.get_rng_state(), before)
    assert sum(map(len, first.values())) < 8e6


# What the published files hold and nothing reads, by folder.
_GENERATOR_UNUSED = {
    "text_embedding.0": (1536, 4096),
    "text_embedding.2": (1536, 1536),
    "audio_emb.proj.0": (768,),
    "audio_emb.proj.1": (768, 768),
    "audio_emb.proj.3": (1536, 768),
    "audio_emb.proj.4": (1536,),
}
UNUSED = {
    folder: {f"{name}.weight": shape for name, shape in shapes.items()}
    | {f"{name}.bias": shape[:1] for name, shape in shapes.items()}
    for folder, shapes in (
        ("Model_Lite", _GENERATOR_UNUSED),
        ("Model_Pro", _GENERATOR_UNUSED),
        ("wav2vec2-base-960h", {"lm_head": (32, 768)}),
    )
}


def test_published_sizes():
    """Tensors, elements and bytes of the published files (DESIGN §1.1), without their weights."""
    counts, sizes = {}, {}
    for model in (PUBLISHED_LITE, PUBLISHED_PRO):
        for name, shapes in published_shapes(model).items():
            shapes |= UNUSED.get(name.partition("/")[0], {})
            counts[name] = (sum(map(math.prod, shapes.values())), len(shapes))
            entries = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
            align = 1 if name.startswith("wav2vec2") else 8  # as they were padded
            sizes[name] = lay_out(entries, {"format": "pt"}, align).file_size
    assert (PUBLISHED_LITE.vae.stride, PUBLISHED_PRO.vae.stride) == ((8, 32, 32), (4, 8, 8))
    wan = "VAE_Wan/Wan2.1_VAE.pth"
    assert counts == {
        "Model_Lite/diffusion_pytorch_model.safetensors": (1_526_864_256, 843),
        "Model_Pro/diffusion_pytorch_model.safetensors": (1_507_694_912, 843),
        "VAE_LTX/diffusion_pytorch_model.safetensors": (419_193_905, 190),
        wan: (126_892_531, 194),
        "wav2vec2-base-960h/model.safetensors": (94_395_552, 212),
    }
    # Parameters saved from a GPU, in torch's older format, which names storages by addresses.
    head = legacy_head(published_shapes(PUBLISHED_PRO)[wan])
    assert abs(len(head) + 8 * counts[wan][1] + 4 * counts[wan][0] - 507_609_880) < 200
    del sizes[wan]
    assert sizes == {
        "Model_Lite/diffusion_pytorch_model.safetensors": 6_107_542_048,
        "Model_Pro/diffusion_pytorch_model.safetensors": 6_030_864_656,
        "VAE_LTX/diffusion_pytorch_model.safetensors": 1_676_798_532,
        "wav2vec2-base-960h/model.safetensors": 377_607_901,
    }


def test_keys_are_the_published_ones(checkpoint, tmp_path):
    """Sizes read from a checkpoint in the published layout give back its keys and shapes."""
    generator, vae, encoder = (
        json.loads((checkpoint / name).with_name("config.json").read_text()) for name in FILES
    )
    sizes = CheckpointConfigs(
        read_generator_config(generator, shapes_in(checkpoint / FILES[0]), ""),
        read_ltx_config(vae, ""),
        read_audio_encoder_config(encoder, ""),
    )
    write_checkpoint(tmp_path, sizes)
    other_names = {"weight_g": "original0", "weight_v": "original1"}  # both spellings are published
    for name in FILES:
        written, expected = shapes_in(tmp_path / name), shapes_in(checkpoint / name)
        for ours, theirs in other_names.items():
            key = "wav2vec2.encoder.pos_conv_embed.conv."
            if key + ours in written:
                written[f"{key}parametrizations.weight.{theirs}"] = written.pop(key + ours)
        unused = ("text_embedding.", "audio_emb.", "lm_head.", "wav2vec2.masked_spec_embed")
        expected = {key: shape for key, shape in expected.items() if not key.startswith(unused)}
        assert written == expected
    bundle = flashhead.load_bundle(tmp_path)
    assert bundle.generator.config == sizes.generator
    assert bundle.vae.config == sizes.vae
    assert bundle.audio_encoder.config == sizes.audio_encoder


@pytest.mark.parametrize(
    "sizes, dtype",
    [
        (MINIATURE, torch.float32),
        (MINIATURE, torch.bfloat16),
        (MINIATURE, torch.float16),
        (MINIATURE_PRO, torch.float32),
    ],
)
def test_frames_are_a_picture_of_something(tmp_path, portrait, sizes, dtype):
    """Neither flat nor saturated, in any stored dtype, without help from colour matching."""
    bundle = flashhead.load_bundle(write_checkpoint(tmp_path, sizes, dtype=dtype), dtype=dtype)
    assert bundle.variant == sizes.variant
    noise = torch.randn(32_000, generator=torch.Generator().manual_seed(0)) * 0.1
    chunks = flashhead.generate(bundle, portrait, noise, 16_000, size=(64, 64), color_match=0)
    frames = torch.cat([chunk.frames for chunk in chunks])
    assert frames.shape == (50, 64, 64, 3)
    assert 0.05 < frames.std() < 0.4
    assert ((frames == 0) | (frames == 1)).float().mean() < 0.3
    assert not torch.equal(frames[0], frames[-1])
