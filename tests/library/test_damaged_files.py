"""Files that are not what their names say: each is one sentence, whatever is in them."""

import io
import json
import os
import random
import shutil
import threading
import weakref
from collections import OrderedDict

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from flashhead import CheckpointError, FlashHeadError, Settings, convert, load_bundle
from flashhead.checkpoint.info import describe
from flashhead.checkpoint.loading import open_checkpoint
from flashhead.checkpoint.weights import open_weights
from flashhead.image.portrait import prepare_portrait
from flashhead.stream.loop import ChunkLoop
from flashhead.stream.state_file import load_state, save_state

WEIGHTS = "diffusion_pytorch_model.safetensors"
WAN = "VAE_Wan/Wan2.1_VAE.pth"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 507609880\n"
DEEP = "[" * 20_000 + "]" * 20_000


def refuse(call, *parts):
    """A call fails with one sentence that holds all the parts, and in time."""
    caught = []

    def work():
        try:
            call()
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(20)
    assert caught, "it hangs, or nothing is wrong with it"
    assert isinstance(caught[0], FlashHeadError), repr(caught[0])
    message = str(caught[0])
    assert "\n" not in message and len(message) < 1000
    for part in parts:
        assert str(part) in message, message


@pytest.fixture
def pro(checkpoint, tmp_path):
    """A copy of the Pro checkpoint, to spoil."""
    for name in ("Model_Pro", "VAE_Wan", "wav2vec2-base-960h"):
        shutil.copytree(checkpoint / name, tmp_path / name)
    return tmp_path


@pytest.fixture(scope="module")
def wan(checkpoint):
    return torch.load(checkpoint / WAN, weights_only=True)


# torch's two formats


@pytest.mark.parametrize("legacy, kind", [(0, nn.Parameter), (1, nn.Parameter), (1, torch.clone)])
def test_weights_that_were_saved_from_a_gpu(legacy, kind, pro, wan, monkeypatch, tmp_path):
    """In either format, as parameters or tensors; the older one is how the Wan VAE was published,
    and torch cannot map it."""
    monkeypatch.setattr(torch.serialization, "location_tag", lambda _storage: "cuda:0")
    weights = OrderedDict((key, kind(tensor)) for key, tensor in wan.items())
    torch.save(weights, pro / WAN, _use_new_zipfile_serialization=not legacy)
    assert b"cuda:0" in (pro / WAN).read_bytes()
    for key, tensor in open_checkpoint(pro).vae.load().state_dict().items():
        assert torch.equal(tensor, wan[key]) and not tensor.requires_grad
    if legacy and kind is nn.Parameter:
        assert "Wan 2.1" in describe(pro)
        convert(pro, tmp_path / "one.safetensors", dtype="fp32")
        one = load_file(tmp_path / "one.safetensors")
        assert all(torch.equal(one[f"vae.{key}"], tensor) for key, tensor in wan.items())


def test_a_file_that_cannot_be_mapped_is_let_go_as_it_is_read(pro, wan, monkeypatch):
    torch.save(wan, pro / WAN, _use_new_zipfile_serialization=False)
    load, held = torch.load, []

    def watched(*arguments, **options):
        tensors = load(*arguments, **options)
        held.append([weakref.ref(tensor.untyped_storage()) for tensor in tensors.values()])
        return tensors

    monkeypatch.setattr(torch, "load", watched)
    file = open_weights(pro / WAN)
    for number, (key, expected) in enumerate(wan.items()):
        assert torch.equal(file[key], expected)
        file.release()
        assert sum(storage() is not None for storage in held[0]) == len(wan) - number - 1
    assert torch.equal(file[key], expected) and len(held) == 2  # it may be asked for again


def test_a_file_is_told_by_its_contents(checkpoint, pro, wan):
    (pro / WAN).unlink()
    save_file(wan, pro / WAN)
    weights = load_file(pro / "Model_Pro" / WEIGHTS)
    (pro / "Model_Pro" / WEIGHTS).unlink()  # it is mapped
    torch.save(weights, pro / "Model_Pro" / WEIGHTS)
    found, expected = open_checkpoint(pro).load(), load_bundle(checkpoint, "pro")
    for part in ("generator", "vae"):
        state = getattr(expected, part).state_dict()
        for key, tensor in getattr(found, part).state_dict().items():
            assert torch.equal(tensor, state[key])


