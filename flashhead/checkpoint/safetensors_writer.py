"""Writing a safetensors file tensor by tensor: safetensors' own writer needs them all at once."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ..dtypes import SAFETENSORS_NAMES

OnBytes = Callable[[int, int], None]
"""Called with (bytes written, bytes in all) of a file's tensors."""


@dataclass(frozen=True)
class Entry:
    """The dtype and shape of a tensor in a file's header."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Head:
    """A file's first bytes, the offset of each tensor after them, and the tensors' total bytes."""

    text: bytes
    offsets: Mapping[str, int]
    total: int

    @property
    def file_size(self) -> int:
        return len(self.text) + self.total


def lay_out(entries: Mapping[str, Entry], metadata: Mapping[str, str], align: int = 8) -> Head:
    """Lay out a file of the given entries; the header is padded to a multiple of `align` bytes."""
    offsets: dict[str, int] = {}
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    total = 0
    # Widest dtype first keeps every tensor aligned to its elements.
    for key in sorted(entries, key=lambda key: (-entries[key].dtype.itemsize, key)):
        entry, offsets[key] = entries[key], total
        total += entry.nbytes
        header[key] = {
            "dtype": SAFETENSORS_NAMES[entry.dtype],
            "shape": entry.shape,
            "data_offsets": [offsets[key], total],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % align)
    return Head(len(text).to_bytes(8, "little") + text, offsets, total)


def write_safetensors(
    file: BinaryIO,
    entries: Mapping[str, Entry],
    tensors: Iterable[tuple[str, Tensor]],
    metadata: Mapping[str, str],
    on_bytes: OnBytes | None = None,
    *,
    align: int = 8,
) -> None:
    """Write a file of the given entries; `tensors` come in any order, each of them once.

    Raises `ValueError` when tensors and entries differ: a bug of the caller's.
    """
    head = lay_out(entries, metadata, align)
    file.write(head.text)
    missing, done = set(entries), 0
    for key, tensor in tensors:
        entry = entries[key]
        if (tensor.dtype, tuple(tensor.shape)) != (entry.dtype, entry.shape):
            raise ValueError(f"{key} is {tensor.dtype} {tuple(tensor.shape)}, not {entry}")
        file.seek(len(head.text) + head.offsets[key])
        file.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
        del tensor  # before the next one is made
        missing.remove(key)
        done += entry.nbytes
        if on_bytes is not None:
            on_bytes(done, head.total)
    if missing:
        raise ValueError(f"no tensor came for {', '.join(sorted(missing))}")
