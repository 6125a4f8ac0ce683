"""Portrait nodes: Prepare Portrait cuts a portrait out, Paste Back puts the talking head there."""

from __future__ import annotations

from typing import Any

import comfy.utils
import torch
from comfy_api.latest import io

from ..flashhead.errors import PortraitError
from ..flashhead.image.crop import (
    DEFAULT_RATIO,
    Box,
    Crop,
    crop_around,
    crop_box,
    crop_to_cover,
    cut,
    face_box,
    mask_box,
)
from ..flashhead.image.framing import framing_warnings
from ..flashhead.image.paste import paste
from ..flashhead.image.portrait import load_portrait, to_tensor
from .progress import check_interrupt, say, warn
from .schema import make, schema
from .types import CropType

_LARGEST = 16384
# Core's type; a plain custom socket, because core's own input makes a widget of it.
_BoundingBoxType = io.Custom("BOUNDING_BOX")


class PreparePortrait(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="FlashHeadPreparePortrait",
            display_name="FlashHead Prepare Portrait",
            description=(
                "Cuts a portrait out of a picture. The size of the portrait is the size of the "
                "video; Lite and Pro were trained at 512x512, pocket at 96x96."
            ),
            search_aliases=["talking head", "crop face", "portrait crop", "face box"],
            inputs=[
                io.Image.Input("image", tooltip="One picture of a person looking at the camera."),
                _size("width"),
                _size("height"),
                # Optional, so that prompts saved before these existed still run.
                io.Combo.Input(
                    "crop",
                    options=["cover", "box", "mask", "face"],
                    default="cover",
                    optional=True,
                    tooltip="cover: the largest crop, from the middle. box: x, y, box_width and "
                    "box_height. mask: around the painted face. face: around a detected face.",
                ),
                _pixels("x", "Left edge of the box in pixels of the picture; for crop = box."),
                _pixels("y", "Top edge of the box in pixels of the picture; for crop = box."),
                _pixels(
                    "box_width",
                    "Width of the box in pixels; 0 reaches to the picture's edge. The box grows to "
                    "the portrait's aspect.",
                ),
                _pixels(
                    "box_height", "Height of the box in pixels; 0 reaches to the picture's edge."
                ),
                io.Float.Input(
                    "ratio",
                    default=DEFAULT_RATIO,
                    min=1.0,
                    max=10.0,
                    step=0.05,
                    optional=True,
                    tooltip="How much larger the crop is than the face or the mask; 1.8 shows "
                    "head and shoulders.",
                ),
                io.Float.Input(
                    "offset",
                    default=0.0,
                    min=-2.0,
                    max=2.0,
                    step=0.05,
                    optional=True,
                    tooltip="Moves the crop down (more shoulders) or, below 0, up (more hair), in "
                    "heights of the face.",
                ),
                make(
                    io.Int.Input,
                    "face_index",
                    default=-1,
                    min=-1,
                    max=63,
                    optional=True,
                    advanced=True,
                    tooltip="Which of several faces: 0 the leftmost, 1 the next; -1 the largest.",
                ),
                io.Mask.Input(
                    "mask", optional=True, tooltip="The face painted white; for crop = mask."
                ),
                _BoundingBoxType.Input(
                    "face",
                    optional=True,
                    extra_dict={"forceInput": True},
                    tooltip="Boxes of faces, such as Detect Face Landmarks (MediaPipe) gives; for "
                    "crop = face. With any crop, they are checked for a face that is tiny, cut "
                    "off or off-centre.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="portrait", tooltip="The portrait, for the FlashHead Sampler."
                ),
                CropType.Output(
                    display_name="crop",
                    tooltip="Where the portrait was in the picture, for FlashHead Paste Back.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: torch.Tensor,
        width: int,
        height: int,
        crop: str = "cover",
        x: int = 0,
        y: int = 0,
        box_width: int = 0,
        box_height: int = 0,
        ratio: float = DEFAULT_RATIO,
        offset: float = 0.0,
        face_index: int = -1,
        mask: torch.Tensor | None = None,
        face: Any = None,
    ) -> io.NodeOutput:
        picture = load_portrait(image)
        source, size = (picture.height, picture.width), (height, width)
        # Boxes that are only checked may be empty: a detector that saw no face is no error then.
        known = face_box(face, face_index) if crop == "face" and face is not None else None
        if crop == "cover":
            taken = crop_to_cover(source, size)
        elif crop == "box":
            taken = crop_box(Box(x, y, box_width, box_height), source, size)
        elif crop == "mask":
            if mask is None:
                raise PortraitError("The crop is set to mask; connect a mask of the face.")
            known = mask_box(mask, source)
            taken = crop_around(known, source, size, ratio, offset)
        else:
            if known is None:
                raise PortraitError(
                    "The crop is set to face; connect the boxes of a detector, such as Detect "
                    "Face Landmarks (MediaPipe)."
                )
            taken = crop_around(known, source, size, ratio, offset)
        if known is None and face is not None:
            try:
                known = face_box(face, face_index)
            except PortraitError as error:
                warn([str(error)])
        if known is not None:
            warn(framing_warnings(known, taken))
        return io.NodeOutput(to_tensor(cut(picture, taken)).unsqueeze(0), taken)


def _size(name: str) -> io.Input:
    return io.Int.Input(
        name,
        default=512,
        min=32,
        max=4096,
        step=32,
        tooltip=f"{name.capitalize()} of the video in pixels: 512 suits Lite and Pro, 96 is "
        "pocket's.",
    )


def _pixels(name: str, tooltip: str) -> io.Input:
    return io.Int.Input(name, default=0, min=0, max=_LARGEST, optional=True, tooltip=tooltip)


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
        cls,
        background: Any,
        frames: torch.Tensor,
        crop: Crop,
        feather: int,
        color_match: float,
        mask: torch.Tensor | None = None,
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
