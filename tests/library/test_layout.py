"""Checkpoints as they lie on people's disks (other packs' folders, caches, parts in several
folders), and for everything else an error that says what to download."""

import json
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from flashhead import CheckpointError, load_bundle
from flashhead.checkpoint.info import describe
from flashhead.checkpoint.loading import open_checkpoint
from flashhead.cli.main import main

WEIGHTS = "diffusion_pytorch_model.safetensors"
MODEL = "huggingface.co/Soul-AILab/SoulX-FlashHead-1_3B"
ENCODER = "huggingface.co/facebook/wav2vec2-base-960h"


@pytest.fixture
def parts(checkpoint, tmp_path):
    """(name in the checkpoint, target path) -> a copy of a component, alone."""

    def copy(name, target):
        target = tmp_path / target
        if (checkpoint / name).is_dir():
            return shutil.copytree(checkpoint / name, target)
        target.parent.mkdir(parents=True, exist_ok=True)
        return shutil.copy(checkpoint / name, target)

    return copy


def refuse(path, *says, variant=None, **paths):
    with pytest.raises(CheckpointError) as raised:
        open_checkpoint(path, variant, **paths)
    message = str(raised.value)
    assert "\n" not in message
    for part in says:
        assert str(part) in message


def test_the_folders_of_another_node_pack(parts, tmp_path, monkeypatch):
    root = tmp_path / "models" / "Soul-AILab" / "SoulX-FlashHead-1_3B"
    for name in ("Model_Lite", "Model_Pro", "VAE_LTX", "VAE_Wan"):
        parts(name, root / name)
    parts("wav2vec2-base-960h", "models/wav2vec/facebook/wav2vec2-base-960h")
    for variant in ("lite", "pro"):
        assert open_checkpoint(root, variant).variant == variant
    monkeypatch.chdir(root)
    assert open_checkpoint(".", "pro").variant == "pro"
    assert open_checkpoint("Model_Pro").variant == "pro"


def cache(hub, repository, files):
    """A repository in Hugging Face's cache: its revision's files link to blobs by checksum."""
    folder = hub / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / "0123abcd"
    for number, (name, source) in enumerate(sorted(files.items())):
        blob, link = folder / "blobs" / f"{number:040x}", snapshot / name
        blob.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, blob)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0123abcd")
    return folder


@pytest.mark.parametrize("given", ["repository", "snapshot", "no branch"])
def test_the_cache_of_hugging_face(given, checkpoint, tmp_path, capsys):
    hub = tmp_path / "hub"
    encoder = checkpoint / "wav2vec2-base-960h"
    cache(hub, "facebook/wav2vec2-base-960h", {f.name: f for f in encoder.iterdir()})
    folders = [checkpoint / name for name in ("Model_Pro", "VAE_Wan")]
    files = {f"{folder.name}/{f.name}": f for folder in folders for f in folder.iterdir()}
    path = cache(hub, "Soul-AILab/SoulX-FlashHead-1_3B", files)
    if given == "snapshot":
        path = path / "snapshots" / "0123abcd"
    elif given == "no branch":
        shutil.rmtree(path / "refs")
    assert open_checkpoint(path).variant == "pro"
    assert main(["info", str(path)]) == 0
    assert "published folder with pro" in capsys.readouterr().out


@pytest.mark.parametrize("given", ["folder", "file"])
def test_parts_in_several_folders(given, parts, bundle):
    generator = parts("Model_Lite", "diffusion/talking head")
    if given == "file":
        generator = generator / WEIGHTS
    vae = parts("ltx_vae_original_layout.safetensors", "vae/ltx.safetensors")
    encoder = parts("wav2vec2-base-960h", "audio/wav2vec2")
    paths = {"vae": vae, "audio_encoder": encoder}
    refuse(generator, "lite, pro, pretrained", **paths)
    loaded = load_bundle(str(generator), "lite", vae=str(vae), audio_encoder=str(encoder))
    for part in ("generator", "vae", "audio_encoder"):
        expected = getattr(bundle, part).state_dict()
        for key, tensor in getattr(loaded, part).state_dict().items():
            assert torch.equal(tensor, expected[key]), key
    weights = {**paths, "audio_encoder": encoder / "model.safetensors"}
    assert open_checkpoint(generator, "lite", **weights).variant == "lite"


