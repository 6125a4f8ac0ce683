"""Switch Portrait: a stream goes on with another face."""

from comfy_api.latest import io

from . import inputs
from .schema import schema
from .stream import parked, switch
from .vae import adapt_vae


class SwitchPortrait(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="FlashHeadSwitchPortrait",
            display_name="FlashHead Switch Portrait",
            description=(
                "From the next chunk on the stream shows another portrait of the same size; audio "
                "and noise go on as they were."
            ),
            search_aliases=["talking head", "change face", "swap portrait"],
            inputs=[
                inputs.state("From Start Stream, Decode Chunk, a sampler or Load State."),
                inputs.vae(),
                inputs.portrait(),
            ],
            outputs=[inputs.state_output("The stream with the other portrait.")],
        )

    @classmethod
    def execute(cls, state, vae, portrait) -> io.NodeOutput:
        return io.NodeOutput(parked(switch(adapt_vae(vae), portrait, state)))
