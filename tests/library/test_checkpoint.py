"""Loading: every layout that is published, and one clear error for everything else."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

import flashhead
from flashhead import CheckpointError, load_bundle
from flashhead.checkpoint.loading import open_checkpoint

GENERATOR = "Model_Lite/diffusion_pytorch_model.safetensors"
VAE = "VAE_LTX/diffusion_pytorch_model.safetensors"
ENCODER = "wav2vec2-base-960h/model.safetensors"
UNUSED = ("text_embedding.", "audio_emb.")


def weights(bundle):
    networks = (bundle.generator, bundle.vae, bundle.audio_encoder)
    return [item for network in networks for item in network.state_dict().items()]


@pytest.fixture
def same(bundle):
    """Asserts that a bundle has the miniature's weights, to the bit."""

    def check(other, of=lambda tensor: tensor):
        for (name, tensor), (wanted, expected) in zip(weights(other), weights(bundle), strict=True):
            assert name == wanted
            assert torch.equal(tensor, of(expected)), name

    return check


def refuse(path, *parts, variant=None, **options):
    """Loading fails with one sentence that holds all the parts."""
    with pytest.raises(CheckpointError) as raised:
        load_bundle(path, variant, **options)
    message = str(raised.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message


def test_sizes_are_read_from_config_and_shapes(bundle):
    config = bundle.generator.config
    assert (config.dim, config.num_heads, config.num_layers, config.out_dim) == (40, 2, 3, 8)
    assert (config.audio_width, config.audio_hidden, config.audio_tokens) == (48, 24, 4)
    geometry = bundle.geometry
    assert (geometry.motion_frames, geometry.new_frames, geometry.latent_frames) == (9, 24, 5)
    assert (bundle.variant, bundle.dtype, bundle.device) == (
        "lite",
        torch.float32,
        torch.device("cpu"),
    )


def test_weights_need_no_gradient(bundle):
    for network in (bundle.generator, bundle.vae, bundle.audio_encoder):
        assert not network.training
        assert not any(p.requires_grad or p.is_meta for p in network.parameters())


def test_unused_keys_may_be_there_or_not(lite, rewrite, same):
    rewrite(
        lite / GENERATOR, lambda w: {key: t for key, t in w.items() if not key.startswith(UNUSED)}
    )
    same(load_bundle(lite))
    rewrite(lite / GENERATOR, lambda w: {**w, "something.new": torch.zeros(3)})
    same(load_bundle(lite))


def test_the_only_variant_needs_no_name(lite, same):
    bundle = load_bundle(str(lite))
    assert bundle.variant == "lite"
    same(bundle)


@pytest.mark.parametrize("place", ["inside", "beside", "pack"])
def test_the_audio_encoder_is_found_where_tools_put_it(place, lite, same):
    root = lite.parent / "models" / "Soul-AILab" / "SoulX-FlashHead-1_3B"
    shutil.copytree(lite, root)
    folder = {
        "inside": root / "wav2vec2-base-960h",
        "beside": root.parent / "facebook" / "wav2vec2-base-960h",
        "pack": root.parent.parent / "wav2vec" / "facebook" / "wav2vec2-base-960h",
    }[place]
    folder.parent.mkdir(parents=True, exist_ok=True)
    (root / "wav2vec2-base-960h").rename(folder)
    same(load_bundle(root))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_stored_in_16_bit_load_in_any_dtype(dtype, lite, rewrite, bundle):
    for name in (GENERATOR, VAE, ENCODER):
        rewrite(lite / name, lambda w: {key: t.to(dtype) for key, t in w.items()})
    stored = load_bundle(lite)
    for (name, tensor), (_, original) in zip(weights(stored), weights(bundle), strict=True):
        if "pos_conv_embed.conv.weight" not in name:  # folded from two
            assert torch.equal(tensor.float(), original.to(dtype).float()), name
    assert {p.dtype for p in stored.generator.parameters()} == {torch.float32}
    halved = load_bundle(lite, dtype=dtype)
    for network in (halved.generator, halved.vae):
        # LTX's VAE is never in float16.
        own = torch.float32 if network is halved.vae and dtype == torch.float16 else dtype
        assert {p.dtype for p in network.parameters()} == {own}
    assert {p.dtype for p in halved.audio_encoder.parameters()} == {torch.float32}


def test_an_opened_checkpoint_loads_without_being_found_again(lite, same):
    opened = open_checkpoint(lite)
    (lite / "Model_Lite" / "config.json").unlink()
    same(opened.load())
    assert opened.load("cpu", torch.bfloat16).dtype == torch.bfloat16
    with pytest.raises(CheckpointError, match="float32, bfloat16 or float16"):
        opened.load(dtype=torch.float64)


def test_loading_changes_nothing_on_disk(lite):
    def listing():
        return sorted((p, p.stat().st_mtime_ns, p.stat().st_size) for p in lite.rglob("*"))

    before = listing()
    load_bundle(lite)
    assert listing() == before


# What is not there


def test_no_folder(tmp_path):
    refuse(tmp_path / "nowhere", tmp_path / "nowhere", "SoulX-FlashHead-1_3B")


def test_an_empty_folder(tmp_path):
    refuse(tmp_path, tmp_path, "Model_Lite", "download")


def test_an_unknown_variant(lite):
    refuse(lite, "'light'", "lite, pro, pretrained", variant="light")


def test_a_variant_that_is_not_there(lite):
    refuse(lite, "Model_Pro", "holds lite", variant="pro")


def test_two_variants_and_none_named(lite, checkpoint, same):
    shutil.copytree(checkpoint / "Model_Pro", lite / "Model_Pro")
    refuse(lite, lite, "lite, pro", "name the one")
    same(load_bundle(lite, "lite"))


def test_no_vae(lite):
    shutil.rmtree(lite / "VAE_LTX")
    refuse(lite, lite / "VAE_LTX", "does not exist")


def test_no_audio_encoder(lite):
    shutil.rmtree(lite / "wav2vec2-base-960h")
    refuse(lite, lite / "wav2vec2-base-960h", "facebook/wav2vec2-base-960h")


def test_an_unsupported_dtype(lite):
    refuse(lite, "torch.float64", "float32, bfloat16 or float16", dtype=torch.float64)


# What is damaged


@pytest.mark.parametrize("name", [GENERATOR, VAE, ENCODER])
@pytest.mark.parametrize("kept", [0, 5, 4000, -1])
def test_a_truncated_file(name, kept, lite):
    path = lite / name
    path.write_bytes(path.read_bytes()[:kept])
    refuse(lite, path, "truncated")


def test_a_file_that_is_no_safetensors(lite):
    (lite / GENERATOR).write_bytes(b"no weights" * 50)
    refuse(lite, lite / GENERATOR, "no safetensors file")


@pytest.mark.parametrize(
    "name", ["Model_Lite/config.json", "VAE_LTX/config.json", "wav2vec2-base-960h/config.json"]
)
@pytest.mark.parametrize(("content", "message"), [("{", "not readable JSON"), ("[]", "list")])
def test_a_config_that_is_no_config(name, content, message, lite):
    (lite / name).write_text(content)
    refuse(lite, lite / name, message)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("Model_Lite/config.json", "num_heads"),
        ("Model_Lite/config.json", "vae_stride"),
        ("VAE_LTX/config.json", "block_out_channels"),
        ("wav2vec2-base-960h/config.json", "conv_stride"),
    ],
)
def test_a_config_that_lacks_a_size(name, key, lite):
    config = json.loads((lite / name).read_text())
    del config[key]
    (lite / name).write_text(json.dumps(config))
    refuse(lite, (lite / name).parent, f"'{key}'")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": "two"}, "num_heads"),
        ({"dim": 0}, "dim"),
        ({"num_heads": 3}, "num_heads"),
        ({"patch_size": 1}, "patch_size"),
        ({"patch_size": [1, 1]}, "patch_size"),
        ({"vae_stride": None}, "vae_stride"),
    ],
)
def test_a_config_of_impossible_sizes(change, message, lite):
    path = lite / "Model_Lite" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    refuse(lite, lite / "Model_Lite", message)


