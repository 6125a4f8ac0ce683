"""Start Stream: VAE and portrait -> the state before the first chunk."""

from comfy_api.latest import io

from . import inputs
from .schema import schema
from .stream import parked, start
from .vae import adapt_vae


class StartStream(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="FlashHeadStartStream",
            display_name="FlashHead Start Stream",
            description=(
                "Begins a stream that is made chunk by chunk: give the state to FlashHead Sample "
                "Chunk."
            ),
            search_aliases=["talking head", "chunk", "autoregressive"],
            inputs=[inputs.vae(), inputs.portrait(), inputs.seed()],
            outputs=[inputs.state_output("The stream before its first chunk.")],
        )

    @classmethod
    def execute(cls, vae, portrait, seed: int) -> io.NodeOutput:
        return io.NodeOutput(parked(start(adapt_vae(vae), portrait, seed)))
