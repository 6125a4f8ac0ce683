"""What comes with the pack, in a ComfyUI that has nothing else: no model and no picture."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from PIL import Image

import flashhead
from flashhead.examples import SPEECH
from flashhead.image.crop import crop_to_cover, cut
from flashhead.image.portrait import load_portrait
from flashhead.media.audio_source import FileAudio
from flashhead.pocket import portraits

from .graphs import lite, node
from .pictures import pixels
from .server import ComfyServer

SIZE = 96
NOISE = "noise.png"


@pytest.fixture(scope="module")
def bare(comfyui, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """A ComfyUI as it is after the pack was installed, and without torchaudio besides."""
    base = tmp_path_factory.mktemp("bare") / "base"
    server = ComfyServer(comfyui, base, broken={"torchaudio": "ImportError"})
    for folder in ("models", "input"):
        shutil.rmtree(server.base / folder)
        (server.base / folder).mkdir()
    with server:
        yield server


def noise() -> bytes:
    """A picture that no checkpoint of drawn faces gives back."""
    file = io.BytesIO()
    values = np.random.default_rng(1).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    Image.fromarray(values).save(file, "png")
    return file.getvalue()


def pocket(face: str | None = "Ada", size: int = SIZE, **settings) -> dict:
    """`lite` with what comes with the pack; `face` None is a portrait of noise."""
    prompt = lite(checkpoint="pocket", portrait=NOISE, width=size, height=size, **settings)
    prompt["example"] = node("FlashHeadExample", face=face or "Ada")
    if face is not None:
        prompt["portrait"]["inputs"]["image"] = ["example", 0]
        del prompt["picture"]
    for name in ("audio", "create"):
        prompt[name]["inputs"]["audio"] = ["example", 1]
    del prompt["speech"]
    return prompt


def stream(**settings) -> dict:
    """The beginning of a stream, which "keep" saves."""
    prompt = pocket(**settings)
    graph = {
        key: prompt[key] for key in ("load", "example", "picture", "portrait") if key in prompt
    }
    graph["start"] = node("FlashHeadStartStream", vae=["load", 1], portrait=["portrait", 0], seed=1)
    graph["keep"] = node("FlashHeadSaveState", state=["start", 0], name="pocket")
    return graph


def texts(server: ComfyServer, prompt: dict, *, check: bool = True) -> list[tuple[str, str]]:
    """The node and the text of all that is shown while a prompt runs."""
    server.place_input(NOISE, noise())
    prompt_id = server.queue(prompt)
    server.wait(prompt_id, check=check)
    shown = server.events_of(prompt_id, "text")
    return [(event["data"]["node"], event["data"]["text"]) for event in shown]


def test_pocket_is_the_default_of_load_checkpoint(server: ComfyServer, bare: ComfyServer):
    def names(where: ComfyServer) -> list[str]:
        info = where.object_info("FlashHeadLoadCheckpoint")["input"]["required"]["checkpoint"]
        assert "default" not in info[1]
        return info[1].get("options") or info[0]

    assert names(bare) == ["pocket"]
    assert names(server)[0] == "pocket"
    assert "tiny/Model_Lite" in names(server)


def test_the_example_is_the_packs_own_portrait_and_speech(bare: ComfyServer):
    (options,) = bare.object_info("FlashHeadExample")["input"]["required"].values()
    assert (options[1].get("options") or options[0]) == list(portraits())
    prompt = {
        "example": node("FlashHeadExample", face="Hugo"),
        "image": node("SaveImage", images=["example", 0], filename_prefix="face"),
        "sound": node("SaveAudio", audio=["example", 1], filename_prefix="speech"),
    }
    entry = bare.run(prompt)
    found, expected = bare.images(entry, "image"), [Image.open(portraits()["Hugo"])]
    assert np.abs(pixels(found) - pixels(expected)).max() <= 1
    (item,) = bare.outputs(entry, "sound", "audio")
    said, speech = FileAudio(bare.output_path(item)), FileAudio(SPEECH)
    assert said.sample_rate == speech.sample_rate
    whole = [torch.cat(list(source.blocks()), dim=1) for source in (said, speech)]
    assert torch.allclose(*whole, atol=1e-4)


def test_a_first_run_gives_what_the_library_gives(bare: ComfyServer):
    prompt_id = bare.queue(pocket())
    entry = bare.wait(prompt_id, timeout=120)
    found = pixels(bare.images(entry, "images"))
    picture, speech = load_portrait(portraits()["Ada"]), FileAudio(SPEECH)
    portrait = cut(picture, crop_to_cover((picture.height, picture.width), (SIZE, SIZE)))
    bundle = flashhead.load_bundle("pocket")
    frames = torch.cat([chunk.frames for chunk in flashhead.generate(bundle, portrait, speech)])
    expected = (frames * 255).numpy().astype(np.int16)
    assert found.shape == expected.shape
    assert found.shape[1:] == (SIZE, SIZE, 3)
    difference = np.abs(found - expected)
    # ComfyUI's kernels round differently, and that is fed back from step to step.
    assert difference.max() <= 12
    assert difference.mean() < 0.05
    assert bare.outputs(entry, "video")
    shown = [event["data"]["text"] for event in bare.events_of(prompt_id, "text")]
    assert shown
    assert not any("Lite" in text for text in shown)


def test_a_portrait_of_another_size_is_warned_of_to_the_end(bare: ComfyServer):
    """The last line that the sampler shows has it too."""
    shown = texts(bare, pocket(None, size=128))
    assert {name for name, _ in shown} == {"sampler"}
    for text in (shown[0][1], shown[-1][1]):
        assert "128x128" in text
        assert "Lite" in text
    assert "real time" in shown[-1][1]
    assert "Lite" in bare.log


def test_a_foreign_portrait_is_warned_of(bare: ComfyServer):
    ((name, text),) = texts(bare, stream(face=None))
    assert name == "start"
    assert "none of them" in text
    assert "Lite" in text


def test_only_the_portrait_that_is_foreign_is_warned_of(bare: ComfyServer):
    prompt = stream(face="Bayo")
    prompt["noise"] = node("LoadImage", image=NOISE)
    prompt["switch"] = node(
        "FlashHeadSwitchPortrait", state=["start", 0], vae=["load", 1], portrait=["noise", 0]
    )
    prompt["keep"]["inputs"]["state"] = ["switch", 0]
    ((name, text),) = texts(bare, prompt)
    assert name == "switch"
    assert "none of them" in text


def test_live_warns_as_long_as_it_runs(bare: ComfyServer):
    prompt = pocket(None)
    sampler = prompt["sampler"]["inputs"]
    settings = {k: v for k, v in sampler.items() if k != "audio"}
    live = node(
        "FlashHeadLive",
        **settings,
        audio_encoder=["load", 2],
        cache_seconds=8.0,
        wait_seconds=1.0,
    )
    graph = {key: prompt[key] for key in ("load", "picture", "portrait")}
    shown = texts(bare, graph | {"live": live}, check=False)  # it ends because nobody connects
    assert len(shown) >= 3
    assert all(name == "live" and "none of them" in text for name, text in shown)


def test_doctor_tells_what_comfyui_decides(bare: ComfyServer):
    prompt_id = bare.queue({"doctor": node("FlashHeadDoctor", checkpoint="pocket", verify=True)})
    (page,) = bare.outputs(bare.wait(prompt_id, timeout=120), "doctor", "text")
    told = " ".join(page.split())
    for text in ("comfy-kitchen", "--cpu", "--base-directory", "attention_", "float32: a CPU"):
        assert text in told, text
    assert "torchaudio does not import (ImportError" in told
    assert "fp32 right: mean" in told
    assert "not known" in told  # the checkpoint's checksum
    assert page.splitlines()[-1] == "nothing wrong was found"
    assert str(bare.port) not in page  # flags, not what they are set to