def test_a_vae_that_is_there_but_unreadable(pro):
    """Its own fault is named, not another that would follow from it."""
    for content, says in ((b"", "truncated"), (b"\x80\x02", "truncated"), (POINTER, "Git LFS")):
        (pro / WAN).write_bytes(content)
        refuse(lambda: open_checkpoint(pro), pro / WAN, says)
        assert says in describe(pro)
    (pro / WAN).unlink()
    (pro / WAN).mkdir()
    refuse(lambda: open_checkpoint(pro), pro / WAN, "is a folder")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "change, says",
    [
        (lambda w: w[:1].expand(2**40, *w.shape[1:]), "damaged"),
        (lambda w: w.to_sparse(), "more than tensors"),
        (lambda w: w.to("meta"), "more than tensors"),
        (lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8), "more than tensors"),
        (lambda w: w.to(torch.complex64), "is stored as torch.complex64"),
    ],
)
def test_tensors_of_other_kinds(legacy, change, says, pro, wan):
    key = "encoder.conv1.weight"
    weights = {**wan, key: change(wan[key])}
    torch.save(weights, pro / WAN, _use_new_zipfile_serialization=not legacy)
    refuse(lambda: load_bundle(pro), pro / WAN, says)


@pytest.mark.parametrize(
    "pickled",
    [b"h\x05.", b"(.", b"0.", b"}(K\x01K\x02u.", b"]" * 5000 + b"a" * 4999 + b".", b"K\x01\x85Q."],
)
def test_whatever_torchs_unpickler_raises(pickled, pro):
    (pro / WAN).write_bytes(b"\x80\x02" + pickled)
    refuse(lambda: open_checkpoint(pro), pro / WAN)


def test_more_blocks_than_a_vae_has(pro):
    blocks = [f"encoder.downsamples.{n}.residual.6.weight" for n in range(2000)]
    weights = {key: torch.zeros(1, 1, 1, 1, 1) for key in (*blocks, "encoder.conv1.weight")}
    save_file({**weights, "conv2.weight": torch.zeros(16, 1, 1, 1, 1)}, pro / "vae.safetensors")
    refuse(lambda: describe(pro / "vae.safetensors"), "over 256 blocks")


# A file in another's place


@pytest.mark.parametrize(
    "name",
    [
        f"{folder}/{file}"
        for folder in ("Model_Lite", "VAE_LTX")
        for file in (WEIGHTS, "config.json")
    ]
    + ["wav2vec2-base-960h/config.json", "wav2vec2-base-960h/model.safetensors"],
)
def test_pointers_of_git_lfs_and_web_pages(name, lite):
    (lite / name).write_bytes(POINTER)
    refuse(lambda: open_checkpoint(lite), lite / name, "Git LFS pointer", "git lfs pull")
    (lite / name).write_bytes(b"\n<!DOCTYPE html>\n<title>Sign in</title>")
    refuse(lambda: open_checkpoint(lite), lite / name, "web page")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without named pipes")
@pytest.mark.parametrize("name", ["pipe.safetensors", "pipe.pth"])
def test_a_pipe_is_not_waited_for(name, checkpoint, tmp_path):
    os.mkfifo(tmp_path / name)
    for call in (describe, open_checkpoint, load_state):
        refuse(lambda call=call: call(tmp_path / name), tmp_path / name)
    refuse(lambda: open_checkpoint(checkpoint, "lite", vae=tmp_path / name), "pipe")


# Configs and metadata


