"""The trained networks as one file: `python -m flashhead.training.write_bundle --help`.

The file says what it is limited to: the size of its clips, and the faces that it was trained on.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ...checkpoint.conversion import convert
from ...dtypes import STORAGE_DTYPES
from ...image.portrait import load_portraits, prepare_portrait
from ...models.limits import CheckpointLimits, thumbnail
from .options import run_main


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m flashhead.training.write_bundle",
        description="Put a trained checkpoint into one file that knows its limits.",
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="folder of the networks")
    parser.add_argument("--portraits", type=Path, required=True, help="of the faces trained on")
    parser.add_argument("--output", type=Path, required=True, help="the .safetensors file")
    parser.add_argument("--size", type=int, default=96, help="side of the clips in pixels")
    parser.add_argument("--seam-fade", type=int, default=6, help="frames; see Settings")
    parser.add_argument("--dtype", choices=STORAGE_DTYPES, default="fp16")
    arguments = parser.parse_args(argv)
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


if __name__ == "__main__":
    raise SystemExit(run_main(main))
