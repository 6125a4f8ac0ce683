"""Converting a checkpoint in any layout to one file, tensor by tensor (DESIGN §3.4)."""

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..dtypes import FLOAT8, SAFETENSORS_NAMES, STORAGE_DTYPES
from ..errors import CheckpointError, FlashHeadError, OutputError
from ..files import check_output, replacing
from ..models.limits import CheckpointLimits
from .bundle_file import BundleHeader
from .configs import to_config
from .loading import LoRAs, open_checkpoint
from .storage import SCALE, OnBytes, in_float8, is_matrix, lay_out, quantize, write_safetensors
from .weights import Component


def convert(
    source: str | Path,
    destination: str | Path,
    variant: str | None = None,
    dtype: str = "bf16",
    *,
    vae: str | Path | None = None,
    audio_encoder: str | Path | None = None,
    lora: LoRAs = (),
    audio_projection: str | Path | None = None,
    overwrite: bool = False,
    limits: CheckpointLimits | None = None,
    on_bytes: OnBytes | None = None,
) -> int:
    """Write a checkpoint as one safetensors file, which `load_bundle` reads like the original.

    Keys that nothing reads are left out. Norms, biases and modulations keep their stored dtype, and
    the audio encoder is float32, in which it computes. One tensor is held at a time. The file
    appears when it is complete; a failure or an interrupt leaves what was there before, and so does
    another run that wrote the destination meanwhile.

    Args:
        source, variant, vae, audio_encoder, lora, audio_projection: as for `load_bundle`; a bundle
            can be converted too. LoRAs are merged in float32.
        destination: a .safetensors path in a folder that exists.
        dtype: what the matrices are stored as: "fp32", "bf16", "fp16" or "fp8_e4m3fn". The last is
            for the transformer blocks (nine tenths of the generator); the rest is bf16.
        overwrite: replace a file that is there.
        limits: what a small checkpoint is limited to; None keeps what the source says.
        on_bytes: called with (bytes done, bytes in all); may raise to stop.

    Returns:
        The file's size in bytes.

    Raises:
        CheckpointError: as `load_bundle`, or a weight that the dtype cannot hold.
        FlashHeadError: a dtype that is unknown, or a destination that must not be replaced.
        OutputError: a destination that cannot be written, or too little room for it.
    """
    if dtype not in STORAGE_DTYPES:
        raise FlashHeadError(
            f"Unknown dtype '{dtype}'; expected one of {', '.join(STORAGE_DTYPES)}."
        )
    destination = Path(destination)
    if destination.suffix != ".safetensors":
        raise OutputError(
            f"{destination} cannot be the bundle's name; expected a .safetensors file."
        )
    check_output(destination)
    checkpoint = open_checkpoint(
        source,
        variant,
        vae=vae,
        audio_encoder=audio_encoder,
        lora=lora,
        audio_projection=audio_projection,
    )
    parts = checkpoint.parts
    _check_replaced(destination, parts, overwrite)
    entries = _plan(parts, STORAGE_DTYPES[dtype])
    metadata = BundleHeader(
        checkpoint.variant,
        dtype,
        {name: to_config(part.config) for name, part in parts.items()},
        {
            name: " + ".join("/".join(file.path.absolute().parts[-2:]) for file in part.files)
            for name, part in parts.items()
        },
        limits or checkpoint.limits,
    ).to_metadata()
    layout = lay_out(entries, metadata)
    size, free = layout.file_size, shutil.disk_usage(destination.parent).free
    if free < size:
        raise OutputError(
            f"The bundle needs {size / 1e9:.2f} GB, and {destination.absolute().parent} has "
            f"{free / 1e9:.2f} GB free."
        )
    with replacing(destination, new=not overwrite) as file:
        write_safetensors(file, layout, _converted(parts, entries), on_bytes)
    return size


def _check_replaced(path: Path, parts: Mapping[str, Component[Any]], overwrite: bool) -> None:
    for part in parts.values():
        if path.exists() and any(path.samefile(file.path) for file in part.files):
            raise FlashHeadError(f"{path} is a file of the source itself; give another name.")
    if not overwrite and os.path.lexists(path):  # a link to nowhere too
        raise FlashHeadError(f"{path} exists already; give another name, or force its replacement.")


def _plan(parts: Mapping[str, Component[Any]], dtype: torch.dtype) -> dict[str, Tensor]:
    """What to write by a bundle's keys, on the meta device; float8 matrices have their scales."""
    entries = {}
    for name, part in parts.items():
        for key, tensor in part.plain.state_dict().items():
            shape = tuple(tensor.shape)
            if name == "audio_encoder":
                stored = torch.float32
            elif not is_matrix(key, shape):
                stored = part.read(key).dtype
            elif dtype == FLOAT8 and not (name == "generator" and in_float8(key, shape)):
                stored = torch.bfloat16
            else:
                stored = dtype
            entries[f"{name}.{key}"] = tensor.to(stored)
            if stored == FLOAT8:
                entries[f"{name}.{key}{SCALE}"] = torch.empty(shape[:1], device="meta")
    return entries


def _converted(
    parts: Mapping[str, Component[Any]], entries: Mapping[str, Tensor]
) -> Iterator[tuple[str, Tensor]]:
    """The tensors in the dtypes to write; raises `CheckpointError` for an overflow."""
    for name, part in parts.items():
        for key in part.plain.state_dict():
            tensor, written = part.read(key), f"{name}.{key}"
            dtype = entries[written].dtype
            _check_range(tensor, dtype, key, part.file.where)
            if dtype == FLOAT8:
                stored, scale = quantize(tensor)
                yield written + SCALE, scale
            else:
                stored = tensor.to(dtype)
            yield written, stored
            del tensor, stored  # before the next one is read
            part.release()


def _check_range(tensor: Tensor, dtype: torch.dtype, key: str, where: str) -> None:
    if tensor.dtype == dtype:
        return  # nothing changes
    largest: Any = max(abs(value.item()) for value in tensor.float().aminmax())
    limit = torch.finfo(torch.float32 if dtype == FLOAT8 else dtype).max  # float8 is scaled
    if not largest <= limit:
        raise CheckpointError(
            f"{where}: the key '{key}' holds values up to {largest}, which "
            f"{SAFETENSORS_NAMES[dtype]} cannot; choose bf16 or fp32 (or download "
            "the file again, if that is damage)."
        )
