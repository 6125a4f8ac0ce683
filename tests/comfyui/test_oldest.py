"""ComfyUI 0.3.64, the oldest that the pack says it runs in, and layouts of users' installations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import flashhead
from flashhead.media.audio_source import FileAudio

from .graphs import chunk_by_chunk, in_a_ksampler, lite, node
from .pictures import pixels
from .server import FIXTURES, PORTRAIT, SPEECH, ComfyServer, hum

OTHER_PACK = """\
from .nodes import NODE_CLASS_MAPPINGS
"""
OTHER_NODES = """\
class Other:
    RETURN_TYPES = ()
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}


NODE_CLASS_MAPPINGS = {"OtherPacksNode": Other}
"""


@pytest.fixture(scope="module")
def old(oldest_comfyui: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """The oldest ComfyUI, with its custom_nodes on another disk."""
    base = tmp_path_factory.mktemp("old") / "base"
    elsewhere = base.parent / "another disk"
    elsewhere.mkdir()
    base.mkdir()
    (base / "custom_nodes").symlink_to(elsewhere, target_is_directory=True)
    server = ComfyServer(oldest_comfyui, base)
    # It insists on a folder that newer releases of its template package no longer have.
    templates = base / "python" / "comfyui_workflow_templates"
    (templates / "templates").mkdir(parents=True)
    (templates / "__init__.py").touch()
    with server:
        yield server


def expected(server: ComfyServer) -> np.ndarray:
    bundle = flashhead.load_bundle(FIXTURES / "tiny-checkpoint", "lite")
    source = FileAudio(server.base / "input" / SPEECH)
    portrait = server.base / "input" / PORTRAIT
    frames = [c.frames for c in flashhead.generate(bundle, portrait, source, size=(64, 64))]
    return (torch.cat(frames) * 255).numpy().astype(np.int16)


def test_the_simple_workflow_runs(old: ComfyServer):
    assert "IMPORT FAILED" not in old.start_log
    entry = old.run(lite(), timeout=120)
    assert np.abs(pixels(old.images(entry, "images")) - expected(old)).max() <= 1
    assert old.outputs(entry, "video")


def test_chunks_and_previews(old: ComfyServer):
    prompt_id = old.queue(chunk_by_chunk(2))
    entry = old.wait(prompt_id, timeout=120)
    parts = [pixels(old.images(entry, f"images{chunk}")) for chunk in range(2)]
    assert np.abs(np.concatenate(parts) - expected(old)).max() <= 1
    assert old.events_of(prompt_id, "preview")
    assert any("sample" in event["data"]["text"] for event in old.events_of(prompt_id, "text"))


def test_an_edit_renders_again_only_what_follows_it(old: ComfyServer):
    def sampled(speech: str) -> int:
        prompt_id = old.queue(lite(sampler="FlashHeadIncrementalSampler", speech=speech, seed=5))
        old.wait(prompt_id, timeout=120)
        texts = [event["data"]["text"] for event in old.events_of(prompt_id, "text")]
        return sum("sample " in text for text in texts)

    wave = bytearray(hum(seconds=4 * 24 / 25))
    old.place_input("take1.wav", bytes(wave))
    assert sampled("take1.wav") == 4
    edit = 44 + 2 * int(16000 * (2 * 24 / 25 + 0.2))
    wave[edit : edit + 8000] = bytes(8000)
    old.place_input("take2.wav", bytes(wave))
    assert sampled("take2.wav") == 2


def test_a_cached_video_whose_file_is_gone_is_made_again(old: ComfyServer):
    def run(name: str) -> bool:
        prompt["video"]["inputs"]["filename_prefix"] = name
        prompt_id = old.queue(prompt)
        assert old.outputs(old.wait(prompt_id, timeout=120), "video")
        (cached,) = old.events_of(prompt_id, "execution_cached")
        return "sampler" not in cached["data"]["nodes"]

    prompt = lite(sampler="FlashHeadGenerateVideo")
    del prompt["create"], prompt["images"]
    prompt["video"]["inputs"]["video"] = ["sampler", 0]
    assert run("one") and not run("two")
    for path in (old.base / "temp").glob("flashhead*"):
        path.unlink()
    assert run("three") and not run("four")


def test_cancel(old: ComfyServer):
    old.place_input("long.wav", hum(seconds=200))
    prompt_id = old.queue(lite(speech="long.wav", steps=50))
    old.wait_event("progress", prompt_id=prompt_id, where=lambda e: e["data"]["node"] == "sampler")
    old.interrupt()
    old.wait(prompt_id, timeout=10, check=False)
    assert old.events_of(prompt_id, "execution_interrupted")


def test_a_model_in_a_ksampler_explains_itself(old: ComfyServer):
    prompt_id = old.queue(in_a_ksampler())
    old.wait(prompt_id, check=False)
    (event,) = old.events_of(prompt_id, "execution_error")
    assert "FlashHead Sampler" in event["data"]["exception_message"]


def test_doctor(old: ComfyServer):
    graph = {"doctor": node("FlashHeadDoctor", checkpoint="tiny/Model_Pro", verify=False)}
    (page,) = old.outputs(old.run(graph, timeout=120), "doctor", "text")
    told = " ".join(page.split())
    assert "ComfyUI 0.3.64" in told and "tiny/Model_Pro can be loaded, as pro" in told
    assert "failed" not in told and page.endswith("\nnothing wrong was found")


def test_any_folder_name_with_spaces_beside_a_pack_with_nodes_of_its_own(comfyui, tmp_path):
    """As unpacked from a zip into ComfyUI portable: no links, spaces, another `nodes` package."""
    base = tmp_path / "ComfyUI windows portable" / "Com fy"
    base.mkdir(parents=True)
    other = base / "custom_nodes" / "Other pack" / "nodes"
    other.mkdir(parents=True)
    (other.parent / "__init__.py").write_text(OTHER_PACK)
    (other / "__init__.py").write_text(OTHER_NODES)
    name = "ComfyUI-FlashHead-main (1).2"
    arguments = ["--whitelist-custom-nodes", name, "Other pack"]
    with ComfyServer(comfyui, base, pack_name=name, arguments=arguments) as server:
        assert "IMPORT FAILED" not in server.start_log
        assert server.object_info("OtherPacksNode")
        entry = server.run(lite(), timeout=120)
        assert np.abs(pixels(server.images(entry, "images")) - expected(server)).max() <= 1
