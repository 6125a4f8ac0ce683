"""Prepare Portrait: any IMAGE -> an IMAGE of exactly the size that is to be generated."""

from comfy_api.latest import io

from ..flashhead.portrait import cover_crop, load_portrait, to_tensor


class PreparePortrait(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FlashHeadPreparePortrait",
            display_name="FlashHead Prepare Portrait",
            category="FlashHead",
            description=(
                "Scales a picture until it covers the size and cuts out the centre. The size of "
                "the portrait is the size of the video; the model was trained at 512x512."
            ),
            inputs=[
                io.Image.Input("image", tooltip="One picture of a person looking at the camera."),
                io.Int.Input(
                    "width",
                    default=512,
                    min=32,
                    max=4096,
                    step=32,
                    tooltip="Width of the video in pixels.",
                ),
                io.Int.Input(
                    "height",
                    default=512,
                    min=32,
                    max=4096,
                    step=32,
                    tooltip="Height of the video in pixels.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="portrait", tooltip="The portrait, for the FlashHead Sampler."
                )
            ],
        )

    @classmethod
    def execute(cls, image, width: int, height: int) -> io.NodeOutput:
        portrait = cover_crop(load_portrait(image), (height, width))
        return io.NodeOutput(to_tensor(portrait).unsqueeze(0))
