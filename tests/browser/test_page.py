"""A node in ComfyUI's page: its help, its name in the reader's language, and what it refuses."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "web" / "docs"
PAGES = sorted(DOCS.glob("*.md"))
LARGEST_PICTURE = 40_000
CHINESE = json.loads((ROOT / "locales" / "zh" / "nodeDefs.json").read_text())

# Puts one node of a type, selected, in the middle of an empty page.
SHOW = """(type) => {
    app.graph.clear();
    const node = LiteGraph.createNode(type);
    app.graph.add(node);
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [300, 250];
    node.pos = [200, 100];
    app.canvas.selectItems([node]);
    app.canvas.setDirty(true, true);
    return node.title;
}"""

KNOWN = "() => 'FlashHeadSampler' in LiteGraph.registered_node_types"

# Where the page has an input's dot, in pixels of the window.
INPUT_AT = """(slot) => {
    const [x, y] = app.canvas.ds.convertOffsetToCanvas(app.graph.nodes[0].getInputPos(slot));
    const { left, top } = app.canvas.canvas.getBoundingClientRect();
    return [left + x + 4, top + y];
}"""

PREPARE = """(changes) => {
    const first = (type) => app.graph.nodes.find((node) => node.type === type);
    const add = (type, values = {}) => {
        const node = LiteGraph.createNode(type);
        app.graph.add(node);
        for (const [name, value] of Object.entries(values))
            node.widgets.find((widget) => widget.name === name).value = value;
        return node;
    };
    const connect = (from, output, to, input) =>
        from.connect(output, to, to.inputs.findIndex(({ name }) => name === input));
    const load = first("FlashHeadLoadCheckpoint");
"""
# What is made wrong in the Lite template; the node that says so; and part of what it says.
REFUSALS = {
    "illegal size": (
        PREPARE
        + """
        const portrait = first("FlashHeadPreparePortrait");
        portrait.widgets.find(({ name }) => name === "height").value = 80;
    }""",
        "FlashHead Sampler",
        "64x64 or 64x96",
    ),
    "batch": (
        PREPARE
        + """
        const batch = add("EmptyImage", { width: 64, height: 64, batch_size: 2 });
        connect(batch, 0, first("FlashHeadPreparePortrait"), "image");
    }""",
        "FlashHead Prepare Portrait",
        "batch of 2",
    ),
    "KSampler": (
        PREPARE
        + """
        app.graph.nodes.filter((node) => node !== load).forEach((node) => app.graph.remove(node));
        const [words, sampler] = [add("LotusConditioning"), add("KSampler", { steps: 2 })];
        connect(load, 0, sampler, "model");
        connect(words, 0, sampler, "positive");
        connect(words, 0, sampler, "negative");
        connect(add("EmptyLTXVLatentVideo", { width: 64, height: 64, length: 33 }), 0,
            sampler, "latent_image");
        connect(sampler, 0, add("SaveLatent"), "samples");
    }""",
        "KSampler",
        "FlashHead Sampler",
    ),
    "not decoded": (
        PREPARE
        + """
        const [start, sample] = [add("FlashHeadStartStream"), add("FlashHeadSampleChunk")];
        connect(load, 1, start, "vae");
        connect(first("FlashHeadPreparePortrait"), 0, start, "portrait");
        connect(load, 0, sample, "model");
        connect(first("FlashHeadEncodeAudio"), 0, sample, "audio");
        connect(start, 0, sample, "state");
        connect(sample, 1, add("FlashHeadSaveState"), "state");
        app.graph.remove(first("FlashHeadSampler"));
        app.graph.remove(first("CreateVideo"));
        app.graph.remove(first("SaveVideo"));
    }""",
        "FlashHead Save State",
        "not decoded yet",
    ),
}


def cells(page: str, heading: str) -> set[str]:
    """The names in the first column of the page's table with that heading."""
    _, _, table = page.partition(f"| {heading} | |\n|---|---|\n")
    rows = re.match(r"(?:\|.*\n)*", table)[0].splitlines()
    return {name.strip() for row in rows for name in row.split("|")[1].split(",")}


def test_every_node_has_a_page_of_all_its_sockets(server):
    nodes = server.object_info()
    public = {name for name, info in nodes.items() if info["category"] == "FlashHead"}
    assert public == {path.stem for path in PAGES}
    for path in PAGES:
        page, info = path.read_text(), nodes[path.stem]
        assert page.startswith(f"# {info['display_name']}\n")
        inputs = {name for group in info["input_order"].values() for name in group}
        inputs -= set(info["input_order"].get("hidden", ()))
        assert cells(page, "input") == inputs, path.name
        assert cells(page, "output") == set(info["output_name"]), path.name


