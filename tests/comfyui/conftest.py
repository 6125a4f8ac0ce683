"""Fixtures for tests inside a real ComfyUI; without one they are skipped, and that is said."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .locate import locate, oldest
from .server import ComfyServer

MISSING = "NOT TESTED IN COMFYUI: none was found; set COMFYUI_PATH"
NO_OLDEST = "NOT TESTED IN THE OLDEST COMFYUI (0.3.64): not found; set COMFYUI_OLDEST_PATH"


@pytest.fixture(scope="session")
def comfyui() -> Path:
    """The ComfyUI checkout to test in."""
    found = locate()
    if found is None:
        pytest.skip(MISSING)
    return found


@pytest.fixture(scope="session")
def oldest_comfyui(comfyui: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of the oldest ComfyUI that is supported."""
    found = oldest(comfyui, tmp_path_factory.mktemp("oldest") / "ComfyUI")
    if found is None:
        pytest.skip(NO_OLDEST)
    return found


@pytest.fixture(scope="session")
def server(comfyui: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """One server for all tests that need nothing special of it."""
    base = tmp_path_factory.mktemp("comfyui") / "base"
    probe, memory = Path(__file__).with_name("probe.py"), Path("/dev/shm")
    # Temporary files on another disk than the output folder's, as users have it with Docker.
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as temp:
        arguments = ["--temp-directory", temp]
        with ComfyServer(comfyui, base, extra=[probe], arguments=arguments) as running:
            yield running
