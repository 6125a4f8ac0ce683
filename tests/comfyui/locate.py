"""Finds a ComfyUI to test in. As a script: prints its path, or nothing.

In order: ``$COMFYUI_PATH``; the ComfyUI this repository is installed in as a node pack;
``~/comfy/ComfyUI``; a clone in ``.cache/ComfyUI``, which ``--clone`` tries to make.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLONE = ROOT / ".cache" / "ComfyUI"
URL = "https://github.com/comfyanonymous/ComfyUI"
TAG = "v0.33.0"
CLONE_SECONDS = 120
OLDEST = "637221995f7424a561bd825de3e61ea117dfe1e3"  # v0.3.64, the oldest that is supported


def is_comfyui(path: Path) -> bool:
    return all((path / name).exists() for name in ("main.py", "nodes.py", "comfy_extras"))


def locate() -> Path | None:
    """The first ComfyUI found, or None. A ``$COMFYUI_PATH`` that holds none is an error."""
    if given := os.environ.get("COMFYUI_PATH"):
        path = Path(given).expanduser().resolve()
        if not is_comfyui(path):
            raise FileNotFoundError(f"COMFYUI_PATH={given} holds no ComfyUI (main.py, nodes.py)")
        return path
    # Unresolved too: a pack is often a link inside custom_nodes.
    here = Path(__file__).absolute().parents[2]
    around = [p.parent.parent for p in (here, ROOT) if p.parent.name == "custom_nodes"]
    candidates = [*around, Path.home() / "comfy" / "ComfyUI", CLONE]
    return next((path for path in candidates if is_comfyui(path)), None)


def clone() -> Path | None:
    """Fetches ComfyUI's release into ``.cache``; None where there is no git or no network."""
    command = ["git", "-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=10"]
    command += ["clone", "--quiet", "--depth", "1", "--branch", TAG, URL, str(CLONE)]
    environment = os.environ | {"GIT_TERMINAL_PROMPT": "0"}
    try:
        subprocess.run(command, env=environment, timeout=CLONE_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"Could not clone ComfyUI: {error}", file=sys.stderr)
        return None
    return CLONE


def oldest(newer: Path, folder: Path) -> Path | None:
    """ComfyUI 0.3.64: ``$COMFYUI_OLDEST_PATH``, or out of the history of a newer checkout, put into
    ``folder``; None where it is in neither and cannot be fetched."""
    if given := os.environ.get("COMFYUI_OLDEST_PATH"):
        return Path(given)
    # A checkout's history may lack large files that nothing here needs: hence --shared, which
    # copies nothing, and failures that are judged by what is there afterwards.
    inside, checkout = ["-C", str(folder)], ["checkout", "--quiet", "--detach", OLDEST]
    clone = ["clone", "--quiet", "--no-checkout", "--shared", str(newer), str(folder)]
    fetch = ["fetch", "--quiet", "--depth", "1", URL, OLDEST]
    environment = os.environ | {"GIT_TERMINAL_PROMPT": "0"}
    for commands in (
        (clone, inside + checkout),
        (["init", "--quiet", str(folder)], inside + fetch, inside + checkout),
    ):
        for command in commands:
            subprocess.run(
                ["git", *command], env=environment, timeout=CLONE_SECONDS, capture_output=True
            )
        if is_comfyui(folder):
            break
    return folder if is_comfyui(folder) else None


if __name__ == "__main__":
    found = locate()
    if found is None and "--clone" in sys.argv[1:]:
        found = clone()
    if found is not None:
        print(found)
