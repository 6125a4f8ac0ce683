"""Paste Back: the talking head into the picture or video that its portrait was cut from."""

import comfy.utils
from comfy_api.latest import io

from ..flashhead.image.paste import paste
from .crop_type import CropType
from .progress import check_interrupt, say
from .schema import schema


class PasteBack(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="FlashHeadPasteBack",
            display_name="FlashHead Paste Back",
            description=(
                "Puts a talking head back where its portrait was cut out. For several heads, chain "
                "them: the images of one are the background of the next."
            ),
            search_aliases=["talking head", "paste face", "composite", "uncrop"],
            inputs=[
                io.MultiType.Input(
                    "background",
                    types=[io.Image, io.Video],
                    tooltip="The picture that went into Prepare Portrait, or frames or a video of "
                    "its size. One picture is repeated; of two lengths the longer counts, and the "
                    "shorter one's last frame stays.",
                ),
                io.Image.Input("frames", tooltip="The talking head, from a FlashHead sampler."),
                CropType.Input("crop", tooltip="From FlashHead Prepare Portrait."),
                io.Int.Input(
                    "feather",
                    default=32,
                    min=0,
                    max=1024,
                    tooltip="Over how many pixels of the background the crop's edges fade in. "
                    "Edges on the picture's border do not fade.",
                ),
                io.Float.Input(
                    "color_match",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="How far the head's colours are moved to meet the background's at the "
                    "seam; 0 is off.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="White shows the head. Of the background's size or the portrait's; "
                    "one, or one per frame.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="images",
                    tooltip="The background with the head, 25 frames a second as the head's.",
                )
            ],
        )

    @classmethod
    def execute(
        cls, background, frames, crop, feather: int, color_match: float, mask=None
    ) -> io.NodeOutput:
        if hasattr(background, "get_components"):
            background = background.get_components().images
        if background.shape[1] % 2 or background.shape[2] % 2:
            say("The picture's width or height is odd; a video needs both even: crop it first.")
        bar = comfy.utils.ProgressBar(max(len(background), len(frames)))

        def tick(done: int, total: int) -> None:
            check_interrupt()
            bar.update_absolute(done, total)

        images = paste(
            background,
            frames,
            crop,
            feather=feather,
            color_match=color_match,
            mask=mask,
            tick=tick,
        )
        return io.NodeOutput(images)
