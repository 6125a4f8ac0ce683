"""Every template opens and runs in ComfyUI's own page, and its result shows on the output node.

``trial.json`` beside this file uses core nodes only: where it fails too, the fault is not the
pack's.
"""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import pytest

HERE = Path(__file__).resolve().parent
TEMPLATES = sorted((HERE.parents[1] / "workflows").glob("*.json"))
ALL = [HERE / "trial.json", *TEMPLATES]
FIRST, *OTHERS = TEMPLATES
HUB = "https://huggingface.co/"
REPOSITORIES = ("Soul-AILab/SoulX-FlashHead-1_3B", "facebook/wav2vec2-base-960h")
LARGEST_THUMBNAIL = 60_000

# Nodes that show the frames as they come.
PREVIEWING = {"FlashHeadSampler", "FlashHeadGenerateVideo", "FlashHeadDecodeChunk"}

# Complaints the page shows about a workflow, by test id.
MISSING_NODES = ("missing-node-card", "missing-node-pack-count")
COMPLAINTS = (
    *MISSING_NODES,
    "error-overlay",
    "error-dialog",
    "runtime-error-panel",
    "missing-model-download",
    "missing-media-row",
)

# What of the loaded graph does not stand as the file says; one sentence each.
FAULTS = """(workflow) => {
    const faults = [], graph = app.graph;
    const say = (node, what) => faults.push(`node ${node.id} (${node.type}): ${what}`);
    const nodes = graph.nodes, links = [...graph.links.values()];
    const same = (one) => (other) => String(one.id) === String(other.id);
    const now = graph.serialize().nodes;
    if (nodes.length !== workflow.nodes.length)
        faults.push(`${nodes.length} nodes of ${workflow.nodes.length}`);
    if (links.length !== workflow.links.length)
        faults.push(`${links.length} links of ${workflow.links.length}`);
    for (const node of nodes) {
        const known = node.type in LiteGraph.registered_node_types;
        if (!known) { say(node, "type is not known"); continue; }
        const saved = workflow.nodes.find(same(node));
        if (!saved) { say(node, "is not in the file"); continue; }
        const count = ({ widgets_values: v = [] }) => v.length ?? Object.keys(v).length;
        const [values, widgets] = [count(saved), count(now.find(same(node)))];
        // A core node may have gained some since, which then take their defaults.
        const core = !node.constructor.nodeData?.python_module?.startsWith("custom_nodes");
        if (core ? values > widgets : values !== widgets)
            say(node, `${values} values for ${widgets} widgets`);
        for (const input of saved.inputs ?? [])
            if (!node.inputs.some((other) => other.name === input.name))
                say(node, `no longer has an input ${input.name}`);
    }
    for (const link of links) {
        const output = graph.getNodeById(link.origin_id)?.outputs?.[link.origin_slot];
        const input = graph.getNodeById(link.target_id)?.inputs?.[link.target_slot];
        const fits = output && input && LiteGraph.isValidConnection(output.type, input.type);
        if (!fits) faults.push(`link ${link.id}: ${output?.type} does not fit ${input?.type}`);
        else if (input.link !== link.id) faults.push(`link ${link.id} is not connected`);
    }
    return faults;
}"""

# Nodes with a red frame, and combo and number widgets whose value the node does not offer.
DOUBTS = """() => app.graph.nodes.flatMap((node) => {
    const say = (what) => `node ${node.id} (${node.type}): ${what}`;
    const strange = (node.widgets ?? []).filter(({ options, type, value }) =>
        Array.isArray(options?.values) ? !options.values.includes(value)
            : type === "number" && (value < options?.min || value > options?.max));
    const said = strange.map(({ name, value }) => say(`${name} = ${value}`));
    return node.has_errors ? [...said, say("is marked as having errors")] : said;
})"""