@pytest.mark.parametrize(
    "name, key",
    [("Model_Lite", "dim"), ("VAE_LTX", "_class_name"), ("wav2vec2-base-960h", "conv_dim")],
)
def test_a_config_that_is_nested_without_end(name, key, lite):
    path = lite / name / "config.json"
    path.write_text(f'{{"{key}": {DEEP}}}')
    refuse(lambda: open_checkpoint(lite), path, "nested too deeply")
    path.write_text(json.dumps({key: json.loads("[" * 900 + "]" * 900)}))
    refuse(lambda: open_checkpoint(lite), lite / name)


def test_a_config_with_a_byte_order_mark_is_read(lite):
    path = lite / "Model_Lite" / "config.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert open_checkpoint(lite).variant == "lite"


@pytest.fixture(scope="module")
def files(checkpoint, bundle, portrait, tmp_path_factory):
    """A bundle, an LTX VAE with its config in the metadata, and a state."""
    folder = tmp_path_factory.mktemp("files")
    convert(checkpoint, folder / "bundle.safetensors", "lite", "fp8_e4m3fn")
    shutil.copy(checkpoint / "ltx_vae_original_layout.safetensors", folder / "vae.safetensors")
    loop = ChunkLoop(bundle, Settings(size=(32, 32)))
    state = loop.start(prepare_portrait(portrait, (32, 32)).unsqueeze(0))
    save_state(folder / "state.safetensors", state, bundle.geometry)
    return folder


def read(path):
    with safe_open(path, framework="pt") as file:
        return file.metadata(), load_file(path)


@pytest.mark.parametrize(
    "key, change, says",
    [
        ("bundle_version", "9" * 5000, "bundle_version"),
        ("vae_config", DEEP, "vae_config"),
        ("sources", DEEP, "sources"),
        ("trained", '{"size": [1e999, 1], "faces": []}', "trained"),
        ("vae_config", {"layers_per_block": [1000] * 5}, "in all at most"),
        ("vae_config", {"block_out_channels": [1 << 20] * 4, "patch_size": 1 << 20}, "sizes"),
        ("generator_config", {"num_layers": 257}, "in all at most"),
        ("generator_config", {"patch_size": [1 << 20] * 3}, "sizes"),
    ],
)
def test_metadata_of_a_bundle(key, change, says, files, tmp_path):
    metadata, tensors = read(files / "bundle.safetensors")
    if isinstance(change, dict):
        change = json.dumps({**json.loads(metadata[key]), **change})
    path = tmp_path / "x.safetensors"
    save_file(tensors, path, {**metadata, key: change})
    refuse(lambda: describe(path), path, says)


@pytest.mark.parametrize("shape", [(), (3,), (0, 1 << 40), (1 << 40, 0)])
@pytest.mark.parametrize("key", ["audio_proj.proj1.weight", "audio_proj.proj3.weight"])
def test_a_generators_sizes_that_are_none(key, shape, files, tmp_path):
    metadata, tensors = read(files / "bundle.safetensors")
    path = tmp_path / "x.safetensors"
    save_file({**tensors, f"generator.{key}": torch.zeros(shape)}, path, metadata)
    refuse(lambda: describe(path), path, "audio_proj")


@pytest.mark.parametrize(
    "change",
    [
        {"blocks": [["res_x", float("inf")]]},
        {"blocks": [["res_x_y", 1]] * 200, "encoder_base_channels": [1]},
        {"blocks": [[["res_x"], 1]]},
        {"latent_channels": 1 << 70},
    ],
)
def test_blocks_of_an_original_ltx_vae(change, files, tmp_path):
    metadata, tensors = read(files / "vae.safetensors")
    config = {"vae": {**json.loads(metadata["config"])["vae"], **change}}
    path = tmp_path / "x.safetensors"
    save_file(tensors, path, {**metadata, "config": json.dumps(config)})
    refuse(lambda: describe(path), path)


# States