def test_comfyuis_wan_vae(parts, checkpoint):
    """16-bit safetensors of the .pth's keys, elsewhere or in the published folder."""
    weights = torch.load(checkpoint / "VAE_Wan" / "Wan2.1_VAE.pth", weights_only=True)
    vae = parts("VAE_LTX", "models/vae") / "wan_2.1_vae.safetensors"
    save_file({key: tensor.bfloat16().contiguous() for key, tensor in weights.items()}, vae)
    loaded = load_bundle(checkpoint, "pro", vae=vae)
    expected = load_bundle(checkpoint, "pro").vae.state_dict()
    for key, tensor in loaded.vae.state_dict().items():
        assert torch.equal(tensor, expected[key].bfloat16().float()), key
    refuse(checkpoint, "VAE of the other variant", variant="lite", vae=vae)


def test_a_generators_folder_says_its_variant(checkpoint):
    assert open_checkpoint(checkpoint / "Model_Pro").variant == "pro"
    assert open_checkpoint(checkpoint / "Model_Lite" / WEIGHTS).variant == "lite"
    refuse(checkpoint / "Model_Lite", "'lite', not 'pro'", variant="pro")


def test_a_linked_folder(lite, tmp_path):
    link = tmp_path / "elsewhere" / "model"
    link.parent.mkdir()
    link.symlink_to(lite, target_is_directory=True)
    assert open_checkpoint(link).variant == "lite"


# What is missing, and where it is to be had


@pytest.mark.parametrize(
    "name, repository",
    [
        ("Model_Lite/config.json", MODEL),
        (f"Model_Lite/{WEIGHTS}", MODEL),
        ("VAE_LTX/config.json", MODEL),
        (f"VAE_LTX/{WEIGHTS}", MODEL),
        ("wav2vec2-base-960h/config.json", ENCODER),
        ("wav2vec2-base-960h/model.safetensors", ENCODER),
    ],
)
def test_a_missing_file(name, repository, lite):
    (lite / name).unlink()
    if name.startswith("Model_Lite/config"):
        refuse(lite, lite, "Model_Lite", repository)
        refuse(lite / "Model_Lite", lite / name, repository)
    elif name == "wav2vec2-base-960h/config.json":
        refuse(lite, (lite / name).parent, repository)
        encoder = (lite / name).parent
        refuse(lite, lite / name, repository, audio_encoder=encoder)
    else:
        refuse(lite, lite / name, repository)


@pytest.mark.parametrize(
    "name, near",
    [
        ("Model_Lite/config.json", "config.json.txt"),
        ("Model_Lite/config.json", "config (1).json"),
        (f"Model_Lite/{WEIGHTS}", f"{WEIGHTS}.part"),
        (f"VAE_LTX/{WEIGHTS}", "Diffusion_PyTorch_Model.safetensors"),
        ("VAE_LTX/config.json", "config.json.txt"),
        ("wav2vec2-base-960h/config.json", "config.json.json"),
        ("wav2vec2-base-960h/model.safetensors", "model (1).safetensors"),
    ],
)
def test_a_file_under_nearly_the_right_name(name, near, lite):
    (lite / name).rename((lite / name).with_name(near))
    refuse(lite, f"{lite / name} does not exist ({near} does")
    assert f"{lite / name} does not exist ({near} does" in describe(lite)


def test_a_generators_folder_with_nothing_in_it(lite):
    for file in (lite / "Model_Lite").iterdir():
        file.unlink()
    for variant in (None, "lite"):
        refuse(lite, lite / "Model_Lite" / WEIGHTS, variant=variant)
    refuse(lite, "no Model_Pro folder", variant="pro")


@pytest.mark.parametrize("other", ["pytorch_model.bin", "tf_model.h5"])
def test_the_audio_encoder_in_another_format(other, lite):
    folder = lite / "wav2vec2-base-960h"
    (folder / "model.safetensors").rename(folder / other)
    for paths in ({}, {"audio_encoder": folder}):
        refuse(lite, folder, other, "model.safetensors", ENCODER, **paths)


def test_an_interrupted_download(lite):
    """A link of Hugging Face's cache to a blob that is not there yet."""
    weights = lite / "Model_Lite" / WEIGHTS
    weights.unlink()
    weights.symlink_to(lite / "blobs" / "gone")
    refuse(lite, weights, "does not exist", MODEL)


@pytest.mark.parametrize("name", ["vae", "audio_encoder"])
def test_a_path_that_is_not_there(name, lite):
    refuse(lite, lite / "nowhere", **{name: lite / "nowhere"})
    (lite / "empty").mkdir()
    refuse(lite, lite / "empty", **{name: lite / "empty"})


def test_the_wrong_part_at_a_path(lite):
    vae, encoder = lite / "VAE_LTX", lite / "wav2vec2-base-960h"
    refuse(lite, encoder, vae=encoder / "model.safetensors")
    refuse(lite, vae, audio_encoder=vae / WEIGHTS)
    refuse(vae, vae, variant="lite")


