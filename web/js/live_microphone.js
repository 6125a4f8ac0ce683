// The microphone as blocks of mono samples at the rate of an AudioContext.

const BLOCK = 1024; // samples, about 20 ms

// A worklet's code is a file of its own. As a file of this folder ComfyUI would also run it in the
// page, where it means nothing.
const WORKLET = `
registerProcessor("flashhead-microphone", class extends AudioWorkletProcessor {
    constructor() {
        super();
        this.block = new Float32Array(${BLOCK});
        this.count = 0;
    }
    process([[samples]]) {
        for (const sample of samples ?? []) {
            this.block[this.count++] = sample;
            if (this.count === ${BLOCK}) {
                this.port.postMessage(this.block);
                this.count = 0;
            }
        }
        return true;
    }
});
`;

const REFUSALS = {
    NotAllowedError: "The browser was not allowed to use the microphone; allow it for this page.",
    NotFoundError: "No microphone was found.",
    NotReadableError: "The microphone is in use by another program.",
};

/**
 * Resolves to {close()} once samples come.
 * Rejects with an Error whose message says why the browser gives no microphone.
 */
export async function openMicrophone(context, onBlock, onLost) {
    if (!window.isSecureContext) {
        throw new Error(
            "Browsers give the microphone to secure pages only: open ComfyUI as https://, or on " +
                "the machine it runs on as http://127.0.0.1 or http://localhost.",
        );
    }
    if (!navigator.mediaDevices?.getUserMedia) {
        throw new Error("This browser gives pages no microphone.");
    }
    // The answer comes out of the loudspeakers and must not be heard as speech.
    const wanted = { channelCount: 1, echoCancellation: true, noiseSuppression: true };
    let stream;
    try {
        stream = await navigator.mediaDevices.getUserMedia({ audio: wanted });
    } catch (error) {
        throw new Error(REFUSALS[error.name] ?? `The microphone did not start: ${error.message}`);
    }
    const stopTracks = () => stream.getTracks().forEach((track) => track.stop());
    try {
        const source = context.createMediaStreamSource(stream);
        const tap = await makeTap(context, onBlock);
        source.connect(tap);
        // It gives silence, but only what leads to the loudspeakers is run.
        tap.connect(context.destination);
        stream.getTracks().forEach((track) => track.addEventListener("ended", onLost));
        const close = () => {
            stopTracks();
            source.disconnect();
            tap.disconnect();
        };
        return { close };
    } catch (error) {
        stopTracks();
        throw error;
    }
}

async function makeTap(context, onBlock) {
    const one = { channelCount: 1, channelCountMode: "explicit" };
    if (context.audioWorklet) {
        const url = URL.createObjectURL(new Blob([WORKLET], { type: "text/javascript" }));
        try {
            await context.audioWorklet.addModule(url);
            const tap = new AudioWorkletNode(context, "flashhead-microphone", one);
            tap.port.onmessage = ({ data }) => onBlock(data);
            return tap;
        } catch (error) {
            console.warn("FlashHead Live: no AudioWorklet, using a ScriptProcessor", error);
        } finally {
            URL.revokeObjectURL(url);
        }
    }
    const tap = context.createScriptProcessor(BLOCK, 1, 1);
    tap.onaudioprocess = ({ inputBuffer }) => onBlock(inputBuffer.getChannelData(0).slice());
    return tap;
}
