"""A base directory for ComfyUI with this node pack in it, the miniature models and inputs."""

from __future__ import annotations

import io
import json
import os
import shutil
import wave
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pathspec
import torch
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "fixtures"
CHECKPOINT = "tiny"
CHECKPOINT_PARTS = ("Model_Lite", "VAE_LTX", "Model_Pro", "VAE_Wan", "wav2vec2-base-960h")
WAN_VAE = "wan/wan_2.1_vae.safetensors"
PORTRAIT = "portrait.png"
SPEECH = "speech.wav"

# The first visit's welcome and tours would cover the page.
QUIET_SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Release.Status": "skip",
    "Comfy.Notification.ShowVersionUpdates": False,
    "Comfy.Workflow.WarnBlueprintOverwrite": False,
    "Comfy.Locale": "en",
}

# Python runs this at start-up. It looks at who imports: the core keeps what the pack must not get.
# Coverage begins with the pack's first import: it takes seconds over what the core imports before.
SITE_CUSTOMIZE = """\
import builtins
import importlib
import os
import sys

PACKS = os.path.realpath({packs!r})
BROKEN = {broken!r}
measure = {coverage!r}
original_import = builtins.__import__
original_import_module = importlib.import_module


def check(name, importer):
    file = (importer or {{}}).get("__file__")
    failure = BROKEN.get(name.partition(".")[0])
    links = [os.path.realpath(entry) for entry in os.scandir(PACKS)] if failure else []
    if file and any(os.path.realpath(file).startswith(link + os.sep) for link in links):
        raise getattr(builtins, failure)(name + " is made to fail in this test")


def import_(name, globals=None, locals=None, fromlist=(), level=0):
    global measure
    if measure and "custom_nodes" in ((globals or {{}}).get("__file__") or ""):
        os.environ["COVERAGE_PROCESS_START"], measure = measure, None
        import coverage

        coverage.process_startup()
    if level == 0:
        check(name, globals)
    return original_import(name, globals, locals, fromlist, level)


def import_module(name, package=None):
    check(name, sys._getframe(1).f_globals)
    return original_import_module(name, package)


builtins.__import__ = import_
importlib.import_module = import_module
"""


def registry_files(root: Path = ROOT) -> Iterator[Path]:
    """The files that a user gets from the ComfyUI registry, relative to the repository's root:
    those that neither .gitignore nor .comfyignore names."""
    patterns = [".git"]  # in a worktree it is a file
    for name in (".gitignore", ".comfyignore"):
        patterns += (root / name).read_text(encoding="utf-8").splitlines()
    ignored = pathspec.GitIgnoreSpec.from_lines(patterns)
    for path, folders, files in os.walk(root):
        folder = Path(path).relative_to(root)
        folders[:] = [name for name in folders if not ignored.match_file(f"{folder / name}/")]
        yield from (folder / name for name in files if not ignored.match_file(folder / name))


def install_pack(target: Path) -> None:
    """Copies the pack as the registry gives it into the folder ``target``."""
    for file in registry_files():
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, target / file)


def prepare(base: Path, broken: Mapping[str, str], extra: Sequence[Path] = ()) -> None:
    """Makes ComfyUI's folders in ``base``: models, inputs, settings, and the files ``extra`` as
    custom nodes. broken: see ComfyServer."""
    for name in ("input", "output", "temp", "models", "custom_nodes", "python"):
        (base / name).mkdir(parents=True, exist_ok=True)
    for path in extra:
        shutil.copyfile(path, base / "custom_nodes" / path.name)
    checkpoint = base / "models" / "flashhead" / CHECKPOINT
    for part in CHECKPOINT_PARTS:
        shutil.copytree(FIXTURES / "tiny-checkpoint" / part, checkpoint / part)
    # What ComfyUI users have the Wan VAE as: the same keys in a safetensors file.
    published = checkpoint / "VAE_Wan" / "Wan2.1_VAE.pth"
    wan = torch.load(published, weights_only=True)
    torch.save(wan, published, _use_new_zipfile_serialization=False)  # as it is published
    (base / "models" / "vae" / WAN_VAE).parent.mkdir(parents=True)
    save_file(wan, base / "models" / "vae" / WAN_VAE)
    shutil.copyfile(FIXTURES / "goldens" / "portrait.png", base / "input" / PORTRAIT)
    (base / "input" / SPEECH).write_bytes(hum(seconds=1.5))
    settings = base / "user" / "default" / "comfy.settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps(QUIET_SETTINGS))
    (base / "python" / "sitecustomize.py").write_text(
        SITE_CUSTOMIZE.format(
            packs=str(base / "custom_nodes"),
            broken=dict(broken),
            coverage=os.environ.get("COVERAGE_PROCESS_START"),
        )
    )


def hum(seconds: float, sample_rate: int = 16000) -> bytes:
    """A mono 16-bit WAV file: a tone whose loudness goes up and down like syllables."""
    times = np.arange(round(seconds * sample_rate)) / sample_rate
    tones = np.sin(2 * np.pi * 180 * times) * np.sin(np.pi * 3 * times) ** 2
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(sample_rate)
        out.writeframes(np.rint(12000 * tones).astype("<i2").tobytes())
    return file.getvalue()
