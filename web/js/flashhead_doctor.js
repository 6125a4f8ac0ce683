// What the FlashHead Doctor node shows: its page, as text to select and copy.

import { app } from "../../../scripts/app.js";

const SIZE = [720, 480];

app.registerExtension({
    name: "flashhead.doctor",
    nodeCreated(node) {
        if (node.comfyClass !== "FlashHeadDoctor") return;
        const area = document.createElement("textarea");
        area.className = "flashhead-doctor comfy-multiline-input";
        area.readOnly = true;
        area.style.cssText = "font: 11px monospace; white-space: pre; overflow: auto;";
        const options = { serialize: false, hideOnZoom: false, getMinHeight: () => 100 };
        const widget = node.addDOMWidget("shown", "flashhead_doctor", area, options);
        widget.serialize = false; // nor in the workflow
        node.setSize(SIZE);
        const executed = node.onExecuted;
        node.onExecuted = function (output, ...given) {
            area.value = output?.text?.join("\n") ?? "";
            return executed?.call(this, output, ...given);
        };
    },
});
