"""What Incremental Sampler expands into, beside Start Stream and the kept chunk nodes.

ComfyUI knows a node's result again by everything that led to it. In one chain, the thousandth
chunk would have thousands of ancestors, so the chain is cut into segments that expand for
themselves: outside, a segment is one ancestor. And a chunk gets its own samples as a plain value
instead of a link to the audio, so that it depends on nothing that is said later.
"""

from __future__ import annotations

import torch
from comfy_api.latest import io
from comfy_execution.graph_utils import GraphBuilder

from ..flashhead.geometry import ChunkGeometry
from ..flashhead.stream.speech import Speech
from . import inputs
from .kept_chunk import ChunkKeys
from .schema import internal_schema
from .types import AudioEncoderType, Frames, FramesType, SpokenAudio, SpokenAudioType

CHUNKS_IN_SEGMENT = 32
SamplesType = io.Custom("FLASHHEAD_SAMPLES")


class Samples(bytes):
    """16 kHz float32 samples that ComfyUI compares by value, and prints in a few words."""

    @classmethod
    def of(cls, speech: Speech, geometry: ChunkGeometry, chunks: range) -> Samples:
        """What these chunks hear."""
        heard = torch.cat([speech.heard(geometry, chunk) for chunk in chunks])
        return cls(heard.numpy().tobytes())

    def chunk(self, number: int, count: int) -> Samples:
        """One of `count` equal parts."""
        size = len(self) // count
        return Samples(self[number * size : (number + 1) * size])

    def tensor(self) -> torch.Tensor:
        return torch.frombuffer(bytearray(self), dtype=torch.float32)

    def __repr__(self) -> str:
        return f"<{len(self) // 4} samples>"

    __str__ = __repr__


class Segment(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return internal_schema(
            node_id="FlashHeadSegment",
            display_name="FlashHead Segment",
            enable_expand=True,
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
            inputs=[
                inputs.model(),
                inputs.vae(),
                inputs.state("The stream before the segment."),
                io.Int.Input("first", default=0, min=0, tooltip="Number of its first chunk."),
                io.Int.Input("chunks", default=1, min=1, tooltip="How many chunks it has."),
                io.Int.Input("frame_count", default=1, min=1, tooltip="Frames that it shows."),
                io.String.Input("before", tooltip="Name of all that leads to the state."),
                io.String.Input("heard", tooltip="Names of what each chunk hears."),
                *inputs.sampling(),
                inputs.color_match(),
                inputs.guidance(),
                FramesType.Input("frames", optional=True, tooltip="The frames before."),
                SpokenAudioType.Input(
                    "audio", optional=True, tooltip="All the audio, where it cannot be cut."
                ),
                AudioEncoderType.Input(
                    "audio_encoder", optional=True, tooltip="What hears the samples."
                ),
                SamplesType.Input("samples", optional=True, tooltip="What the segment hears."),
                io.Float.Input(
                    "cache_seconds", default=8.0, optional=True, tooltip="The past to hear."
                ),
            ],
            outputs=[
                FramesType.Output(display_name="frames", tooltip="The frames so far."),
                inputs.state_output("The stream after the segment."),
            ],
        )

    @classmethod
    def execute(
        cls,
        vae,
        state,
        first: int,
        chunks: int,
        frame_count: int,
        before: str,
        heard: str,
        steps: int,
        shift: float,
        color_match: float,
        guidance: float,
        samples: Samples | None = None,
        cache_seconds: float = 8.0,
        **_,
    ) -> io.NodeOutput:
        links = cls.hidden.dynprompt.get_node(cls.hidden.unique_id)["inputs"]
        graph = GraphBuilder()
        at, frames, left = links["state"], links.get("frames"), frame_count
        for number, keys in enumerate(ChunkKeys.walk(before, heard.split(), color_match)):
            if samples is None:
                audio, chunk = links["audio"], first + number
            else:
                shown = min(left, state.geometry.new_frames)
                left -= shown
                audio, chunk = (
                    graph.node(
                        "FlashHeadSpeechSlice",
                        audio_encoder=links["audio_encoder"],
                        samples=samples.chunk(number, chunks),
                        frame_count=shown,
                        cache_seconds=cache_seconds,
                    ).out(0),
                    0,
                )
            sample = graph.node(
                "FlashHeadKeptSampleChunk",
                key=keys.sampled,
                model=links["model"],
                audio=audio,
                state=at,
                chunk=chunk,
                steps=steps,
                shift=shift,
                guidance=guidance,
            )
            decode = graph.node(
                "FlashHeadKeptDecodeChunk",
                key=keys.decoded,
                model=links["model"],
                vae=links["vae"],
                latent=sample.out(0),
                state=sample.out(1),
                color_match=color_match,
            )
            append = graph.node("FlashHeadAppendFrames", images=decode.out(0))
            append.set_input("frames", frames)
            frames, at = append.out(0), decode.out(1)
        return io.NodeOutput(frames, at, expand=graph.finalize())


class SpeechSlice(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return internal_schema(
            node_id="FlashHeadSpeechSlice",
            display_name="FlashHead Speech Slice",
            inputs=[
                AudioEncoderType.Input("audio_encoder", tooltip="What hears the samples."),
                SamplesType.Input("samples", tooltip="What one chunk hears."),
                io.Int.Input("frame_count", default=1, min=1, tooltip="Frames that it shows."),
                io.Float.Input("cache_seconds", default=8.0, tooltip="The past to hear."),
            ],
            outputs=[SpokenAudioType.Output(display_name="audio", tooltip="One chunk of speech.")],
        )

    @classmethod
    def execute(
        cls, audio_encoder, samples: Samples, frame_count: int, cache_seconds: float
    ) -> io.NodeOutput:
        tensor = samples.tensor()
        speech = Speech(tensor, frame_count, cache_seconds)
        source = {"waveform": tensor[None, None], "sample_rate": 16_000}
        return io.NodeOutput(SpokenAudio(speech, audio_encoder, source))


class AppendFrames(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return internal_schema(
            node_id="FlashHeadAppendFrames",
            display_name="FlashHead Append Frames",
            inputs=[
                io.Image.Input("images", tooltip="Frames of one chunk."),
                FramesType.Input("frames", optional=True, tooltip="The frames before."),
            ],
            outputs=[FramesType.Output(display_name="frames", tooltip="The frames so far.")],
        )

    @classmethod
    def execute(cls, images, frames: Frames | None = None) -> io.NodeOutput:
        return io.NodeOutput(Frames(images, frames))


class JoinFrames(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return internal_schema(
            node_id="FlashHeadJoinFrames",
            display_name="FlashHead Join Frames",
            inputs=[FramesType.Input("frames", tooltip="The frames of all chunks.")],
            outputs=[io.Image.Output(display_name="images", tooltip="All frames as one batch.")],
        )

    @classmethod
    def execute(cls, frames: Frames) -> io.NodeOutput:
        return io.NodeOutput(torch.cat(frames.chunks()))
