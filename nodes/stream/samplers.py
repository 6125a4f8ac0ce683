"""Nodes that make a whole clip: Sampler, Incremental Sampler, Generate Video."""

import logging
import shutil
from pathlib import Path
from typing import Any

import comfy.model_management
import folder_paths
import torch
from comfy_api.latest import InputImpl, io

from ...flashhead.geometry import FPS
from ...flashhead.media.audio_source import TensorAudio
from ...flashhead.media.video_writer import VideoWriter
from ...flashhead.stream.loop import Recall
from .. import inputs
from ..progress import say
from ..schema import output, schema
from ..types import Audio, single_clip
from .kept_chunks import recall_of
from .run import Run


def _images(run: Run, recall: Recall | None = None) -> io.NodeOutput:
    """Outputs of a node that gives all frames of a run as one IMAGE."""
    device = comfy.model_management.intermediate_device()
    images = torch.empty((run.clip.frames, *run.size, 3), device=device)
    start = 0
    for frames, state in run.chunks(recall):  # noqa: B007, the last one is given on
        images[start : start + len(frames)] = frames
        start += len(frames)
        del frames  # not held while the next ones are made
    return io.NodeOutput(images, state.on_cpu())


class Sampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="FlashHeadSampler",
            display_name="FlashHead Sampler",
            description="Makes the portrait speak. Give the images to Create Video, at 25 fps with "
            "the same audio. The images of a second at 512x512 take 79 MB of memory; for long "
            "audio use FlashHead Generate Video.",
            search_aliases=["talking head", "lip sync", "avatar", "SoulX", "audio to video"],
            inputs=inputs.whole_clip(),
            outputs=inputs.images_and_state(),
        )

    @classmethod
    def execute(cls, **given: Any) -> io.NodeOutput:
        return _images(Run(**given))


class IncrementalSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="FlashHeadIncrementalSampler",
            display_name="FlashHead Incremental Sampler",
            description="The FlashHead Sampler for work in progress: when the audio is edited, "
            "only the chunks from the edit on are made again. Finished chunks stay in memory, so "
            "images take twice the Sampler's: 158 MB for a second at 512x512.",
            search_aliases=["talking head", "lip sync", "re-render", "cache", "edit audio"],
            hidden=[io.Hidden.unique_id],
            inputs=inputs.whole_clip(),
            outputs=inputs.images_and_state(),
        )

    @classmethod
    def execute(cls, **given: Any) -> io.NodeOutput:
        run = Run(**given)
        return _images(run, recall_of(run, cls.hidden.unique_id))


class GenerateVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="FlashHeadGenerateVideo",
            display_name="FlashHead Generate Video",
            description="Makes the portrait speak, straight into a video with sound: frames go to "
            "disk as they are made, so an hour takes the memory of a minute. Give the video to "
            "Save Video. Cancel keeps what is finished, in the output folder.",
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
                output(io.Video, "video", "H.264 at 25 frames a second, with sound."),
                inputs.state_output(),
            ],
        )

    @classmethod
    def execute(cls, sound: Audio | None = None, **given: Any) -> io.NodeOutput:
        run = Run(**given)
        sound = run.sound if sound is None else sound
        source = TensorAudio(*single_clip(sound, "sound"))
        path = _new_path(folder_paths.get_temp_directory(), "flashhead")
        height, width = run.size
        try:
            with VideoWriter(path, height=height, width=width, fps=FPS, audio=source) as writer:
                for frames, after in run.chunks():  # noqa: B007, the last one is given on
                    writer.write(frames)
                    del frames
        except BaseException:
            _keep(path)
            raise
        return io.NodeOutput(InputImpl.VideoFromFile(str(path)), after.on_cpu())


def _new_path(folder: str, prefix: str) -> Path:
    """A name that no file has, counted as Save Video counts; its folder is made."""
    full, name, counter, _, _ = folder_paths.get_save_image_path(prefix, folder)
    return Path(full) / f"{name}_{counter:05}_.mp4"


def _keep(path: Path) -> None:
    """Move an unfinished video to where the user finds it."""
    if not path.is_file():
        return
    kept = _new_path(folder_paths.get_output_directory(), "video/FlashHead_unfinished")
    shutil.move(path, kept)  # the output folder may be another disk's
    logging.warning("FlashHead: the video was not finished; what is done is in %s", kept)
    say(f"what is finished: {kept.name}")
