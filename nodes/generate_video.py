"""Generate Video: the Sampler and the sound, to a file: memory does not grow with length."""

import logging
import os
from pathlib import Path

import folder_paths
from comfy_api.latest import InputImpl, io

from ..flashhead.geometry import FPS
from ..flashhead.media.audio_source import TensorAudio
from ..flashhead.media.video_writer import VideoWriter
from . import inputs
from .progress import say
from .schema import schema
from .stream import Run, parked


class GenerateVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="FlashHeadGenerateVideo",
            display_name="FlashHead Generate Video",
            description=(
                "Makes the portrait speak, straight into a video with sound: frames go to disk as "
                "they are made, so an hour takes the memory of a minute. Give the video to Save "
                "Video. Cancel keeps what is finished, in the output folder."
            ),
            search_aliases=["talking head", "lip sync", "avatar", "long video", "SoulX"],
            inputs=[
                *inputs.whole_clip(),
                io.Audio.Input(
                    "sound",
                    optional=True,
                    tooltip="The video's sound, from its first frame on. Without it, the audio "
                    "that is spoken.",
                ),
            ],
            outputs=[
                io.Video.Output(
                    display_name="video", tooltip="H.264 at 25 frames a second, with sound."
                ),
                inputs.state_output("Where the stream is, to go on from with other audio."),
            ],
        )

    @classmethod
    def execute(
        cls, model, vae, audio, portrait=None, state=None, sound=None, **choices
    ) -> io.NodeOutput:
        run = Run.of(model, vae, audio, portrait, state, **choices)
        sound = audio.source if sound is None else sound
        source = TensorAudio(sound["waveform"][0], sound["sample_rate"])
        path = _new_path(folder_paths.get_temp_directory(), "flashhead")
        height, width = run.size
        try:
            with VideoWriter(path, height=height, width=width, fps=FPS, audio=source) as writer:
                for frames, state in run:  # noqa: B007, the last one is given on
                    writer.write(frames)
        except BaseException:
            _keep(path)
            raise
        return io.NodeOutput(InputImpl.VideoFromFile(str(path)), parked(state))


def _new_path(folder: str, prefix: str) -> Path:
    """A name that no file has, counted as Save Video counts."""
    os.makedirs(folder, exist_ok=True)
    full, name, counter, _, _ = folder_paths.get_save_image_path(prefix, folder)
    return Path(full) / f"{name}_{counter:05}_.mp4"


def _keep(path: Path) -> None:
    """Move an unfinished video to where the user finds it."""
    if not path.is_file():
        return
    kept = _new_path(folder_paths.get_output_directory(), "video/FlashHead_unfinished")
    os.replace(path, kept)
    logging.warning("FlashHead: the video was not finished; what is done is in %s", kept)
    say(f"what is finished: {kept.name}")
