"""`python -m flashhead.training clips`: a data set of clips from videos of your own."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields
from itertools import chain
from pathlib import Path

from tqdm import tqdm

from ...errors import FlashHeadError
from ...geometry import CHUNK_FRAMES
from ..data.clip_dataset import write_clips
from ..data.clip_filters import FilterSettings
from ..data.real_clips import FilterCounts, find_videos, real_clips
from .options import command_parser, parse

FILTERS = {
    "least_seconds": "shortest scene",
    "least_side": "smallest height and width of a video in pixels",
    "cut": "change of brightness that is a scene cut, in [0, 1]",
    "cut_ratio": "... and so many times the change around it",
    "voiced": "least share of a clip's frames that have sound",
    "silence": "RMS below which a frame has no sound",
    "duplicate": "share of differing bits up to which two videos are the same",
}
DROPPED = {
    "unreadable": "videos that cannot be read",
    "small": "videos that are too small (--least-side)",
    "duplicate": "videos that are copies of others (--duplicate)",
    "mute": "videos without sound",
    "short": "scenes that are too short (--least-seconds, --frames)",
    "silent": "clips without speech (--voiced, --silence)",
}


def _size(text: str) -> tuple[int, int]:
    """WIDTHxHEIGHT -> (height, width)."""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"'{text}' is not WIDTHxHEIGHT, such as 512x512")
    return int(height), int(width)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = command_parser(
        "clips", "Cut videos with picture and sound into clips, and filter them."
    )
    parser.add_argument(
        "videos", type=Path, nargs="+", metavar="VIDEO_OR_FOLDER", help="folders are searched"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--size", type=_size, default="512x512", help="WxH (default 512x512)")
    parser.add_argument(
        "--frames", type=int, default=129, help="of each clip (default 129: 5 chunks of Lite)"
    )
    for field in fields(FilterSettings):
        option = f"--{field.name.replace('_', '-')}"
        text = f"{FILTERS[field.name]} (default {field.default})"
        parser.add_argument(option, type=type(field.default), default=field.default, help=text)
    arguments = parse(parser, argv)
    if arguments.frames < CHUNK_FRAMES:
        raise FlashHeadError(
            f"--frames {arguments.frames}: expected at least {CHUNK_FRAMES}, which a chunk has."
        )
    settings = FilterSettings(**{name: getattr(arguments, name) for name in FILTERS})
    videos, counts = find_videos(arguments.videos), FilterCounts()
    clips = real_clips(
        tqdm(videos, "clips", unit="video"), arguments.size, arguments.frames, settings, counts
    )
    first = next(clips, None)
    if first is not None:
        write_clips(arguments.output, chain([first], clips))
    dropped = [f"{text}: {n}" for name, text in DROPPED.items() if (n := getattr(counts, name))]
    summary = f"Clips kept: {counts.kept}, of videos: {len(videos)}"
    summary += f"; dropped: {', '.join(dropped)}." if dropped else "."
    if first is None:
        raise FlashHeadError(summary)
    print(summary)
