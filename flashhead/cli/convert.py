"""`convert`: a checkpoint into one file."""

import argparse
from pathlib import Path
from typing import Any

from ..checkpoint.conversion import convert
from ..dtypes import STORAGE_DTYPES
from ..variants import VARIANTS
from .output import Progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("source", metavar="SRC", help="published folder, or another bundle")
    add("destination", type=Path, metavar="DST", help="the .safetensors file to write")
    add("--variant", choices=VARIANTS, help="default: the only one in the source")
    add("--dtype", choices=STORAGE_DTYPES, default="bf16", help="of the matrices; default: bf16")
    add("--force", action="store_true", help="replace a file that is there")
    add_parts(parser)
    add("--quiet", action="store_true", help="say nothing but errors")


def add_parts(parser: argparse.ArgumentParser) -> None:
    """Where the parts of a checkpoint are that lie somewhere else, and what changes its weights."""
    add = parser.add_argument
    vae = "the VAE's weight file or folder, where it is elsewhere; tiny: taew2_1, fast, for Pro"
    add("--vae", type=Path, help=vae)
    add("--audio-encoder", type=Path, help="wav2vec2's folder, where it is somewhere else")
    lora = (
        "merge a LoRA into the generator, at a strength of 1 or so much; may be given several times"
    )
    add("--lora", action="append", default=[], metavar="PATH[:STRENGTH]", help=lora)
    projection = "the generator's audio projection, such as LeapTalk's audio_proj_step_10400.pt"
    add("--audio-projection", type=Path, metavar="FILE", help=projection)


def parts_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `add_parts` asked for, as `open_checkpoint` takes it."""
    return {n: getattr(arguments, n) for n in ("vae", "audio_encoder", "lora", "audio_projection")}


def run(arguments: argparse.Namespace) -> None:
    with Progress(1.0, quiet=arguments.quiet) as progress:
        size = convert(
            arguments.source,
            arguments.destination,
            arguments.variant,
            arguments.dtype,
            **parts_of(arguments),
            overwrite=arguments.force,
            on_bytes=lambda done, total: progress.part(
                done / total, f"{done / 1e9:.2f} of {total / 1e9:.2f} GB"
            ),
        )
    if not arguments.quiet:
        print(f"{arguments.destination}: {size / 1e9:.2f} GB in {progress.seconds:.1f} s")