@pytest.mark.parametrize(
    ("name", "key", "shape"),
    [
        (GENERATOR, "blocks.1.self_attn.q.weight", (40, 40)),
        (GENERATOR, "head.modulation", (1, 2, 40)),
        (GENERATOR, "audio_proj.proj2.bias", (24,)),
        (VAE, "decoder.conv_in.conv.weight", (16, 8, 3, 3, 3)),
        (VAE, "latents_std", (8,)),
        (ENCODER, "encoder.layers.2.final_layer_norm.bias", (16,)),
    ],
)
def test_a_missing_or_misshapen_key(name, key, shape, lite, rewrite):
    full = f"wav2vec2.{key}" if name == ENCODER else key
    rewrite(lite / name, lambda w: {**w, full: torch.zeros(3, 5)})
    refuse(lite, lite / name, f"'{key}'", "(3, 5)", shape)
    rewrite(lite / name, lambda w: {k: t for k, t in w.items() if k != full})
    refuse(lite, lite / name, f"'{key}'", "missing", shape)


def test_a_missing_weight_norm(lite, rewrite):
    rewrite(
        lite / ENCODER, lambda w: {k: t for k, t in w.items() if not k.endswith("weight.original0")}
    )
    refuse(lite, lite / ENCODER, "encoder.pos_conv_embed.conv.weight", "missing", (16, 4, 16))


@pytest.mark.parametrize("change", [{"dim": 48}, {"num_layers": 4}, {"in_dim": 32}])
def test_a_config_of_other_sizes_than_the_weights(change, lite):
    path = lite / "Model_Lite" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    refuse(lite, lite / GENERATOR, "expected")


# What is of something else


def test_a_foreign_generator(lite):
    save_file({"conv.weight": torch.zeros(3)}, lite / GENERATOR)
    refuse(lite, lite / GENERATOR, "audio_proj.proj1.weight", "not a FlashHead generator")


def test_a_foreign_vae(lite):
    save_file({"conv.weight": torch.zeros(3)}, lite / VAE)
    refuse(
        lite, lite / VAE, "neither the Wan 2.1 VAE, the LTX 0.9.0 VAE nor taew2_1", "'conv.weight'"
    )


def test_a_foreign_audio_encoder(lite):
    save_file({"conv.weight": torch.zeros(3)}, lite / ENCODER)
    refuse(lite, lite / ENCODER, "missing", "expected shape")


def test_the_other_variants_weights(lite, checkpoint):
    """Pro's generator under Lite's name, then Pro's weights under Lite's config."""
    config = (lite / "Model_Lite" / "config.json").read_text()
    for file in (checkpoint / "Model_Pro").iterdir():
        shutil.copy(file, lite / "Model_Lite")
    refuse(lite, "VAE of the other variant", "8 latent channels", "needs 16")
    (lite / "Model_Lite" / "config.json").write_text(config)
    refuse(lite, lite / GENERATOR, "has shape", "expected")


def test_every_error_is_a_flashhead_error_and_a_value_error():
    assert issubclass(CheckpointError, flashhead.FlashHeadError)
    assert issubclass(flashhead.FlashHeadError, ValueError)