@pytest.mark.parametrize(
    "key, change",
    [
        ("index", "-1"),
        ("index", ""),
        ("index", "9" * 5000),
        ("geometry", ""),
        ("geometry", DEEP),
        ("geometry", {"vae_stride": [8, 32]}),
        ("geometry", {"vae_stride": [8, 0, 32]}),
        ("geometry", {"vae_stride": [40, 32, 32]}),
        ("geometry", {"patch_size": ["1", 1, 1]}),
        ("geometry", {"latent_channels": None}),
        ("latents", lambda t: t[:, :4]),
        ("latents", lambda t: t.double()),
        ("latents", lambda t: torch.zeros(1 << 40, 0, 5, 2, 1)),
        ("motion", lambda t: t.expand(-1, -1, 3, -1, -1)),
        ("motion", lambda t: t * float("nan")),
        ("color_std", lambda t: t.flatten()),
        ("audio", lambda t: t.sum()),
        ("rng.0", lambda t: t[1:]),
        ("rng.0", lambda t: t.float()),
        ("rng.0", lambda t: torch.full_like(t, 255)),
        ("rng.1", lambda t: torch.zeros(5056)),
        ("shown", lambda t: torch.zeros(1, 3, 64, 32)),
    ],
)
def test_a_state_that_no_stream_has(key, change, files, tmp_path):
    metadata, tensors = read(files / "state.safetensors")
    if callable(change):
        tensors[key] = change(tensors.get(key)).clone()
    elif isinstance(change, dict):
        metadata[key] = json.dumps({**json.loads(metadata[key]), **change})
    else:
        metadata[key] = change
    path = tmp_path / "x.safetensors"
    save_file(tensors, path, metadata)
    refuse(lambda: load_state(path), path)
    if not callable(change):
        del metadata[key]
        save_file(tensors, path, metadata)
        refuse(lambda: load_state(path), path)


# Whatever else there may be


def damaged(content, rng):
    """A safetensors file cut, with some bits changed, or with another value in its header."""
    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    kind = rng.randrange(4)
    if kind == 0:
        return content[: rng.randrange(len(content))]
    if kind == 1:
        spoilt = bytearray(content)
        for _ in range(3):
            spoilt[rng.randrange(8 + length)] ^= 1 << rng.randrange(8)
        return bytes(spoilt)
    values = [None, True, -1, 0, 1.5, 1e308, 10**30, "", "x", [], {}, [1], [[]], float("nan")]
    owner = header
    if kind == 2:  # in what is JSON again, inside the metadata
        metadata = header["__metadata__"]
        key = rng.choice([key for key in metadata if metadata[key][0] in "{["])
        owner = json.loads(metadata[key])
    inside = owner
    while True:
        choice = rng.choice(list(inside) if isinstance(inside, dict) else range(len(inside)))
        if (
            not isinstance(inside[choice], dict | list)
            or not inside[choice]
            or not rng.randrange(3)
        ):
            break
        inside = inside[choice]
    inside[choice] = rng.choice(values)
    if kind == 2:
        metadata[key] = json.dumps(owner)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(
    "name, call", [("bundle", describe), ("vae", describe), ("state", load_state)]
)
def test_a_damaged_file_is_read_or_refused(name, call, files, tmp_path):
    rng = random.Random(0)
    content = (files / f"{name}.safetensors").read_bytes()
    path, refused = tmp_path / "x.safetensors", 0
    for _ in range(20 if name == "bundle" else 60):
        path.write_bytes(damaged(content, rng))
        try:
            call(path)
        except FlashHeadError as error:
            assert len(str(error)) < 1000
            refused += 1
    assert refused > 10


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_damaged_torch_file_is_read_or_refused(tmp_path):
    rng, content, path, refused = random.Random(0), io.BytesIO(), tmp_path / "vae.pth", 0
    weights = {f"layer.{n}.weight": nn.Parameter(torch.zeros(2, n)) for n in range(6)}
    torch.save(weights, content, _use_new_zipfile_serialization=False)
    for _ in range(100):
        spoilt = bytearray(content.getvalue())
        for _ in range(2):
            spoilt[rng.randrange(len(spoilt))] = rng.choice(b"\x00\x80\xff.()}]QRhbtuq")
        path.write_bytes(spoilt)
        try:
            open_weights(path)
        except CheckpointError as error:
            assert len(str(error)) < 1000
            refused += 1
    assert refused > 30