def test_the_pictures_are_small_and_used():
    used = {name for path in PAGES for name in re.findall(r"!\[.*?\]\((.+?)\)", path.read_text())}
    files = {path.name: path for path in DOCS.iterdir() if path.suffix != ".md"}
    assert used == set(files)
    assert max(path.stat().st_size for path in files.values()) <= LARGEST_PICTURE


def test_help_opens(tab, server, artifacts: Path):
    """Each page, with its picture, as the button above a selected node opens it."""
    tab.wait_until(KNOWN)
    for path in PAGES:
        page, heading = tab.page, path.read_text().splitlines()[0].removeprefix("# ")
        tab.evaluate(SHOW, path.stem)
        help_ = page.locator(".node-help-content")
        if not help_.count():  # open, it follows the selection
            page.get_by_test_id("info-button").click()
        help_.get_by_role("heading", name=heading, exact=True).wait_for()
        picture = help_.locator("img").first
        picture.wait_for()
        tab.wait_until("(img) => img.complete && img.naturalWidth > 0", picture.element_handle())
        assert f"/extensions/{server.pack_name}/docs/" in picture.get_attribute("src")
        page.screenshot(path=artifacts / f"help_{path.stem}.png")
    # The page looks for one in the reader's language first.
    assert [error for error in tab.errors if "/en.md)" not in error] == []


def test_doctor_shows_its_page(tab):
    tab.wait_until(KNOWN)
    tab.evaluate(SHOW, "FlashHeadDoctor")
    tab.run()
    assert tab.evaluate("() => window.ran.state") == "success"
    shown = tab.page.locator("textarea.flashhead-doctor")
    tab.wait_until("(area) => area.value.includes('frames/s')", shown.element_handle())
    assert shown.input_value().startswith("software\n")
    assert tab.evaluate("() => app.graph.serialize().nodes[0].widgets_values.length") == 2


def hover_until_shown(tab, slot: int, text: str, seconds: float = 60) -> None:
    """The pointer comes to an input and rests there until its tooltip shows. It comes anew, as a
    reader's would, where the canvas was not drawn yet: what is not drawn is not found under it."""
    tooltip = tab.page.get_by_text(text, exact=True)
    deadline = time.monotonic() + seconds
    while not tooltip.is_visible() and time.monotonic() < deadline:
        x, y = tab.evaluate(INPUT_AT, slot)
        tab.page.mouse.move(x - 100, y - 100)
        tab.page.mouse.move(x, y, steps=3)
        tab.page.wait_for_timeout(1500)  # the page shows it after 0.5 s of rest
    assert tooltip.is_visible()


def test_chinese(tab, server):
    """Titles and tooltips follow the language that is set."""
    server.post("/api/settings/Comfy.Locale", "zh")
    try:
        tab.page.reload()
        tab.wait_until_ready()
        tab.wait_until(KNOWN)
        for node in ("FlashHeadLoadCheckpoint", "FlashHeadSampler"):
            assert tab.evaluate(SHOW, node) == CHINESE[node]["display_name"]
        tooltip = CHINESE["FlashHeadSampler"]["inputs"]["model"]["tooltip"]
        assert re.search("[\u4e00-\u9fff]", tooltip)
        hover_until_shown(tab, 0, tooltip)
    finally:
        server.post("/api/settings/Comfy.Locale", "en")


@pytest.mark.parametrize("wrong", REFUSALS)
def test_what_is_refused_says_why_in_the_page(tab, server, wrong: str):
    change, node, part = REFUSALS[wrong]
    tab.wait_until(KNOWN)
    path = f"/api/workflow_templates/{server.pack_name}/Talking_portrait_Lite.json"
    tab.evaluate("(workflow) => app.loadGraphData(workflow)", server.get(path))
    tab.evaluate(change)
    tab.run()
    overlay = tab.page.get_by_test_id("error-overlay")
    overlay.wait_for()
    assert f"{node} failed" in overlay.inner_text()
    tab.page.get_by_test_id("error-overlay-see-errors").click()
    report = tab.page.get_by_text("# ComfyUI Error Report").first
    report.wait_for()
    (error,) = tab.evaluate("() => window.ran.errors")
    sentence = error.partition(": ")[2].strip()
    assert part in sentence
    assert "\n" not in sentence
    said = " ".join(report.inner_text().partition("## Stack Trace")[0].split())
    assert said.endswith(f": {sentence}")