def test_another_audio_encoder(lite, tmp_path):
    """A wav2vec2 of fewer layers loads, but its features are not those that the generator takes."""
    other = shutil.copytree(lite / "wav2vec2-base-960h", tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 2}))
    refuse(lite, "2 layers of 16", "32 features", "needs 48", ENCODER, audio_encoder=other)


def test_paths_on_the_command_line(parts, checkpoint, tmp_path, capsys):
    generator = parts("Model_Pro", "Model_Pro")
    arguments = ["convert", str(generator), str(tmp_path / "pro.safetensors"), "--quiet"]
    assert main(arguments) == 1
    assert "VAE_Wan" in capsys.readouterr().err
    vae, encoder = checkpoint / "VAE_Wan", checkpoint / "wav2vec2-base-960h"
    arguments += ["--vae", str(vae), "--audio-encoder", str(encoder)]
    assert main(arguments) == 0
    assert "vae.decoder.conv1.weight" in load_file(tmp_path / "pro.safetensors")


# Configs of impossible values


@pytest.mark.parametrize(
    "change",
    [
        {"block_out_channels": 4},
        {"block_out_channels": []},
        {"block_out_channels": [4, 8, 16]},
        {"block_out_channels": [4, 8, 16, 0]},
        {"layers_per_block": [2, 1, 1, 1]},
        {"layers_per_block": [2, 1, 1, 1, "2"]},
        {"layers_per_block": [2, 1, 1, 1, -1]},
        {"decoder_layers_per_block": [2, 1, 1, 1]},
        {"decoder_layers_per_block": [2, 1, 1, True, 1]},
        {"spatio_temporal_scaling": [True, True, True]},
        {"spatio_temporal_scaling": [1, 1, 1, 0]},
        {"latent_channels": 0},
        {"latent_channels": 8.0},
        {"in_channels": None},
        {"out_channels": -3},
        {"patch_size": True},
        {"encoder_causal": "yes"},
        {"decoder_causal": 0},
    ],
)
def test_vae_config(change, lite):
    spoil(lite / "VAE_LTX", change)
    # A list's length may be what is wrong with another's.
    refuse(lite, lite / "VAE_LTX", "config's")
    if "block_out_channels" not in change:
        refuse(lite, f"config's {next(iter(change))} is {next(iter(change.values()))!r}")


@pytest.mark.parametrize(
    "change",
    [
        {"conv_dim": 8},
        {"conv_dim": [8, -8]},
        {"conv_kernel": [10, 3]},
        {"conv_stride": [5, 2, 2, 2, 2, 2, 0]},
        {"conv_bias": None},
        {"hidden_size": 0},
        {"intermediate_size": "wide"},
        {"num_attention_heads": 3},
        {"num_hidden_layers": 10**9},
        {"num_conv_pos_embeddings": 1.5},
        {"num_conv_pos_embedding_groups": 5},
        {"layer_norm_eps": 0},
        {"layer_norm_eps": "small"},
    ],
)
def test_audio_encoder_config(change, lite):
    spoil(lite / "wav2vec2-base-960h", change)
    refuse(lite, lite / "wav2vec2-base-960h", "config's")
    if change.keys() != {"conv_dim"}:
        refuse(lite, f"config's {next(iter(change))} is {next(iter(change.values()))!r}")


@pytest.mark.parametrize(
    "change", [{"eps": "x"}, {"eps": -1}, {"eps": None}, {"freq_dim": 31}, {"num_layers": 10**30}]
)
def test_generator_config(change, lite):
    spoil(lite / "Model_Lite", change)
    refuse(lite, lite / "Model_Lite", f"config's {next(iter(change))}")


def spoil(folder, change):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))


@pytest.mark.parametrize(
    "change",
    [
        {"blocks": [["res_x", "many"]]},
        {"blocks": [["compress_all", 1]]},
        {"blocks": [["res_x"]]},
        {"latent_channels": None},
        {"patch_size": 0},
    ],
)
def test_original_vae_config(change, lite, checkpoint):
    source = checkpoint / "ltx_vae_original_layout.safetensors"
    with safe_open(source, framework="pt") as file:
        config = json.loads(file.metadata()["config"])
    config["vae"] |= change
    if "blocks" in change:
        config["vae"] |= {"encoder_blocks": change["blocks"], "decoder_blocks": change["blocks"]}
    path = lite / "ltx.safetensors"
    save_file(load_file(source), path, {"config": json.dumps(config)})
    refuse(lite, path, vae=path)
