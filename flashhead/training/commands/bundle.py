"""`python -m flashhead.training bundle`: the trained networks as one file.

The file records what the networks are limited to: the size of their clips, and the faces that they
were trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...checkpoint.conversion import convert
from ...dtypes import STORAGE_DTYPES
from ...image.portrait import load_portraits, prepare_portrait
from ...models.limits import CheckpointLimits, thumbnail
from .options import command_parser, parse


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = command_parser("bundle", "Put a trained checkpoint into one file with its limits.")
    parser.add_argument("--checkpoint", type=Path, required=True, help="folder of the networks")
    parser.add_argument("--portraits", type=Path, required=True, help="of the faces trained on")
    parser.add_argument("--output", type=Path, required=True, help="the .safetensors file")
    parser.add_argument("--size", type=int, default=96, help="side of the clips in pixels")
    parser.add_argument("--seam-fade", type=int, default=6, help="frames; see Settings")
    parser.add_argument("--dtype", choices=STORAGE_DTYPES, default="fp16")
    arguments = parse(parser, argv)
    size = (arguments.size, arguments.size)
    faces = tuple(
        thumbnail(prepare_portrait(picture, size))
        for picture in load_portraits(arguments.portraits).values()
    )
    written = convert(
        arguments.checkpoint,
        arguments.output,
        dtype=arguments.dtype,
        overwrite=True,
        limits=CheckpointLimits(size, faces, arguments.seam_fade),
    )
    print(f"{arguments.output}: {written / 1e6:.2f} MB, {len(faces)} faces")
