"""`python -m flashhead.training draw`: a data set of drawn faces."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from tqdm import tqdm

from ...errors import FlashHeadError
from ..data.clip_dataset import write_clips
from ..faces.drawn_clips import babbling_clips, speaking_clips
from ..faces.identities import REPERTOIRE, identities
from .options import command_parser, parse


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = command_parser("draw", "Draw clips of talking faces whose mouths are known.")
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
    arguments = parse(parser, argv)
    if not 1 <= arguments.identities <= len(REPERTOIRE):
        raise FlashHeadError(
            f"--identities {arguments.identities}: the repertoire has 1 to {len(REPERTOIRE)}."
        )
    people = identities(arguments.identities)
    size, frames, seed = arguments.size, arguments.frames, arguments.seed
    if arguments.kind == "babble":
        endless = babbling_clips(size, frames, seed, people)
    else:
        endless = speaking_clips(size, frames, seed, people, held_out=arguments.held_out)
    clips = tqdm(islice(endless, arguments.clips), "draw", arguments.clips, unit="clip")
    write_clips(arguments.output, clips)
