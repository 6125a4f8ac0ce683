"""Sample Chunk and Decode Chunk as Incremental Sampler uses them: once done, never again.

`key` names all that leads to a result. It comes from `ChunkKeys`, which the sampler and its
segments walk in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from comfy_api.latest import io

from .decode_chunk import DecodeChunk
from .keeper import digest, keep, kept
from .sample_chunk import SampleChunk
from .schema import internal_schema


@dataclass(frozen=True)
class ChunkKeys:
    """Names of a chunk's two results, each "sampler/digest"."""

    sampled: str
    decoded: str

    @classmethod
    def walk(cls, before: str, heard: list[str], color_match: float) -> Iterator[ChunkKeys]:
        """Of chunks in a row, from the name of what is before and of what each hears."""
        owner = before.partition("/")[0]
        for part in heard:
            sampled = f"{owner}/{digest(before, part)}"
            before = f"{owner}/{digest(sampled, color_match)}"
            yield cls(sampled, before)


def _key() -> io.Input:
    return io.String.Input("key", tooltip="Name of all that leads to the result.")


class KeptSampleChunk(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        whole = SampleChunk.define_schema()
        return internal_schema(
            node_id="FlashHeadKeptSampleChunk",
            display_name="FlashHead Kept Sample Chunk",
            inputs=[*whole.inputs, _key()],
            outputs=whole.outputs,
        )

    @classmethod
    def execute(cls, model, key: str, **inputs) -> io.NodeOutput:
        outputs = kept(model, key)
        if outputs is None:
            outputs = SampleChunk.execute(model=model, **inputs).args
            keep(model, key, outputs)
        return io.NodeOutput(*outputs)


class KeptDecodeChunk(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        whole = DecodeChunk.define_schema()
        return internal_schema(
            node_id="FlashHeadKeptDecodeChunk",
            display_name="FlashHead Kept Decode Chunk",
            inputs=[
                io.Model.Input("model", tooltip="What the result is kept with."),
                *whole.inputs,
                _key(),
            ],
            outputs=whole.outputs,
        )

    @classmethod
    def execute(cls, model, key: str, **inputs) -> io.NodeOutput:
        outputs = kept(model, key)
        if outputs is None:
            outputs = DecodeChunk.execute(**inputs).args
            keep(model, key, outputs)
        return io.NodeOutput(*outputs)
