"""Portrait nodes: Prepare Portrait cuts a portrait out, Paste Back puts the talking head there."""

from contextlib import suppress
from fractions import Fraction
from typing import Any

import comfy.utils
import torch
from comfy_api.latest import InputImpl, io
from PIL import Image

from ..flashhead.errors import PortraitError
from ..flashhead.image import crop as crops
from ..flashhead.image.faces import auto_crop
from ..flashhead.image.framing import framing_warnings
from ..flashhead.image.paste import paste
from ..flashhead.image.portrait import load_portrait, to_tensor
from ..flashhead.media.frame_times import constant_times, file_times, held_frames
from .progress import check_interrupt, say, warn
from .schema import choice, number, output, schema
from .types import CropType

# What Prepare Portrait must be given for a crop.
_NEEDED = {
    "mask": "a mask of the face",
    "face": "the boxes of a detector, such as Detect Face Landmarks (MediaPipe)",
}
_SLOWEST = Fraction(1, 100)  # frames a second; below, one frame would fill the memory
# Core's type; a plain custom socket, because core's own input makes a widget of it.
_BoundingBoxType = io.Custom("BOUNDING_BOX")


class PreparePortrait(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="FlashHeadPreparePortrait",
            display_name="FlashHead Prepare Portrait",
            description="Cuts a portrait out of a picture. The size of the portrait is the size of "
            "the video; Lite and Pro were trained at 512x512, pocket at 96x96.",
            search_aliases=["talking head", "crop face", "portrait crop", "face box"],
            inputs=[
                io.Image.Input("image", tooltip="One picture of a person looking at the camera."),
                _size("width"),
                _size("height"),
                # Optional, so that prompts saved before these existed still run.
                choice(
                    "crop",
                    ["cover", "box", *_NEEDED, "auto"],
                    "cover: the largest crop, from the middle. box: x, y, box_width and "
                    "box_height. mask: around the painted face. face: around a detected face. "
                    "auto: as the model was trained, around a face that is detected or that "
                    "OpenCV finds; else cover.",
                    optional=True,
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
                number(
                    "ratio",
                    (crops.DEFAULT_RATIO, 1.0, 10.0, 0.05),
                    "How much larger the crop is than the face or the mask; 1.8 shows head and "
                    "shoulders.",
                    optional=True,
                ),
                number(
                    "offset",
                    (0.0, -2.0, 2.0, 0.05),
                    "Moves the crop down (more shoulders) or, below 0, up (more hair), in heights "
                    "of the face.",
                    optional=True,
                ),
                number(
                    "face_index",
                    (-1, -1, 63),
                    "Which of several faces: 0 the leftmost, 1 the next; -1 the largest.",
                    optional=True,
                    advanced=True,
                ),
                io.Mask.Input(
                    "mask", optional=True, tooltip="The face painted white; for crop = mask."
                ),
                _BoundingBoxType.Input(
                    "face",
                    optional=True,
                    extra_dict={"forceInput": True},
                    tooltip="Boxes of faces, such as Detect Face Landmarks (MediaPipe) gives; for "
                    "crop = face or auto. With any crop, they are checked for a face that is tiny, "
                    "cut off or off-centre.",
                ),
            ],
            outputs=[
                output(io.Image, "portrait", "The portrait, for the FlashHead Sampler."),
                output(
                    CropType,
                    "crop",
                    "Where the portrait was in the picture, for FlashHead Paste Back.",
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
        ratio: float = crops.DEFAULT_RATIO,
        offset: float = 0.0,
        face_index: int = -1,
        mask: torch.Tensor | None = None,
        face: Any = None,
    ) -> io.NodeOutput:
        picture = load_portrait(image)
        source, size = (picture.height, picture.width), (height, width)
        if (crop == "mask" and mask is None) or (crop == "face" and face is None):
            raise PortraitError(f"The crop is set to {crop}; connect {_NEEDED[crop]}.")
        if crop == "auto":
            taken, warnings = auto_crop(picture, size, face, face_index)
            warn(warnings)
            return _cut(picture, taken)
        head, warnings = None, []
        if crop == "mask" and mask is not None:
            head = crops.mask_box(mask, source)
        elif face is not None:
            try:
                head = crops.face_box(face, face_index)
            except PortraitError as error:
                # A detector that saw no face is no error where its boxes are only checked.
                if crop == "face":
                    raise
                warnings = [str(error)]
        if crop == "cover":
            taken = crops.crop_to_cover(source, size)
        elif crop == "box":
            taken = crops.crop_box(crops.Box(x, y, box_width, box_height), source, size)
        else:
            assert head is not None
            taken = crops.crop_around(head, source, size, ratio, offset)
        warn(warnings if head is None else framing_warnings(head, taken))
        return _cut(picture, taken)


def _cut(picture: Image.Image, taken: crops.Crop) -> io.NodeOutput:
    return io.NodeOutput(to_tensor(crops.cut(picture, taken)).unsqueeze(0), taken)


def _size(name: str) -> io.Input:
    what = f"{name.capitalize()} of the video in pixels"
    return number(name, (512, 32, 4096, 32), f"{what}: 512 suits Lite and Pro, 96 is pocket's.")


def _pixels(name: str, tooltip: str) -> io.Input:
    return number(name, (0, 0, 16384), tooltip, optional=True)


class PasteBack(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="FlashHeadPasteBack",
            display_name="FlashHead Paste Back",
            description="Puts a talking head back where its portrait was cut out. For several "
            "heads, chain them: the images of one are the background of the next.",
            search_aliases=["talking head", "paste face", "composite", "uncrop"],
            inputs=[
                io.MultiType.Input(
                    "background",
                    types=[io.Image, io.Video],
                    tooltip="The picture that went into Prepare Portrait, or frames or a video of "
                    "its size. A video of any frame rate becomes 25 a second. One picture is "
                    "repeated; of two lengths the longer counts, and the shorter one's last frame "
                    "stays.",
                ),
                io.Image.Input("frames", tooltip="The talking head, from a FlashHead sampler."),
                CropType.Input("crop", tooltip="From FlashHead Prepare Portrait."),
                number(
                    "feather",
                    (32, 0, 1024),
                    "Over how many pixels of the background the crop's edges fade in. Edges on the "
                    "picture's border do not fade.",
                ),
                number(
                    "color_match",
                    (0.5, 0.0, 1.0, 0.01),
                    "How far the head's colours are moved to meet the background's at the seam; 0 "
                    "is off.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="White shows the head. Of the background's size or the portrait's; "
                    "one, or one per frame.",
                ),
            ],
            outputs=[
                output(
                    io.Image,
                    "images",
                    "The background with the head, 25 frames a second as the head's.",
                )
            ],
        )

    @classmethod
    def execute(
        cls, background: Any, frames: torch.Tensor, crop: crops.Crop, **options: Any
    ) -> io.NodeOutput:
        if hasattr(background, "get_components"):
            background = _video_frames(background)
        bar = comfy.utils.ProgressBar(1)

        def tick(done: int, total: int) -> None:
            check_interrupt()
            bar.update_absolute(done, total)

        images = paste(background, frames, crop, tick=tick, **options)
        if images.shape[1] % 2 or images.shape[2] % 2:
            say("The picture's width or height is odd; a video needs both even: crop it first.")
        return io.NodeOutput(images)


def _video_frames(video: Any) -> torch.Tensor:
    """A VIDEO's frames at the model's rate."""
    components = video.get_components()
    images, times = components.images, None
    if isinstance(video, InputImpl.VideoFromFile) and hasattr(video, "get_stream_source"):
        trim = getattr(video, "get_active_trim_window", lambda: (0.0, 0.0))
        times = file_times(video.get_stream_source(), *trim())
    if times is None or len(times) != len(images) + 1:
        rate = Fraction(0)
        with suppress(TypeError, ValueError, OverflowError):  # None, NaN, infinity
            rate = Fraction(components.frame_rate)
        if not len(images) or rate < _SLOWEST:
            raise PortraitError("The background video has no frames, or no frame rate.")
        times = constant_times(len(images), rate)
    held = held_frames(times)
    return images if held == list(range(len(images))) else images[held]
