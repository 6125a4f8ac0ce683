"""LeapTalk in ComfyUI: offered where its files are, and as the library makes it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import flashhead
from flashhead.checkpoint.components import open_generator
from flashhead.media.audio_source import FileAudio
from flashhead.models.backend import build
from flashhead.models.config import TinyVAEConfig
from flashhead.models.tiny_vae import TinyVAE
from flashhead.testing import write_adapter

from .graphs import chunk_by_chunk, lite, node
from .pictures import pixels
from .server import CHECKPOINT, PORTRAIT, SPEECH, ComfyServer, PromptFailed

ONE_STEP = f"{CHECKPOINT}/Pro, one step"


@pytest.fixture(scope="module")
def root(server: ComfyServer) -> Iterator[Path]:
    """The server's published folder, with LeapTalk in it while these tests run."""
    root = server.base / "models" / "flashhead" / CHECKPOINT
    folder = root / "LeapTalk"
    write_adapter(folder, open_generator(root / "Model_Pro").config, rank=4)
    loras = server.base / "models" / "loras"
    loras.mkdir(exist_ok=True)
    shutil.copyfile(folder / "lora" / "adapter_model.safetensors", loras / "leaptalk.safetensors")
    yield root
    shutil.rmtree(folder)


def library(server: ComfyServer, bundle, **settings) -> np.ndarray:
    source = FileAudio(server.base / "input" / SPEECH)
    chunks = flashhead.generate(
        bundle, server.base / "input" / PORTRAIT, source, size=(64, 64), **settings
    )
    frames = torch.cat([chunk.frames for chunk in chunks])
    return (frames * 255).numpy().astype(np.int16)


def frames(server: ComfyServer, prompt: dict) -> np.ndarray:
    return pixels(server.images(server.run(prompt), "images"))


def offered(server: ComfyServer) -> list[str]:
    info = server.object_info("FlashHeadLoadCheckpoint")["input"]["required"]["checkpoint"]
    return info[1]["options"] if isinstance(info[0], str) else info[0]


def test_it_is_in_the_list_and_makes_one_step_unless_told(server: ComfyServer, root: Path):
    names = offered(server)
    assert ONE_STEP in names and f"{CHECKPOINT}/Model_Pro" in names
    assert not any("LeapTalk" in name for name in names)
    found = frames(server, lite(checkpoint=ONE_STEP, steps=0, seed=51))
    bundle = flashhead.load_bundle(root, "leaptalk")
    assert np.abs(found - library(server, bundle)).max() <= 1
    assert np.array_equal(found, frames(server, lite(checkpoint=ONE_STEP, steps=0, seed=52)))
    two = frames(server, lite(checkpoint=ONE_STEP, steps=2, seed=51))
    assert np.abs(two - library(server, bundle, steps=2, seed=51)).max() <= 1
    assert np.abs(two - found).max() > 1


def test_its_tiny_vae_from_a_file_of_it_and_by_single_steps(server: ComfyServer, root: Path):
    """`convert` with the tiny VAE, as a name in the list; Sample Chunk and Decode Chunk."""
    bundle = flashhead.load_bundle(root, "leaptalk", vae="tiny")
    expected = library(server, bundle)
    file = root.parent / "one step.safetensors"
    flashhead.convert(root, file, "leaptalk", "fp32", vae="tiny")
    assert np.abs(frames(server, lite(checkpoint=file.name, steps=0)) - expected).max() <= 1
    prompt = chunk_by_chunk(1, checkpoint=ONE_STEP, steps=0)
    prompt["load"]["inputs"]["vae"] = "tiny"
    chunk = pixels(server.images(server.run(prompt), "images0"))
    assert np.abs(chunk - expected[: len(chunk)]).max() <= 1
    file.unlink()


def test_cores_lora_loader_takes_pefts_file(server: ComfyServer, root: Path):
    """On plain Pro, of which it makes what `lora=` makes; the tiny VAE out of models/vae_approx."""
    approx = server.base / "models" / "vae_approx"
    approx.mkdir(exist_ok=True)
    shutil.move(root / "LeapTalk" / "taew2_1.pth", approx / "taew2_1.pth")
    lora = node("LoraLoaderModelOnly", lora_name="leaptalk.safetensors", strength_model=0.5)
    prompt = lite(checkpoint=f"{CHECKPOINT}/Model_Pro", steps=2) | {"lora": lora}
    lora["inputs"]["model"] = ["load", 0]
    prompt["sampler"]["inputs"]["model"] = ["lora", 0]
    prompt["load"]["inputs"]["vae"] = "tiny"
    missed = server.log.count("lora key not loaded")
    found = frames(server, prompt)
    assert server.log.count("lora key not loaded") == missed
    path = f"{root / 'LeapTalk' / 'lora'}:0.5"
    with pytest.warns(UserWarning, match="audio projection"):
        bundle = flashhead.load_bundle(root, "pro", lora=path, vae=approx / "taew2_1.pth")
    assert np.abs(found - library(server, bundle, steps=2)).max() <= 1
    shutil.move(approx / "taew2_1.pth", root / "LeapTalk" / "taew2_1.pth")


def test_the_tiny_vae_of_cores_loader_is_refused(server: ComfyServer, root: Path):
    """ComfyUI takes the file for another model's."""
    vaes = server.base / "models" / "vae"
    shapes = build(lambda: TinyVAE(TinyVAEConfig())).state_dict()
    tensors = {key: torch.zeros(value.shape, dtype=torch.half) for key, value in shapes.items()}
    torch.save(tensors, vaes / "taew2_1.pth")
    prompt = lite(checkpoint=ONE_STEP) | {"wan": node("VAELoader", vae_name="taew2_1.pth")}
    prompt["sampler"]["inputs"]["vae"] = ["wan", 0]
    with pytest.raises(PromptFailed, match="choose 'tiny' as the VAE"):
        server.run(prompt)
    (vaes / "taew2_1.pth").unlink()
