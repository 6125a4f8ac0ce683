"""`python -m flashhead.training encode`: latents and audio features of clips."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from ...stream.audio_context import CACHE_SECONDS
from ..data.clip_dataset import ClipDataset
from ..data.clip_encoding import encode_clips
from ..networks.loading import load_frozen_networks
from ..networks.sizes import chunk_geometry
from .options import command_parser, parse


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = command_parser(
        "encode", "Latents and audio features of clips; goes on where it stopped."
    )
    parser.add_argument("--clips", type=Path, required=True, help="data set of clips")
    parser.add_argument("--checkpoint", type=Path, required=True, help="has VAE, audio encoder")
    parser.add_argument("--output", type=Path, required=True, help="folder of encoded clips")
    parser.add_argument("--variant", choices=("lite", "pro"), help="if the checkpoint has both")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--offsets", type=int, default=1, help="encodings of each clip, from different frames"
    )
    parser.add_argument(
        "--cache-seconds",
        type=float,
        default=CACHE_SECONDS,
        help="of audio context; 1.32, a chunk's own, is training without the cache",
    )
    arguments = parse(parser, argv)
    networks = load_frozen_networks(
        arguments.checkpoint, arguments.device, variant=arguments.variant
    )
    clips = ClipDataset(arguments.clips)
    encoded = encode_clips(
        networks.vae,
        networks.audio_encoder,
        chunk_geometry(networks.vae, networks.variant),
        clips,
        arguments.output,
        cache_seconds=arguments.cache_seconds,
        offsets=arguments.offsets,
    )
    deque(tqdm(encoded, "encode", len(clips) * arguments.offsets, unit="file"), maxlen=0)
