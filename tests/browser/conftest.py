"""A real browser on a real ComfyUI with the pack in it; without either the tests are skipped.

Chromium is the system's own. It reaches nothing but the test server.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ..comfyui.locate import locate
from ..comfyui.server import PORTRAIT, SPEECH, ComfyServer, hum

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
NO_BROWSER = f"NOT TESTED IN A BROWSER: none of {', '.join(BROWSERS)} was found"
NO_COMFYUI = "NOT TESTED IN A BROWSER: no ComfyUI was found; set COMFYUI_PATH"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
# What the frontend logs as errors by itself, with no pack and in an empty profile.
NOISE = (
    "net::ERR_NAME_NOT_RESOLVED",  # it asks its makers for news, and model hosts for sizes
    "ComfyApp graph accessed before initialization",
    "/user.css",
    "/api/userdata",
)
# Runs in the page: what became of the prompts queued since, from the server's own events.
WATCH = """() => {
    window.ran = { state: "waiting", errors: [] };
    const set = (state) => () => { window.ran.state = state; };
    app.api.addEventListener("execution_success", set("success"));
    app.api.addEventListener("execution_interrupted", set("interrupted"));
    app.api.addEventListener("execution_error", ({ detail }) => {
        window.ran.errors.push(`${detail.node_type}: ${detail.exception_message}`);
        window.ran.state = "error";
    });
}"""
RUN_SECONDS = 240
# For all else that the page does: far more than it takes, on a machine that is busy, too.
SECONDS = 90

# Boxes in templates are for a picture that is this wide; the one here has that width, and an even
# one, as the background of a video must.
THEIR_PIXELS, HERE_PIXELS = 1920, 130
# Three chunks, the last of which is not full.
SPEECH_SECONDS = 2.6


def here(pixels: int) -> int:
    """A length in a template's picture, in the one that is here."""
    return pixels * HERE_PIXELS // THEIR_PIXELS


# Node type → position in widgets_values → the value to run with here, or what makes it of the
# template's, where that names official weights, sizes for a GPU, or files of the reader's own.
HERE_VALUES: dict[str, dict[int, Any]] = {
    "LoadImage": {0: "picture.png"},
    "LoadAudio": {0: "speech.wav"},
    "FlashHeadLoadCheckpoint": {0: lambda value: f"tiny/{value.rpartition('/')[2]}"},
    "FlashHeadPreparePortrait": {0: 64, 1: 64, 3: here, 4: here, 5: here, 6: here},
}


def needs_nothing(workflow: dict[str, Any]) -> bool:
    """Whether a template runs with what comes with the pack."""
    return any(node["type"] == "FlashHeadExample" for node in workflow["nodes"])


def adapt(workflow: dict[str, Any]) -> dict[str, Any]:
    """The same workflow, with the models and inputs that the test server has."""
    adapted = copy.deepcopy(workflow)
    if needs_nothing(workflow):
        return adapted
    graphs = [adapted, *adapted.get("definitions", {}).get("subgraphs", [])]
    for node in (node for graph in graphs for node in graph["nodes"]):
        # Named for download where they are missing; the server has the miniature instead.
        node.get("properties", {}).pop("models", None)
        for position, value in HERE_VALUES.get(node["type"], {}).items():
            values = node["widgets_values"]
            values[position] = value(values[position]) if callable(value) else value
    adapted.pop("models", None)
    return adapted


@pytest.fixture(scope="session")
def artifacts() -> Path:
    """Where screenshots go: $TEST_ARTIFACTS, by default out/test-artifacts."""
    path = Path(os.environ.get("TEST_ARTIFACTS") or ROOT / "out" / "test-artifacts")
    path.mkdir(parents=True, exist_ok=True)
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """The browser, with a profile of its own that is empty. Module scope: Playwright's synchronous
    interface keeps an event loop running, which other tests must not find."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(NO_BROWSER)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=found, headless=True, args=FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="module")
def server(browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    """A ComfyUI whose templates are the pack's, adapted, and the core-only trial of this folder."""
    comfyui = locate()
    if comfyui is None:
        pytest.skip(NO_COMFYUI)
    served = ComfyServer(comfyui, tmp_path_factory.mktemp("browser") / "base")
    templates = served.pack_path / "workflows"
    templates.mkdir(exist_ok=True)
    for path in (HERE / "trial.json", HERE / "trial.jpg"):
        shutil.copyfile(path, templates / path.name)
    for path in templates.glob("*.json"):
        path.write_text(json.dumps(adapt(json.loads(path.read_text()))))
    with Image.open(served.base / "input" / PORTRAIT) as portrait:
        portrait.crop((0, 0, HERE_PIXELS, 90)).save(served.base / "input" / "picture.png")
    served.place_input(SPEECH, hum(SPEECH_SECONDS))
    with served:
        yield served


class Tab:
    """One page on ComfyUI's frontend, loaded, and what went wrong in it."""

    def __init__(self, page, url: str):
        self.page = page
        self.url = url
        self.errors: list[str] = []
        page.set_default_timeout(SECONDS * 1000)
        page.on("pageerror", lambda error: self.errors.append(f"uncaught: {error}"))
        page.on("console", self._console)
        page.goto(url)
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Until the page has come as far as showing its Run button."""
        self.wait_until("() => window.app?.graph && window.app.vueAppReady !== false")
        self.page.get_by_test_id("queue-button").wait_for()

    def _console(self, message) -> None:
        said = f"{message.text} ({message.location.get('url', '')})"
        if message.type == "error" and not any(noise in said for noise in NOISE):
            self.errors.append(said)

    def evaluate(self, script: str, argument: Any = None) -> Any:
        return self.page.evaluate(script, argument)

    def run(self) -> None:
        """Press Run, and wait until the prompt has ended or was refused; see `window.ran`."""
        self.evaluate(WATCH)
        self.page.get_by_test_id("queue-button").click()
        self.wait_until(
            "() => window.ran.state !== 'waiting' || Object.keys(app.lastNodeErrors ?? {}).length",
            seconds=RUN_SECONDS,
        )

    def wait_until(self, script: str, argument: Any = None, seconds: float = SECONDS) -> None:
        self.page.wait_for_function(script, arg=argument, timeout=seconds * 1000)


@pytest.fixture
def tab(browser, server, artifacts: Path, request: pytest.FixtureRequest) -> Iterator[Tab]:
    """A fresh page; its last state is kept as <test name>.png."""
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    page = context.new_page()
    try:
        yield Tab(page, server.url)
    finally:
        name = "".join(c if c.isalnum() or c in "-_." else "_" for c in request.node.name)
        page.screenshot(path=artifacts / f"{name}.png")
        context.close()
