"""Sample Chunk: the latents of one chunk."""

import comfy.model_management
from comfy_api.latest import io

from ..flashhead.stream.settings import Settings
from . import inputs
from .progress import Watch
from .schema import schema
from .stream import check_model, load, parked, plan, sample


class SampleChunk(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="FlashHeadSampleChunk",
            display_name="FlashHead Sample Chunk",
            description=(
                "Samples one chunk of a stream. Its latent can be changed or replaced before "
                "FlashHead Decode Chunk, which takes the state along."
            ),
            search_aliases=["talking head", "chunk", "autoregressive"],
            inputs=[
                inputs.model(),
                inputs.audio(),
                inputs.state("From Start Stream, Decode Chunk, a sampler or Load State."),
                io.Int.Input(
                    "chunk",
                    default=0,
                    min=0,
                    max=1_000_000,
                    tooltip="Which part of the audio is heard: 0 is the first, one more for each "
                    "Sample Chunk that follows. A chunk has 24 new frames with Lite, 28 with Pro.",
                ),
                *inputs.sampling(),
                inputs.guidance(),
            ],
            outputs=[
                io.Latent.Output(
                    display_name="latent", tooltip="33 frames, the first of which repeat."
                ),
                inputs.state_output("For Decode Chunk, with the latent."),
            ],
        )

    @classmethod
    def execute(
        cls, model, audio, state, chunk: int, steps: int, shift: float, guidance: float
    ) -> io.NodeOutput:
        settings = Settings(steps=steps, shift=shift, guidance=guidance)
        check_model(model, audio, state.geometry)
        state.check_between_chunks()
        audio.speech.check(state.geometry, chunk)
        load([model, audio.encoder.patcher], model, state.size)
        watch = Watch(1, steps, model.load_device)
        shared = plan(model, settings, state)
        latents, state = sample(model, shared, audio, chunk, state, watch)
        watch.chunk()
        device = comfy.model_management.intermediate_device()
        return io.NodeOutput({"samples": latents.to(device)}, parked(state))
