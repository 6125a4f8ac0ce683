"""Clips from videos of real people: any files with picture and sound, filtered (DESIGN §1.8).

The published data set is 25 fps, 512x512, one face. Videos of another rate are brought to 25 fps
by repeating or leaving out frames; the middle of the picture is cropped to the clips' shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import av
import torch
from torch import Tensor
from torch.nn import functional

from ...errors import AudioError, FlashHeadError
from ...geometry import FPS, SAMPLES_PER_FRAME
from ...media.audio_source import FileAudio, speech_blocks
from .clip_filters import (
    FINGERPRINT_SIDE,
    Duplicates,
    FilterSettings,
    fingerprint,
    is_large_enough,
    is_long_enough,
    is_voiced,
    scene_cuts,
    scenes,
    thumbnails,
)
from .clips import Clip
from .encoded_clips import cached_samples

SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi")


@dataclass
class FilterCounts:
    """How many clips were kept, and what was dropped: videos that are unreadable, too small,
    duplicates of earlier ones or without sound (mute); scenes that are too short; silent clips."""

    kept: int = 0
    unreadable: int = 0
    small: int = 0
    duplicate: int = 0
    mute: int = 0
    short: int = 0
    silent: int = 0


def find_videos(sources: Iterable[str | Path]) -> list[Path]:
    """Files as they are given, and the videos anywhere under folders, in the order of their names.

    Raises:
        FlashHeadError: a source that does not exist, or a folder without any video.
    """
    found: list[Path] = []
    for source in map(Path, sources):
        if source.is_file():
            found.append(source)
            continue
        videos = sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES)
        if not videos:
            problem = "holds no video" if source.is_dir() else "does not exist"
            raise FlashHeadError(f"{source} {problem}; expected {', '.join(SUFFIXES)} files.")
        found += videos
    return found


def video_size(path: Path) -> tuple[int, int]:
    """Height and width in pixels.

    Raises:
        FlashHeadError: not a video.
    """
    try:
        with av.open(str(path.absolute())) as container:
            stream = container.streams.video[0]
            return stream.codec_context.height, stream.codec_context.width
    except (av.FFmpegError, IndexError) as error:
        raise FlashHeadError(f"{path} holds no video that can be read: {error}.") from error


def read_frames(path: Path, size: tuple[int, int]) -> Iterator[Tensor]:
    """The frames of a video at 25 fps, (height, width, 3) uint8 each, cropped to `size`.

    Raises:
        FlashHeadError: not a video.
    """
    count, start = 0, None
    last: Tensor | None = None
    try:
        with av.open(str(path.absolute())) as container:
            for frame in container.decode(video=0):
                time = float(frame.time or 0.0)
                start = time if start is None else start
                # Each frame is shown from its own time on, until the next one comes.
                due = round((time - start) * FPS)
                if due < count:
                    continue
                if last is not None:
                    yield from [last] * (due - count)
                last = _crop(torch.from_numpy(frame.to_ndarray(format="rgb24")), size)
                yield last
                count = due + 1
    except (av.FFmpegError, IndexError) as error:
        raise FlashHeadError(f"{path} holds no video that can be read: {error}.") from error
    if not count:
        raise FlashHeadError(f"{path} holds no frame.")


def _crop(frame: Tensor, size: tuple[int, int]) -> Tensor:
    """The largest part of a frame's middle that has the shape of `size`, scaled to it."""
    scale = min(frame.shape[0] / size[0], frame.shape[1] / size[1])
    height, width = (round(side * scale) for side in size)
    top, left = (frame.shape[0] - height) // 2, (frame.shape[1] - width) // 2
    part = frame[top : top + height, left : left + width]
    if (height, width) == size:
        return part.contiguous()
    planes = part.permute(2, 0, 1)[None].float()
    scaled = functional.interpolate(planes, size, mode="bilinear", antialias=True)
    return scaled[0].round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous()


def read_speech(path: Path, frames: int) -> Tensor:
    """The sound (frames * 640,) at 16 kHz mono, padded with silence or cut.

    Raises:
        AudioError: no sound.
    """
    blocks = list(islice(speech_blocks(FileAudio(path), SAMPLES_PER_FRAME), frames))
    sound = torch.cat(blocks)
    return functional.pad(sound, (0, frames * SAMPLES_PER_FRAME - len(sound)))


def real_clips(
    videos: Iterable[Path],
    size: tuple[int, int],
    frames: int,
    settings: FilterSettings | None = None,
    counts: FilterCounts | None = None,
) -> Iterator[Clip]:
    """Clips of equal length from those scenes of videos that pass the filters.

    Each scene is cut into clips that follow one another; what is left at its end is dropped. A
    clip's portrait is its scene's first frame, and its context the speech of the scene before it,
    as long as the audio cache. Each video is decoded twice, so that only one clip is in memory.

    Args:
        videos: files with picture and sound.
        size: (height, width) of the clips in pixels.
        frames: of each clip.
        settings: of the filters.
        counts: counted up as videos are read.
    """
    settings = settings or FilterSettings()
    counts = FilterCounts() if counts is None else counts
    duplicates = Duplicates(settings)
    for path in videos:
        try:
            if not is_large_enough(*video_size(path), settings):
                counts.small += 1
                continue
            thumbs, prints = [], []
            for frame in read_frames(path, size):
                thumbs.append(thumbnails(frame[None]))
                prints.append(thumbnails(frame[None], FINGERPRINT_SIDE))
            speech = read_speech(path, len(thumbs))
        except AudioError:
            counts.mute += 1
            continue
        except FlashHeadError:
            counts.unreadable += 1
            continue
        if not duplicates.is_new(fingerprint(torch.cat(prints))):
            counts.duplicate += 1
            continue
        found = scenes(len(thumbs), scene_cuts(torch.cat(thumbs), settings))
        long = [(a, b) for a, b in found if b - a >= frames and is_long_enough(b - a, settings)]
        counts.short += len(found) - len(long)
        decoded, position = read_frames(path, size), 0
        for start, stop in long:
            sound = speech[start * SAMPLES_PER_FRAME : stop * SAMPLES_PER_FRAME]
            portrait: Tensor | None = None
            for first in range(start, stop - frames + 1, frames):
                # What lies between the clips before and this one is decoded and left out.
                ahead = first - position
                video = torch.stack(list(islice(decoded, ahead, ahead + frames)))
                position = first + frames
                portrait = video[0] if portrait is None else portrait
                clip = Clip(
                    video,
                    sound[(first - start) * SAMPLES_PER_FRAME :][: frames * SAMPLES_PER_FRAME],
                    portrait,
                    context=cached_samples(sound, first - start),
                )
                if is_voiced(clip.waveform, settings):
                    counts.kept += 1
                    yield clip
                else:
                    counts.silent += 1
