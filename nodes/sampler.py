"""Sampler: model, audio and portrait -> the frames of the whole clip."""

import comfy.model_management
import torch
from comfy_api.latest import io

from . import inputs
from .schema import schema
from .stream import Run, parked


class Sampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="FlashHeadSampler",
            display_name="FlashHead Sampler",
            description=(
                "Makes the portrait speak. Give the images to Create Video, at 25 fps with the "
                "same audio. The images of a second at 512x512 take 79 MB of memory; for long "
                "audio use FlashHead Generate Video."
            ),
            search_aliases=["talking head", "lip sync", "avatar", "SoulX", "audio to video"],
            inputs=inputs.whole_clip(),
            outputs=inputs.images_and_state(),
        )

    @classmethod
    def execute(cls, model, vae, audio, portrait=None, state=None, **choices) -> io.NodeOutput:
        run = Run.of(model, vae, audio, portrait, state, **choices)
        images = torch.empty(
            (audio.speech.frames, *run.size, 3),
            device=comfy.model_management.intermediate_device(),
        )
        start = 0
        for frames, state in run:  # noqa: B007, the last one is given on
            images[start : start + len(frames)] = frames
            start += len(frames)
        return io.NodeOutput(images, parked(state))