# Runs in the page: which of the nodes showed a picture, and what lines of text, while they ran.
LOOK = """() => {
    window.seen = {};
    const look = () => app.graph.nodes.forEach((node) => {
        const seen = (window.seen[node.type] ??= { pictures: 0, texts: [] });
        // Of what was made, only what has come as far as being drawn.
        const drawn = (node.imgs ?? []).filter((img) =>
            img.src.startsWith("blob:") && img.naturalWidth > 0);
        seen.pictures = Math.max(seen.pictures, drawn.length);
        const text = node.widgets?.find(({ name }) => name === "$$node-text-preview")?.value;
        if (text && !seen.texts.includes(text)) seen.texts.push(text);
    });
    setInterval(look, 10);
}"""

# Nodes that lie on one another, at the size that the page gives them.
OVERLAPS = """() => {
    const title = LiteGraph.NODE_TITLE_HEIGHT;
    const boxes = app.graph.nodes.map((node) =>
        [node, [node.pos[0], node.pos[1] - title, node.size[0], node.size[1] + title]]);
    const meet = ([ax, ay, aw, ah], [bx, by, bw, bh]) =>
        ax < bx + bw && bx < ax + aw && ay < by + bh && by < ay + ah;
    return boxes.flatMap(([node, box], i) => boxes.slice(i + 1)
        .filter(([, other]) => meet(box, other))
        .map(([other]) => `${node.title} lies on ${other.title}`));
}"""

# For each output node: its files, whether the page can fetch them, and what shows them.
SHOWN = """async () => {
    const shown = [];
    for (const node of app.graph.nodes) {
        if (!node.constructor.nodeData?.output_node || node.mode !== 0) continue;
        if (node.type === "FlashHeadSaveState") continue;  // has nothing to show
        const output = app.nodeOutputs[node.id] ?? {};
        const files = Object.values(output).flat().filter((item) => item?.filename);
        const sizes = await Promise.all(files.map(async (file) => {
            const answer = await app.api.fetchApi(`/view?${new URLSearchParams(file)}`);
            return answer.ok ? (await answer.blob()).size : 0;
        }));
        const inPage = [...document.querySelectorAll("img, video, audio")];
        const media = [...(node.imgs ?? []), ...inPage].filter((medium) =>
            files.some((file) => (medium.currentSrc || medium.src || "").includes(
                encodeURIComponent(file.filename))));
        const drawn = media.filter((medium) =>
            medium.naturalWidth > 0 || medium.readyState >= 1).length;
        shown.push({ id: node.id, type: node.type, sizes, drawn });
    }
    return shown;
}"""


def complaints(tab, kinds=COMPLAINTS) -> list[str]:
    """The page's own error displays that are visible now."""
    found = [tab.page.get_by_test_id(kind).first for kind in kinds]
    return [element.inner_text() for element in found if element.is_visible()]


@pytest.mark.parametrize("folder", ["example_workflows", "example", "examples", "workflow"])
def test_no_folder_hides_the_templates(server, folder: str):
    """ComfyUI serves the first of these and of workflows/, under one address, and no other."""
    assert not (server.pack_path / folder).exists()


def note_of(workflow: dict) -> str:
    """Of the one note to read, checked with the packs of all nodes."""
    for node in workflow["nodes"]:
        pack = "flashhead" if node["type"].startswith("FlashHead") else "comfy-core"
        assert node["type"] == "MarkdownNote" or node["properties"]["cnr_id"] == pack
    (note,) = (node for node in workflow["nodes"] if node["type"] == "MarkdownNote")
    return note["widgets_values"][0]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_its_thumbnail_is_small(path: Path):
    assert path.with_suffix(".jpg").stat().st_size <= LARGEST_THUMBNAIL


