"""Real talking-head videos as clips: any files with picture and sound, filtered (DESIGN §1.8).

The published data set's shape: 25 fps, square, one face. Videos of another rate are brought to
25 fps by repeating or leaving out frames, and other shapes are cropped to their middle square.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import torch
from torch import Tensor
from torch.nn import functional

from ...errors import AudioError, FlashHeadError
from ...geometry import FPS, SAMPLES_PER_FRAME
from ...media.audio_source import FileAudio, speech_blocks
from .clip_filters import (
    Duplicates,
    FilterSettings,
    fingerprint,
    is_large_enough,
    is_voiced,
    scene_cuts,
    stretches,
    thumbnails,
)
from .clips import Clip

SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi")


@dataclass
class FilterCounts:
    """How many videos, or stretches of one, were kept or dropped, and why."""

    kept: int = 0
    unreadable: int = 0
    small: int = 0
    duplicate: int = 0
    short: int = 0
    silent: int = 0


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


def read_frames(path: Path, size: int) -> Tensor:
    """All frames (T, size, size, 3) uint8 at 25 fps, of the middle square.

    Raises:
        FlashHeadError: not a video.
    """
    frames: list[Tensor] = []
    try:
        with av.open(str(path.absolute())) as container:
            start = None
            for frame in container.decode(video=0):
                time = float(frame.time or 0.0)
                start = time if start is None else start
                # Each frame stands from its own time on, until the next one comes.
                due = round((time - start) * FPS)
                if due < len(frames):
                    continue
                frames.extend(frames[-1:] * (due - len(frames)))
                frames.append(_square(torch.from_numpy(frame.to_ndarray(format="rgb24")), size))
    except (av.FFmpegError, IndexError) as error:
        raise FlashHeadError(f"{path} holds no video that can be read: {error}.") from error
    if not frames:
        raise FlashHeadError(f"{path} holds no frame.")
    return torch.stack(frames)


def _square(frame: Tensor, size: int) -> Tensor:
    height, width, _ = frame.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = frame[top : top + side, left : left + side]
    if side == size:
        return square.contiguous()
    planes = square.permute(2, 0, 1)[None].float()
    scaled = functional.interpolate(planes, (size, size), mode="bilinear", antialias=True)
    return scaled[0].round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous()


def read_speech(path: Path, frames: int) -> Tensor:
    """The sound (frames * 640,) at 16 kHz mono, padded with silence or cut."""
    blocks = list(speech_blocks(FileAudio(path), SAMPLES_PER_FRAME))[:frames]
    sound = torch.cat(blocks)
    return functional.pad(sound, (0, frames * SAMPLES_PER_FRAME - len(sound)))


def real_clips(
    folder: str | Path,
    size: int,
    settings: FilterSettings | None = None,
    counts: FilterCounts | None = None,
) -> Iterator[Clip]:
    """Every stretch of every video under a folder that passes the filters.

    A clip's portrait is its first frame. `counts` is filled in as clips come.

    Raises:
        FlashHeadError: no video under the folder.
    """
    paths = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in SUFFIXES)
    if not paths:
        raise FlashHeadError(f"{folder} holds no video ({', '.join(SUFFIXES)}).")
    settings = settings or FilterSettings()
    counts = FilterCounts() if counts is None else counts
    duplicates = Duplicates(settings)
    for path in paths:
        try:
            if not is_large_enough(*video_size(path), settings):
                counts.small += 1
                continue
            frames = read_frames(path, size)
            speech = read_speech(path, len(frames))
        except AudioError:
            counts.silent += 1
            continue
        except FlashHeadError:
            counts.unreadable += 1
            continue
        if not duplicates.is_new(fingerprint(frames)):
            counts.duplicate += 1
            continue
        yield from _clips_of(frames, speech, settings, counts)


def _clips_of(
    frames: Tensor, speech: Tensor, settings: FilterSettings, counts: FilterCounts
) -> Iterator[Clip]:
    parts = stretches(len(frames), scene_cuts(thumbnails(frames), settings), settings)
    if not parts:
        counts.short += 1
    for start, stop in parts:
        sound = speech[start * SAMPLES_PER_FRAME : stop * SAMPLES_PER_FRAME]
        if not is_voiced(sound, settings):
            counts.silent += 1
            continue
        counts.kept += 1
        yield Clip(frames[start:stop], sound, portrait=frames[start])
