"""The pack loads in a real ComfyUI, and the server harness does what the other tests rely on."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import pytest
from PIL import Image

from .server import CHECKPOINT, PORTRAIT, ROOT, SPEECH, ComfyServer, PromptFailed, PromptRejected


def solid(width: int = 32, color: int = 0xFF0000) -> dict:
    inputs = {"width": width, "height": 16, "batch_size": 2, "color": color}
    return {"class_type": "EmptyImage", "inputs": inputs}


def save(source: str, prefix: str = "test") -> dict:
    return {"class_type": "SaveImage", "inputs": {"images": [source, 0], "filename_prefix": prefix}}


def test_the_pack_is_imported(server: ComfyServer):
    assert "IMPORT FAILED" not in server.start_log
    assert "Traceback" not in server.start_log
    assert str(server.pack_path) in server.start_log  # listed among the import times


def test_what_is_installed_is_what_the_registry_gives(server: ComfyServer):
    """So that every test here would miss a file that .comfyignore keeps from users."""
    installed = {path.name for path in server.pack_path.iterdir()}
    assert installed >= {"__init__.py", "pyproject.toml", "nodes", "flashhead", "web", "locales"}
    assert not installed & {"tests", "benchmarks", "Makefile", ".git", ".comfyignore"}
    assert (server.pack_path / "flashhead" / "pocket").is_dir()
    assert not (server.pack_path / "flashhead" / "training").exists()


def test_a_prompt_runs_and_its_images_come_back(server: ComfyServer):
    prompt_id = server.queue({"1": solid(), "2": save("1")})
    entry = server.wait(prompt_id)
    images = server.images(entry, "2")
    assert [image.size for image in images] == [(32, 16), (32, 16)]
    assert images[0].convert("RGB").getpixel((3, 3)) == (255, 0, 0)
    assert all(server.output_path(item).is_file() for item in server.outputs(entry, "2"))
    assert server.events_of(prompt_id, "executed")[0]["data"]["node"] == "2"


def test_a_second_run_is_cached(server: ComfyServer):
    prompt = {"1": solid(48), "2": save("1", "cached")}
    server.run(prompt)
    again = server.queue(prompt)
    server.wait(again)
    (event,) = server.events_of(again, "execution_cached")
    assert set(event["data"]["nodes"]) == {"1", "2"}


def test_an_invalid_prompt_says_what_is_wrong(server: ComfyServer):
    with pytest.raises(PromptRejected) as caught:
        server.queue({"1": solid(width=-5), "2": save("1")})
    assert any("width" in message for message in caught.value.messages("1"))


def test_a_failing_node_is_reported(server: ComfyServer):
    audio = {"class_type": "LoadAudio", "inputs": {"audio": server.place_input("bad.wav", b"no")}}
    show = {"class_type": "PreviewAudio", "inputs": {"audio": ["1", 0]}}
    with pytest.raises(PromptFailed) as caught:
        server.run({"1": audio, "2": show})
    assert caught.value.event["node_type"] == "LoadAudio"


def test_models_and_inputs_are_in_place(server: ComfyServer):
    assert (server.base / "models" / "flashhead" / CHECKPOINT / "Model_Lite").is_dir()
    listed = server.object_info("LoadImage")["input"]["required"]["image"][0]
    assert PORTRAIT in listed
    assert (server.base / "input" / SPEECH).is_file()


def test_a_video_comes_back(server: ComfyServer):
    make = {"class_type": "CreateVideo", "inputs": {"images": ["1", 0], "fps": 25.0}}
    inputs = {"video": ["2", 0], "filename_prefix": "v", "format": "auto", "codec": "auto"}
    entry = server.run(
        {"1": solid(64), "2": make, "3": {"class_type": "SaveVideo", "inputs": inputs}}
    )
    (item,) = server.outputs(entry, "3")
    with av.open(str(server.output_path(item))) as video:
        assert sum(1 for _ in video.decode(video=0)) == 2


FIND = """
import importlib.util, sys
for name in ("nodes", "flashhead"):
    spec = importlib.util.find_spec(name)
    print(spec.origin if spec else "")
print(*sys.path, sep="\\n")
"""


def test_the_root_does_not_shadow_comfyuis_modules(comfyui: Path):
    """The interpreter that has this package installed still finds ComfyUI's own ``nodes``."""
    command = [sys.executable, "-c", FIND]
    found = subprocess.run(command, cwd=comfyui, capture_output=True, text=True, check=True)
    nodes, library, *path = found.stdout.splitlines()
    assert Path(nodes).resolve() == comfyui.resolve() / "nodes.py"
    assert str(ROOT) not in path
    # An environment that came along with a copied tree still holds the original's.
    assert not library or Path(library).is_relative_to(ROOT)


PROBE = '''\
import importlib
import logging

seen = []
try:
    import torchaudio.functional
except OSError:
    seen.append("import")
try:
    from torchaudio import functional
except OSError:
    seen.append("from")
try:
    importlib.import_module("torchaudio")
except OSError:
    seen.append("import_module")
try:
    import flashhead
except ModuleNotFoundError:
    seen.append("library")
logging.info("PROBE " + " ".join(seen))


class Slow:
    """Ten seconds of nothing, with progress and previews."""

    RETURN_TYPES = ()
    FUNCTION = "run"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def run(self):
        import time

        import comfy.utils
        from PIL import Image

        bar = comfy.utils.ProgressBar(500)
        for step in range(500):
            bar.update_absolute(step, 500, ("JPEG", Image.new("RGB", (64, 48)), 64))
            time.sleep(0.02)
        return ()


NODE_CLASS_MAPPINGS = {"ProbeSlow": Slow}
'''


@pytest.fixture(scope="module")
def probed(comfyui: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """A server with another pack, under any folder name, linked, and without torchaudio."""
    folder = tmp_path_factory.mktemp("probe")
    pack = folder / "a pack"
    pack.mkdir()
    (pack / "__init__.py").write_text(PROBE)
    with ComfyServer(
        comfyui,
        folder / "base",
        pack_name="any name",
        link=pack,
        broken={"torchaudio": "OSError"},
    ) as server:
        yield server


def test_a_module_can_be_broken_for_the_pack_only(probed: ComfyServer):
    assert probed.object_info("LoadAudio")
    assert "PROBE import from import_module library" in probed.start_log


def test_progress_previews_and_interrupts(probed: ComfyServer):
    prompt_id = probed.queue({"1": {"class_type": "ProbeSlow", "inputs": {}}})
    preview = probed.wait_event("preview", prompt_id=prompt_id)
    assert Image.open(io.BytesIO(preview["data"]["image"])).size == (64, 48)
    later = probed.wait_event(
        "progress", prompt_id=prompt_id, where=lambda event: event["data"]["value"] > 3
    )
    assert later["data"]["max"] == 500
    probed.interrupt()
    with pytest.raises(PromptFailed) as caught:
        probed.wait(prompt_id, timeout=5)
    assert caught.value.kind == "execution_interrupted"
