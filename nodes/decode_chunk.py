"""Decode Chunk: latents of one chunk -> its new frames."""

import comfy.model_management
from comfy_api.latest import io

from ..flashhead.stream.settings import Settings
from . import inputs
from .progress import Watch
from .schema import schema
from .stream import check_latents, check_vae, decode, load, parked
from .vae import adapt_vae


class DecodeChunk(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="FlashHeadDecodeChunk",
            display_name="FlashHead Decode Chunk",
            description=(
                "Decodes one chunk, matches its colours to the portrait's, and encodes its last "
                "frames again: the next chunk moves on from them."
            ),
            search_aliases=["talking head", "chunk", "vae decode"],
            inputs=[
                inputs.vae(),
                io.Latent.Input("latent", tooltip="From FlashHead Sample Chunk."),
                inputs.state("From the Sample Chunk that the latent is of."),
                inputs.color_match(),
            ],
            outputs=[
                io.Image.Output(
                    display_name="images",
                    tooltip="The chunk's new frames: 24 with Lite, 28 with Pro; fewer at the end "
                    "of the audio.",
                ),
                inputs.state_output("For the next Sample Chunk."),
            ],
        )

    @classmethod
    def execute(cls, vae, latent, state, color_match: float) -> io.NodeOutput:
        vae = adapt_vae(vae)
        Settings(color_match=color_match)  # checks its range
        check_vae(vae, state)
        check_latents(latent["samples"], state)
        load([vae.patcher])
        watch = Watch(1, 1, vae.patcher.load_device)
        frames, state = decode(vae, latent["samples"], state, color_match, watch)
        watch.chunk(frames)
        return io.NodeOutput(frames.to(comfy.model_management.intermediate_device()), parked(state))
