// Plays chunks of pictures and sound. The sound card's clock drives both, so lips stay in time.

const JITTER_SECONDS = 0.15; // how late a chunk may come without a gap

export class Player {
    #context;
    #canvas;
    #volume;
    #frames = []; // {at, picture}, in order, not shown yet
    #end = 0; // when what has come so far will have been played
    #loop;

    constructor(context, canvas) {
        this.#context = context;
        this.#canvas = canvas;
        this.#volume = context.createGain();
        this.#volume.connect(context.destination);
        const draw = () => {
            this.#show();
            this.#loop = requestAnimationFrame(draw);
        };
        draw();
    }

    set muted(muted) {
        this.#volume.gain.value = muted ? 0 : 1;
    }

    /** Seconds until all is played. */
    get left() {
        return Math.max(0, this.#end - this.#now);
    }

    /** pictures: ImageBitmaps. sound: Float32Array of mono samples. */
    add(pictures, fps, sound, rate) {
        const { currentTime } = this.#context;
        if (this.#end < currentTime) this.#end = currentTime + JITTER_SECONDS;
        const buffer = this.#context.createBuffer(1, sound.length, rate);
        buffer.copyToChannel(sound, 0);
        const source = new AudioBufferSourceNode(this.#context, { buffer });
        source.connect(this.#volume);
        source.start(this.#end);
        // A page in the background draws nothing; what it has missed must not pile up.
        this.#show();
        pictures.forEach((picture, i) => this.#frames.push({ at: this.#end + i / fps, picture }));
        this.#end += buffer.duration;
    }

    close() {
        cancelAnimationFrame(this.#loop);
        this.#frames.forEach(({ picture }) => picture.close());
        this.#frames = [];
        this.#volume.disconnect();
    }

    /** What is heard now: the card is behind the samples that it has been given. */
    get #now() {
        return this.#context.currentTime - (this.#context.outputLatency || 0);
    }

    #show() {
        const now = this.#now;
        const due = this.#frames.filter(({ at }) => at <= now);
        if (!due.length) return;
        this.#frames = this.#frames.slice(due.length);
        const { picture } = due.at(-1);
        if (this.#canvas.width !== picture.width) this.#canvas.width = picture.width;
        if (this.#canvas.height !== picture.height) this.#canvas.height = picture.height;
        this.#canvas.getContext("2d").drawImage(picture, 0, 0);
        due.forEach((frame) => frame.picture.close());
    }
}
