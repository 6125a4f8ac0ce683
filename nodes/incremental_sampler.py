"""Incremental Sampler: the Sampler as a graph of chunk nodes, which ComfyUI caches one by one."""

from comfy_api.latest import io
from comfy_execution.graph_utils import GraphBuilder, is_link

from ..flashhead.geometry import ChunkGeometry
from ..flashhead.stream.speech import Speech
from . import inputs
from .keeper import digest, keep_only, number, state_digest
from .kept_chunk import ChunkKeys
from .schema import schema
from .segment import CHUNKS_IN_SEGMENT, Samples
from .stream import Run


class IncrementalSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="FlashHeadIncrementalSampler",
            display_name="FlashHead Incremental Sampler",
            description=(
                "The FlashHead Sampler for work in progress: when the audio is edited, only the "
                "chunks from the edit on are made again. Finished chunks stay in memory, so images "
                "take twice the Sampler's: 158 MB for a second at 512x512."
            ),
            search_aliases=["talking head", "lip sync", "re-render", "cache", "edit audio"],
            enable_expand=True,
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
            inputs=inputs.whole_clip(),
            outputs=inputs.images_and_state(),
        )

    @classmethod
    def execute(cls, model, vae, audio, portrait=None, state=None, **choices) -> io.NodeOutput:
        run = Run.of(model, vae, audio, portrait, state, **choices)
        prompt = cls.hidden.dynprompt
        links = prompt.get_node(cls.hidden.unique_id)["inputs"]
        speech, geometry = audio.speech, run.vae.geometry
        spoken = {"audio": links["audio"]}
        encoder = _encoder_link(prompt, links["audio"])
        # A whole clip's features change everywhere with any sample of it.
        slices = encoder is not None and speech.features is None
        if slices:
            spoken = {"audio_encoder": encoder, "cache_seconds": speech.cache_seconds}

        owner = cls.hidden.unique_id
        before, heard = f"{owner}/{_name(run)}", _names(speech, geometry)
        keys = list(ChunkKeys.walk(before, heard, choices["color_match"]))
        keep_only(model, owner, (name for key in keys for name in (key.sampled, key.decoded)))

        graph, seed = GraphBuilder(), choices.pop("seed")
        if state is None:
            begin = {key: links[key] for key in ("vae", "portrait")}
            at = graph.node("FlashHeadStartStream", **begin, seed=seed).out(0)
        else:
            at = links["state"]
        frames = None
        for first in range(0, run.chunks, CHUNKS_IN_SEGMENT):
            chunks = range(first, min(run.chunks, first + CHUNKS_IN_SEGMENT))
            if slices:
                spoken["samples"] = Samples.of(speech, geometry, chunks)
            segment = graph.node(
                "FlashHeadSegment",
                **{key: links[key] for key in ("model", "vae")},
                **spoken,
                state=at,
                first=first,
                chunks=len(chunks),
                frame_count=sum(len(speech.span(geometry, chunk)) for chunk in chunks),
                before=before if first == 0 else keys[first - 1].decoded,
                heard=" ".join(heard[first : chunks.stop]),
                **choices,
            )
            segment.set_input("frames", frames)
            frames, at = segment.out(0), segment.out(1)
        joined = graph.node("FlashHeadJoinFrames", frames=frames)
        return io.NodeOutput(joined.out(0), at, expand=graph.finalize())


def _name(run: Run) -> str:
    """A name for all that leads to the first chunk but its audio."""
    state = run.state
    return digest(
        digest(run.portrait, run.settings.seed) if state is None else state_digest(state),
        *(number(one) for one in (run.vae.patcher, run.audio.encoder.patcher)),
        run.audio.speech.cache_seconds,
        run.settings.steps,
        run.settings.shift,
        run.settings.guidance,
    )


def _names(speech: Speech, geometry: ChunkGeometry) -> list[str]:
    """A name for what each chunk hears and how much of it is shown."""
    whole = None if speech.features is None else digest(speech.features)
    return [
        digest(whole or speech.heard(geometry, chunk), len(speech.span(geometry, chunk)))
        for chunk in range(speech.chunks(geometry))
    ]


def _encoder_link(prompt, audio_link) -> list | None:
    """The link that brings the encoder to the Encode Audio behind a link, if that is behind it."""
    node = prompt.get_node(audio_link[0])
    if node["class_type"] != "FlashHeadEncodeAudio":
        return None
    link = node["inputs"].get("audio_encoder")
    return link if is_link(link) else None
