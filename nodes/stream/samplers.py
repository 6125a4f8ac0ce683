"""Nodes that make a whole clip: Sampler, Incremental Sampler, Generate Video."""

import shutil
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import comfy.model_management
import folder_paths
import torch
from comfy_api.latest import InputImpl, io
from comfy_execution.utils import get_executing_context

from ...flashhead.errors import OutputError
from ...flashhead.geometry import FPS
from ...flashhead.media.audio_source import TensorAudio
from ...flashhead.media.video_writer import VideoWriter
from ...flashhead.stream.loop import Recall
from .. import inputs
from ..progress import shown_warnings, warn
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
            "disk as they are made, and only the sound, which ComfyUI holds, takes more memory the "
            "longer it is. Give the video to Save Video. Cancel keeps what is finished, in the "
            "output folder.",
            search_aliases=["talking head", "lip sync", "avatar", "long video", "SoulX"],
            hidden=[io.Hidden.unique_id],  # so that two alike do not share a cached video
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
    def fingerprint_inputs(cls, **_: Any) -> int:
        """Changes once a video that ComfyUI has cached is gone: then it is made again."""
        made = _videos[_node()]
        for video, path in list(made.cached.items()):
            if not path.is_file():
                made.gone += 1
                del made.cached[video]
        return made.gone

    @classmethod
    def execute(cls, sound: Audio | None = None, **given: Any) -> io.NodeOutput:
        run = Run(**given)
        source = run.sound
        if sound is not None:
            with shown_warnings() as run.warnings:
                source = TensorAudio(*single_clip(sound, "sound"))
        try:
            path = _reserved(folder_paths.get_temp_directory(), "flashhead")
        except OSError as error:
            raise OutputError(f"ComfyUI's temp folder cannot be written: {error}.") from error
        height, width = run.size
        writer = VideoWriter(path, height=height, width=width, fps=FPS, audio=source)
        try:
            with writer:
                for frames, after in run.chunks():  # noqa: B007, the last one is given on
                    writer.write(frames)
                    del frames
        except BaseException:
            _keep(writer)
            raise
        video = InputImpl.VideoFromFile(str(writer.path))
        _videos[_node()].cached[video] = writer.path
        return io.NodeOutput(video, after.on_cpu())


class _Videos:
    """Of one node: the files of the videos that ComfyUI may have cached, and how many are gone."""

    def __init__(self) -> None:
        self.cached: WeakKeyDictionary[Any, Path] = WeakKeyDictionary()
        self.gone = 0


_videos: defaultdict[str, _Videos] = defaultdict(_Videos)


def _node() -> str:
    """The id of the node that is running; 0.3.64 tells a fingerprint no hidden inputs."""
    context = get_executing_context()
    return context.node_id if context else ""


def _reserved(folder: str, prefix: str) -> Path:
    """An empty file of a name that no other server has, counted as Save Video counts."""
    full, name, counter, _, _ = folder_paths.get_save_image_path(prefix, folder)
    while True:
        with suppress(FileExistsError):
            path = Path(full) / f"{name}_{counter:05}_.mp4"
            path.open("xb").close()
            return path
        counter += 1


def _keep(writer: VideoWriter) -> None:
    """Move an unfinished video to where the user finds it, else tell where it is.

    Raises nothing: what ended the run matters more.
    """
    kept, target = writer.kept(), None
    with suppress(OSError):
        if writer.path.stat().st_size == 0:
            writer.path.unlink()  # its name was reserved in vain
    if kept is None:
        return
    file, frames = kept
    told = f"The video was not finished; what is done, {frames / FPS:.2f} s, is in "
    try:
        target = _reserved(folder_paths.get_output_directory(), "video/FlashHead_unfinished")
        shutil.move(file, target)  # the output folder may be another disk's
        told += f"{target}."
    except Exception as error:
        if target is not None:
            target.unlink(missing_ok=True)
        told += f"{file}, which ComfyUI deletes when it starts: it could not be moved ({error})."
    warn([told])