def test_the_first_needs_nothing():
    """Neither a model nor a file of the reader's; and it says what comes next."""
    workflow = json.loads(FIRST.read_text())
    note = note_of(workflow)
    assert HUB not in note
    assert "Talking portrait Lite" in note
    assert (FIRST.parent / "Talking_portrait_Lite.json") in OTHERS
    assert not {"LoadImage", "LoadAudio"} & {node["type"] for node in workflow["nodes"]}
    assert not any("models" in node["properties"] for node in workflow["nodes"])
    (load,) = (node for node in workflow["nodes"] if node["type"] == "FlashHeadLoadCheckpoint")
    assert load["widgets_values"][0] == "pocket"


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.stem)
def test_it_says_what_it_needs(path: Path):
    """A note to read, the packs of its nodes, and for each weight file where it is found."""
    workflow = json.loads(path.read_text())
    nodes = workflow["nodes"]
    note = note_of(workflow)
    (load,) = (node for node in nodes if node["type"] == "FlashHeadLoadCheckpoint")
    variant = load["widgets_values"][0]
    models = load["properties"]["models"]
    assert any(model["name"].startswith(f"{variant}/") for model in models)
    for model in models:
        repository, _, file = model["url"].removeprefix(HUB).partition("/resolve/main/")
        assert repository in REPOSITORIES, model["url"]
        assert f"{HUB}{repository})" in note
        assert model["directory"] == "flashhead"
        assert model["name"].endswith(f"/{file}")
        assert "/".join(model["name"].split("/")[1:]) in note


def test_they_open_as_they_are(tab):
    """Whatever models a reader has, the nodes, links and values in each file are right."""
    for path in ALL:
        workflow = json.loads(path.read_text())
        assert workflow["version"] == 0.4, path.name
        tab.evaluate("(workflow) => app.loadGraphData(workflow)", workflow)
        tab.page.wait_for_timeout(500)
        assert tab.evaluate(FAULTS, workflow) == [], path.name
        assert tab.evaluate(OVERLAPS) == [], path.name
        assert complaints(tab, MISSING_NODES) == [], path.name
        # The reader's own files, which this server has not, may be looked for.
        assert [error for error in tab.errors if "/api/view?" not in error] == [], path.name


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_its_template_runs(tab, server, path: Path):
    """From the Templates dialog to the finished result, as a reader does it."""
    served = server.get(f"/api/workflow_templates/{server.pack_name}/{path.name}")
    assert path.stem in server.get("/api/workflow_templates")[server.pack_name]

    tab.evaluate("() => app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    tile = open_template(tab, server.pack_name, path.stem)
    picture = tile.locator("img").first
    picture.wait_for()
    tab.wait_until("(img) => img.complete && img.naturalWidth > 0", picture.element_handle())
    tile.click()
    tab.wait_until("(count) => app.graph.nodes.length === count", len(served["nodes"]))
    tab.page.wait_for_timeout(500)
    assert tab.evaluate(FAULTS, served) == []
    assert tab.evaluate(DOUBTS) == []
    assert complaints(tab) == []

    # What is out of sight is not drawn.
    tab.evaluate("() => app.extensionManager.command.execute('Comfy.Canvas.FitView')")
    tab.evaluate(LOOK)
    tab.run()
    assert not tab.evaluate("() => app.lastNodeErrors")
    assert tab.evaluate("() => window.ran") == {"state": "success", "errors": []}
    seen = tab.evaluate("() => window.seen")
    for type_ in PREVIEWING & seen.keys():
        assert seen[type_]["pictures"] > 0, f"{type_} showed no picture while it ran"
        assert any("decode" in text for text in seen[type_]["texts"]), seen[type_]
    shown = wait_for_results(tab)
    assert shown, "the workflow has no output node"
    for node in shown:
        assert node["sizes"] and all(node["sizes"]), f"{node} has no files"
        assert node["drawn"] > 0, f"{node} shows nothing"
    assert complaints(tab) == []
    # The dialog shows every template's picture; each is its own test's business.
    own = f"/{quote(path.stem)}."
    errors = [e for e in tab.errors if "/workflow_templates/" not in e or own in e]
    assert errors == []


def open_template(tab, pack_name: str, name: str):
    """The template's tile, found under Extensions → the pack's folder name."""
    heading = tab.page.get_by_text(pack_name, exact=True).first
    heading.wait_for()
    heading.click()
    tile = tab.page.get_by_test_id(f"template-workflow-{name}")
    tile.wait_for()
    return tile


def wait_for_results(tab, seconds: float = 10) -> list[dict]:
    """Media load a moment after the prompt ends; the last look, complete or not."""
    for _ in range(round(seconds * 4)):
        shown = tab.evaluate(SHOWN)
        if shown and all(node["drawn"] for node in shown):
            break
        tab.page.wait_for_timeout(250)
    return shown
