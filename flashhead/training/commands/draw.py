"""Make a data set of drawn faces: `python -m flashhead.training.draw_clips speech --output C`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from ...errors import FlashHeadError
from ..data.clip_cache import write_clips
from ..data.clips import Clip
from ..faces.drawn_clips import babbling_clips, speaking_clips
from ..faces.identities import REPERTOIRE, identities
from .options import run_main


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m flashhead.training.draw_clips",
        description="Draw clips of talking faces whose mouths are known.",
    )
    parser.add_argument(
        "kind",
        choices=("babble", "speech"),
        help="babble: any movement, for the VAE; speech: with sound, needs espeak-ng",
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--clips", type=int, default=256, help="how many (default 256)")
    parser.add_argument("--frames", type=int, default=33, help="of each, 25 a second (default 33)")
    parser.add_argument("--size", type=int, default=96, help="side in pixels (default 96)")
    parser.add_argument("--identities", type=int, default=8, help="how many faces (default 8)")
    parser.add_argument("--held-out", action="store_true", help="voices and sentences of the test")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, help="of the processor")
    arguments = parser.parse_args(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if not 1 <= arguments.identities <= len(REPERTOIRE):
        raise FlashHeadError(
            f"--identities {arguments.identities}: the repertoire has 1 to {len(REPERTOIRE)}."
        )
    people = identities(arguments.identities)
    size, frames, seed = arguments.size, arguments.frames, arguments.seed
    if arguments.kind == "babble":
        clips = babbling_clips(size, frames, seed, people)
    else:
        clips = speaking_clips(size, frames, seed, people, held_out=arguments.held_out)
    write_clips(arguments.output, _counted(clips, arguments.clips), arguments.clips)
    print()


def _counted(clips: Iterator[Clip], count: int) -> Iterator[Clip]:
    for number, clip in zip(range(1, count + 1), clips, strict=False):
        yield clip
        print(f"\r{number} of {count}", end="", flush=True)


if __name__ == "__main__":
    raise SystemExit(run_main(main))
