"""Sampler: model, audio and portrait -> the frames of the whole clip."""

import comfy.model_management
import torch
from comfy_api.latest import io

from ..flashhead.settings import Settings
from . import inputs
from .schema import schema
from .stream import Run, parked
from .vae import adapt_vae


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
            outputs=[
                io.Image.Output(
                    display_name="images", tooltip="25 frames for each second of audio."
                ),
                inputs.state_output("Where the stream is, to go on from with other audio."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model,
        vae,
        audio,
        seed: int,
        steps: int,
        shift: float,
        color_match: float,
        guidance: float,
        portrait=None,
        state=None,
    ) -> io.NodeOutput:
        settings = Settings(
            seed=seed, steps=steps, shift=shift, color_match=color_match, guidance=guidance
        )
        run = Run(model, adapt_vae(vae), audio, settings, portrait, state)
        images = torch.empty(
            (audio.speech.frames, *run.size, 3),
            device=comfy.model_management.intermediate_device(),
        )
        start = 0
        for frames, state in run:  # noqa: B007, the last one is given on
            images[start : start + len(frames)] = frames
            start += len(frames)
        return io.NodeOutput(images, parked(state))
