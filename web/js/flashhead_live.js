// What the FlashHead Live node shows: the moving picture, and the buttons to start and stop it.

import { app } from "../../../scripts/app.js";
import { NODE, Talk } from "./live_talk.js";

const SMALLEST = [340, 300]; // of the node and of the panel

app.registerExtension({
    name: "flashhead.live",
    nodeCreated(node) {
        if (node.comfyClass === NODE) addPanel(node);
    },
});

function addPanel(node) {
    let talk = null;
    let muted = false;
    const canvas = element("canvas", "flex: 1; min-height: 0; object-fit: contain; width: 100%;");
    canvas.width = canvas.height = 512;
    const status = element("div", "font-size: 12px; min-height: 1.3em; overflow-wrap: anywhere;");
    const start = button("Start microphone", () => {
        talk = new Talk(executionId(node), canvas, say, () => {
            talk = null;
            refresh();
        });
        talk.muted = muted;
        refresh();
        talk.start();
    });
    const stop = button("Stop", () => talk?.stop());
    const mute = button("Mute", () => {
        muted = !muted;
        if (talk) talk.muted = muted;
        refresh();
    });

    function say(text) {
        status.textContent = text;
    }

    function refresh() {
        start.disabled = talk !== null;
        stop.disabled = talk === null;
        mute.textContent = muted ? "Unmute" : "Mute";
        mute.setAttribute("aria-pressed", muted);
    }

    const buttons = element("div", "display: flex; gap: 4px;");
    buttons.append(start, stop, mute);
    const panel = element(
        "div",
        "display: flex; flex-direction: column; gap: 4px; height: 100%; color: var(--input-text);",
    );
    panel.className = "flashhead-live";
    panel.append(canvas, buttons, status);
    refresh();

    const widget = node.addDOMWidget("live", "flashhead_live", panel, {
        serialize: false, // nothing of it goes into the prompt
        hideOnZoom: false,
        getMinHeight: () => SMALLEST[1],
    });
    widget.serialize = false; // nor into the workflow
    const [width, height] = node.computeSize();
    node.setSize([Math.max(width, SMALLEST[0]), height]);

    const removed = node.onRemoved;
    node.onRemoved = function (...given) {
        talk?.release();
        return removed?.apply(this, given);
    };
}

/** The node's id as the server knows it: inside subgraphs, the ids of the nodes around it first. */
function executionId(node, graph = app.graph.rootGraph ?? app.graph, around = []) {
    if (!node.graph || node.graph === graph || node.graph.id === graph.id) {
        return [...around, node.id].join(":");
    }
    for (const other of graph.nodes ?? []) {
        const found = other.subgraph && executionId(node, other.subgraph, [...around, other.id]);
        if (found) return found;
    }
    return null;
}

function element(name, style) {
    const made = document.createElement(name);
    made.style.cssText = style;
    return made;
}

function button(text, onClick) {
    const made = element("button", "flex: 1; cursor: pointer; padding: 4px; white-space: nowrap;");
    made.type = "button";
    made.textContent = text;
    made.addEventListener("click", onClick);
    return made;
}
