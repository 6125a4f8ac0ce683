"""The Live node in ComfyUI's own page, with Chromium's fake microphone, which beeps."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from .conftest import BROWSERS, FLAGS, NO_BROWSER

MICROPHONE = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")

# Nodes of a prompt in API format, which the page makes a graph of.
PROMPT = {
    "1": {
        "class_type": "FlashHeadLoadCheckpoint",
        "inputs": {"checkpoint": "tiny/Model_Lite", "weight_dtype": "fp32"},
    },
    "2": {"class_type": "LoadImage", "inputs": {"image": "portrait.png"}},
    "3": {
        "class_type": "FlashHeadPreparePortrait",
        "inputs": {"image": ["2", 0], "width": 64, "height": 64},
    },
    "4": {
        "class_type": "FlashHeadLive",
        "inputs": {
            "model": ["1", 0],
            "vae": ["1", 1],
            "audio_encoder": ["1", 2],
            "portrait": ["3", 0],
            "steps": 1,
            "cache_seconds": 2.0,
        },
    },
}

OPEN = """async (prompt) => {
    await app.loadApiJson(prompt, "live");
    const node = app.graph.nodes.find(({ type }) => type === "FlashHeadLive");
    node.pos = [0, 0];
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [600, 150];
    app.canvas.setDirty(true, true);
}"""
WATCH = """() => {
    window.ran = "waiting";
    for (const end of ["success", "interrupted", "error"])
        app.api.addEventListener(`execution_${end}`, () => { window.ran = end; });
    // The microphone's tracks, to see that they are stopped.
    window.tracks = [];
    const usual = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = async (wanted) => {
        const stream = await usual(wanted);
        window.tracks.push(...stream.getTracks());
        return stream;
    };
}"""
PICTURE = "() => document.querySelector('.flashhead-live canvas').toDataURL()"
CHANGED = "(before) => document.querySelector('.flashhead-live canvas').toDataURL() !== before"
# When the node's socket closes, a moment after its last message, all has been played by the clock.
CLOSES_LATE = """() => {
    let jump = 0;
    const clock = Object.getOwnPropertyDescriptor(BaseAudioContext.prototype, "currentTime").get;
    const get = function () { return clock.call(this) + jump; };
    Object.defineProperty(BaseAudioContext.prototype, "currentTime", { get });
    window.WebSocket = class extends WebSocket {
        set onclose(listener) {
            super.onclose = () => setTimeout(() => { jump = 3600; listener(); }, 200);
        }
    };
}"""
RELEASED = "() => window.tracks.length > 0 && window.tracks.every((t) => t.readyState === 'ended')"


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """As the folder's own, with a microphone."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(NO_BROWSER)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        flags = [*FLAGS, *MICROPHONE]
        running = playwright.chromium.launch(executable_path=found, headless=True, args=flags)
        yield running
        running.close()


def open_node(tab):
    """The node's panel, in view."""
    tab.evaluate(OPEN, PROMPT)
    panel = tab.page.locator(".flashhead-live")
    panel.wait_for()
    tab.evaluate(WATCH)
    return panel


def test_speaking_moves_the_picture_until_stop(tab):
    panel = open_node(tab)
    start, stop = panel.get_by_text("Start microphone"), panel.get_by_text("Stop", exact=True)
    blank = tab.evaluate(PICTURE)
    tab.evaluate(CLOSES_LATE)
    start.click()
    tab.wait_until(CHANGED, blank, seconds=120)
    first = tab.evaluate(PICTURE)
    tab.wait_until(CHANGED, first)
    assert tab.evaluate("() => window.ran") == "waiting"
    panel.get_by_text("Mute").click()
    assert panel.get_by_text("Unmute").is_visible()
    stop.click()
    tab.wait_until(RELEASED)
    tab.wait_until("() => window.ran !== 'waiting'", seconds=60)
    assert tab.evaluate("() => window.ran") == "success"
    panel.get_by_text("s made.").wait_for()
    assert start.is_enabled() and stop.is_disabled()
    assert tab.errors == []


def test_a_microphone_that_is_refused_is_explained(tab):
    panel = open_node(tab)
    tab.evaluate(
        """() => { navigator.mediaDevices.getUserMedia = () =>
            Promise.reject(new DOMException("no", "NotAllowedError")); }"""
    )
    panel.get_by_text("Start microphone").click()
    panel.get_by_text("allow it for this page").wait_for()
    tab.evaluate("() => Object.defineProperty(window, 'isSecureContext', { value: false })")
    panel.get_by_text("Start microphone").click()
    panel.get_by_text("secure pages only").wait_for()
    assert panel.get_by_text("Start microphone").is_enabled()
    assert tab.evaluate("() => window.ran") == "waiting"
    assert tab.errors == []
    # The workflow and the prompt hold nothing of the panel.
    saved, prompt = tab.evaluate(
        """async () => [
            app.graph.serialize().nodes.find(({ type }) => type === "FlashHeadLive"),
            (await app.graphToPrompt()).output["4"].inputs,
        ]"""
    )
    # Seed, what to do with it after a run, and the other six.
    assert len(saved["widgets_values"]) == 8
    assert "live" not in prompt


def test_cancel_releases_the_microphone(tab):
    panel = open_node(tab)
    panel.get_by_text("Start microphone").click()
    panel.get_by_text("Speak:").wait_for(timeout=60_000)
    tab.evaluate("() => app.api.interrupt()")
    panel.get_by_text("The workflow was cancelled.").wait_for()
    assert tab.evaluate(RELEASED)
    tab.wait_until("() => window.ran === 'interrupted'")
    assert tab.errors == []
