"""Example: a portrait and speech that come with the pack, so that a first run needs no file."""

import torch
from comfy_api.latest import io

from ..flashhead.examples import SPEECH
from ..flashhead.image.portrait import load_portrait, to_tensor
from ..flashhead.media.audio_source import FileAudio
from ..flashhead.pocket import portraits
from .schema import output, schema


class Example(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="FlashHeadExample",
            display_name="FlashHead Example",
            description="A drawn portrait and a few seconds of speech that come with the pack, to "
            "try it with nothing downloaded or uploaded. The checkpoint pocket was trained on "
            "these faces.",
            search_aliases=["sample", "demo", "test portrait", "test speech", "pocket"],
            inputs=[
                io.Combo.Input(
                    "face", options=list(portraits()), tooltip="Which of the drawn faces."
                )
            ],
            outputs=[
                output(io.Image, "portrait", "The face, 384x384, for FlashHead Prepare Portrait."),
                output(io.Audio, "speech", "For FlashHead Prepare Audio, and the video's sound."),
            ],
        )

    @classmethod
    def execute(cls, face: str) -> io.NodeOutput:
        portrait = to_tensor(load_portrait(portraits()[face])).unsqueeze(0)
        source = FileAudio(SPEECH)
        waveform = torch.cat(list(source.blocks()), dim=1).unsqueeze(0)
        return io.NodeOutput(portrait, {"waveform": waveform, "sample_rate": source.sample_rate})
