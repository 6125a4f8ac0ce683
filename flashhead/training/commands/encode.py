"""Encode clips for both stages: `python -m flashhead.training.encode_clips --clips C ...`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from ...stream.audio_context import CACHE_SECONDS
from ..data.clip_cache import ClipCache
from ..data.clip_encoding import encode_clips
from ..networks.sizes import GeneratorSizes, open_surroundings
from .options import run_main


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m flashhead.training.encode_clips",
        description="Latents and audio features of clips; goes on where it stopped.",
    )
    parser.add_argument("--clips", type=Path, required=True, help="data set of clips")
    parser.add_argument("--checkpoint", type=Path, required=True, help="has VAE, audio encoder")
    parser.add_argument("--output", type=Path, required=True, help="folder of encoded clips")
    parser.add_argument("--variant", choices=("lite", "pro"), help="if the checkpoint has both")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="of the processor")
    parser.add_argument(
        "--offsets", type=int, default=1, help="encodings of each clip, from different frames"
    )
    parser.add_argument(
        "--cache-seconds",
        type=float,
        default=CACHE_SECONDS,
        help="of audio heard; 1.32, a chunk's own, is training without the cache",
    )
    arguments = parser.parse_args(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    around = open_surroundings(arguments.checkpoint, arguments.device, variant=arguments.variant)
    patch = (1, 1, 1) if around.variant == "lite" else (1, 2, 2)
    geometry = GeneratorSizes(patch_size=patch).geometry(around.vae)
    clips = ClipCache(arguments.clips)
    done = encode_clips(
        around.vae,
        around.audio_encoder,
        geometry,
        clips,
        arguments.output,
        cache_seconds=arguments.cache_seconds,
        offsets=arguments.offsets,
    )
    for number, _ in enumerate(done, 1):
        print(f"\r{number} of {len(clips) * arguments.offsets}", end="", flush=True)
    print()


if __name__ == "__main__":
    raise SystemExit(run_main(main))
