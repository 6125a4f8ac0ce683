"""Fixtures for tests inside a real ComfyUI; without one they are skipped, and that is said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .locate import locate
from .server import ComfyServer

MISSING = "NOT TESTED IN COMFYUI: none was found; set COMFYUI_PATH"
_skipped = pytest.StashKey[bool]()


@pytest.fixture(scope="session")
def comfyui(pytestconfig: pytest.Config) -> Path:
    """The ComfyUI checkout to test in."""
    found = locate()
    if found is None:
        pytestconfig.stash[_skipped] = True
        pytest.skip(MISSING)
    return found


@pytest.fixture(scope="session")
def server(comfyui: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """One server for all tests that need nothing special of it."""
    base = tmp_path_factory.mktemp("comfyui") / "base"
    with ComfyServer(comfyui, base, extra=[Path(__file__).with_name("probe.py")]) as running:
        yield running


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    if config.stash.get(_skipped, False):
        terminalreporter.section("NOT TESTED", sep="!", red=True, bold=True)
        terminalreporter.line(MISSING, red=True, bold=True)
