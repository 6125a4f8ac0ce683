"""A `StreamState` on disk, so that a stream goes on in another process."""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ..errors import FlashHeadError
from ..files import check_output, replacing
from ..geometry import ChunkGeometry
from ..image.color import ColorTarget
from .audio_context import AudioContextCache
from .state import PortraitCondition, StreamState

_FORMAT = "flashhead-state-1"
_NEEDED = ("latents", "color_mean", "color_std", "motion", "audio", "rng.0")


def save_state(path: str | Path, state: StreamState, geometry: ChunkGeometry) -> None:
    """Write a state as one safetensors file; it appears when it is complete.

    Raises `OutputError` for a path that cannot be written.
    """
    path = Path(path)
    check_output(path)
    tensors = {
        "latents": state.portrait.latents,
        "color_mean": state.portrait.color.mean,
        "color_std": state.portrait.color.std,
        "motion": state.motion,
        "audio": state.audio.samples,
        **{f"rng.{session}": rng for session, rng in enumerate(state.rng)},
        **({} if state.shown is None else {"shown": state.shown}),
    }
    stored = json.dumps(asdict(geometry))
    metadata = {"format": _FORMAT, "index": str(state.index), "geometry": stored}
    # Copies, because safetensors refuses tensors that share their memory.
    content = save({k: t.detach().cpu().clone() for k, t in tensors.items()}, metadata)
    with replacing(path) as file:
        file.write(content)


def load_state(path: str | Path) -> tuple[StreamState, ChunkGeometry]:
    """Read what `save_state` wrote, to the CPU. Raises `FlashHeadError` for any other file."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise FlashHeadError(f"{path} is not a readable stream state: {error}.") from error
    if metadata.get("format") != _FORMAT or any(key not in tensors for key in _NEEDED):
        raise FlashHeadError(f"{path} is no stream state; expected a file that Save State wrote.")
    stored = json.loads(metadata["geometry"])
    strides = tuple(stored["vae_stride"]), tuple(stored["patch_size"])
    geometry = ChunkGeometry(*strides, stored["latent_channels"])
    color = ColorTarget(tensors["color_mean"], tensors["color_std"])
    sessions = sum(key.startswith("rng.") for key in tensors)
    state = StreamState(
        portrait=PortraitCondition(tensors["latents"], color),
        motion=tensors["motion"],
        audio=AudioContextCache(tensors["audio"]),
        rng=tuple(tensors[f"rng.{session}"].to(torch.uint8) for session in range(sessions)),
        index=int(metadata["index"]),
        shown=tensors.get("shown"),
    )
    return state, geometry
