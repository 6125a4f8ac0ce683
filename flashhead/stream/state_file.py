"""A `StreamState` on disk, so that a stream goes on in another process."""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..dtypes import COMPUTE_DTYPES
from ..errors import FlashHeadError, reason, shown
from ..files import check_output, fault_of, read_object, replacing
from ..geometry import CHUNK_FRAMES, MOTION_LATENT_FRAMES, SAMPLES_PER_FRAME, ChunkGeometry
from ..image.color import ColorTarget
from .audio_context import AudioContextCache
from .state import PortraitCondition, StreamState

_FORMAT = "flashhead-state-1"
_NEEDED = ("latents", "motion", "color_mean", "color_std", "audio")


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
    """Read what `save_state` wrote, to the CPU.

    Raises `FlashHeadError` for any other file, and for values that no stream can have.
    """
    path = Path(path)
    if fault := fault_of(path):
        raise FlashHeadError(f"{path} {fault}.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata, keys = file.metadata() or {}, file.keys()
            ours = metadata.get("format") == _FORMAT and {*_NEEDED} <= {*keys}
            tensors = {key: file.get_tensor(key) for key in keys if ours}
    except (OSError, SafetensorError) as error:
        raise FlashHeadError(f"{path} is not a readable stream state: {reason(error)}.") from error
    if not ours:
        raise FlashHeadError(f"{path} is no stream state; expected a file that Save State wrote.")
    try:
        return _read(metadata, tensors)
    except (LookupError, TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise FlashHeadError(f"{path} is a damaged stream state: {reason(error)}.") from error


def _read(
    metadata: Mapping[str, str], tensors: Mapping[str, Tensor]
) -> tuple[StreamState, ChunkGeometry]:
    """The state in a file. Raises whatever says that no stream can have its values."""
    geometry, index = _read_geometry(metadata.get("geometry", "")), metadata.get("index", "")
    latents, motion, mean, std, audio = (tensors[key] for key in _NEEDED)
    if not index.isdecimal():
        raise ValueError(f"its index is {shown(index)}")
    if latents.ndim != 5 or not latents.numel():
        raise ValueError(f"latents has shape {tuple(latents.shape)}")
    batch, channels, _, height, width = latents.shape
    size = height * geometry.vae_stride[1], width * geometry.vae_stride[2]
    motion_frames = 1 if motion.shape[2:3] == (1,) else MOTION_LATENT_FRAMES  # 1 at the start
    audio_frames = max(1, audio.shape[-1:].numel() // SAMPLES_PER_FRAME)
    noise = torch.Generator()
    rng = [f"rng.{session}" for session in range(batch)]
    shapes = {
        "latents": (batch, *geometry.latent_shape(size)),
        "motion": (batch, channels, motion_frames, height, width),
        "color_mean": (batch, 3, 1, 1, 1),
        "color_std": (batch, 3, 1, 1, 1),
        "audio": (batch, audio_frames * SAMPLES_PER_FRAME),
        "shown": (batch, *size, 3),
        **dict.fromkeys(rng, tuple(noise.get_state().shape)),
    }
    if {*tensors} - {"shown"} != {*_NEEDED, *rng}:
        raise ValueError(f"it holds {shown(sorted(tensors))}")
    for key, tensor in tensors.items():
        if tuple(tensor.shape) != shapes[key]:
            raise ValueError(f"{key} has shape {tuple(tensor.shape)}; expected {shapes[key]}")
        if key in rng:
            noise.set_state(tensor)
        elif tensor.dtype not in COMPUTE_DTYPES.values() or not tensor.isfinite().all():
            raise ValueError(f"{key} does not hold finite numbers")
    state = StreamState(
        portrait=PortraitCondition(latents, ColorTarget(mean, std)),
        motion=motion,
        audio=AudioContextCache(audio),
        rng=tuple(tensors[key] for key in rng),
        index=int(index),
        shown=tensors.get("shown"),
    )
    return state, geometry


def _read_geometry(text: str) -> ChunkGeometry:
    stored: dict[str, Any] = defaultdict(list, read_object(text))
    stride, patch = stored["vae_stride"], stored["patch_size"]
    channels = stored["latent_channels"]
    if (
        all(isinstance(sizes, list) and len(sizes) == 3 for sizes in (stride, patch))
        and all(type(size) is int and 0 < size < 1000 for size in (*stride, *patch, channels))
        and stride[0] < CHUNK_FRAMES - 1
    ):
        return ChunkGeometry(tuple(stride), tuple(patch), channels)
    raise ValueError(f"its geometry is {shown(text)}")
