// One conversation with a Live node: from the press of Start until everything is released again.
// web/docs/FlashHeadLive.md describes the messages.

import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";
import { openMicrophone } from "./live_microphone.js";
import { Player } from "./live_player.js";

export const NODE = "FlashHeadLive";
const RETRY_MS = 400;

export class Talk {
    #id;
    #say;
    #onEnd;
    #context = new AudioContext();
    #player;
    #microphone;
    #socket;
    #ready; // the node's first answer, once it hears us
    #stopped = false;
    #finished = false;
    #released = false;
    #work = Promise.resolve(); // pictures are decoded one chunk after the other

    /** id: of the node that runs. say: shows a line of text. onEnd: all is released. */
    constructor(id, canvas, say, onEnd) {
        this.#id = id;
        this.#say = say;
        this.#onEnd = onEnd;
        this.#player = new Player(this.#context, canvas);
    }

    set muted(muted) {
        this.#player.muted = muted;
    }

    async start() {
        try {
            this.#say("Asking for the microphone…");
            const microphone = await openMicrophone(
                this.#context,
                (samples) => this.#hear(samples),
                () => this.stop(),
            );
            if (this.#released || this.#stopped) microphone.close();
            else this.#microphone = microphone;
            if (!this.#released) await this.#context.resume();
            await this.#connect();
        } catch (error) {
            this.release(error.message);
        }
    }

    /** Hear no more; what was said is still shown, and the workflow then ends. */
    stop() {
        if (this.#stopped) return;
        this.#stopped = true;
        this.#microphone?.close();
        this.#say("Stopping…");
        if (this.#ready) this.#socket.send('{"type": "stop"}');
    }

    release(message = "") {
        if (this.#released) return;
        this.#released = true;
        this.#microphone?.close();
        this.#socket?.close();
        this.#player.close();
        this.#context.close();
        this.#say(message);
        this.#onEnd();
    }

    #hear(samples) {
        if (this.#ready && !this.#stopped && this.#socket.readyState === WebSocket.OPEN) {
            this.#socket.send(samples);
        }
    }

    /** Until the node is there, which the workflow is run for unless it runs already. */
    async #connect() {
        let queued = false;
        while (!this.#released) {
            const answer = await this.#call();
            if (this.#released) return;
            if (answer.type === "ready") {
                if (this.#stopped) this.#socket.send('{"type": "stop"}');
                else this.#say("Speak: the answer comes a moment later.");
                this.#ready = answer;
                return;
            }
            if (!answer.idle) throw new Error(answer.message);
            if (this.#stopped && !queued) {
                this.release();
                return;
            }
            if (!(await isExpected(this.#id))) {
                if (queued) throw new Error("The workflow ended before it could listen.");
                this.#say("Starting the workflow…");
                await app.queuePrompt(0, 1);
                queued = true;
            }
            await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
        }
    }

    /** Resolves to the node's first answer. */
    #call() {
        const path = api.apiURL(`/flashhead/live/${encodeURIComponent(this.#id)}`);
        const url = new URL(path, location.href);
        url.protocol = url.protocol.replace("http", "ws");
        const socket = new WebSocket(url);
        socket.binaryType = "arraybuffer";
        this.#socket = socket;
        return new Promise((resolve) => {
            const lost = { type: "error", message: "The connection to the node was lost." };
            socket.onopen = () => socket.send(JSON.stringify({ rate: this.#context.sampleRate }));
            socket.onmessage = ({ data }) => {
                resolve(JSON.parse(data));
                socket.onmessage = ({ data }) => this.#receive(data);
            };
            socket.onclose = () => {
                resolve(lost);
                if (this.#ready) this.#finish(lost.message);
            };
        });
    }

    #receive(data) {
        if (typeof data === "string") {
            const { type, message, error, seconds } = JSON.parse(data);
            if (type === "error") this.release(message);
            else if (type === "end" && error) this.release(error);
            else if (type === "end") this.#finish(`${seconds.toFixed(1)} s made.`);
            return;
        }
        this.#work = this.#work.then(() => this.#play(data)).catch((error) => {
            this.release(`A chunk could not be shown: ${error.message}`);
        });
    }

    async #play(data) {
        const length = new DataView(data).getUint32(0, true);
        const header = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
        let place = 4 + length + header.sound;
        const sound = new Float32Array(data.slice(4 + length, place));
        const pictures = await Promise.all(
            header.frames.map((size) => {
                const file = new Uint8Array(data, place, size);
                place += size;
                return createImageBitmap(new Blob([file], { type: "image/jpeg" }));
            }),
        );
        if (this.#released) return pictures.forEach((picture) => picture.close());
        this.#player.add(pictures, this.#ready.fps, sound, header.rate);
        if (header.dropped) {
            this.#say(`Too slow here: ${header.dropped.toFixed(1)} s of sound was left out.`);
        }
    }

    /** Let what has come play to its end. Only the first reason counts: the socket closes after
     *  any. */
    async #finish(message) {
        if (this.#finished) return;
        this.#finished = this.#stopped = true;
        this.#microphone?.close();
        await this.#work;
        if (this.#released) return;
        setTimeout(() => this.release(message), 1000 * this.#player.left);
    }
}

/** Whether a workflow with this Live node runs or waits. */
async function isExpected(id) {
    const answer = await api.fetchApi("/queue");
    const { queue_running: running, queue_pending: pending } = await answer.json();
    return [...running, ...pending].some(([, , prompt]) => prompt[id]?.class_type === NODE);
}
