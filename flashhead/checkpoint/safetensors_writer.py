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
class Layout:
    """A file's tensors, its first bytes, the offset of each tensor after them, and its size."""

    entries: Mapping[str, Entry]
    head: bytes
    offsets: Mapping[str, int]
    file_size: int


def lay_out(entries: Mapping[str, Entry], metadata: Mapping[str, str], align: int = 8) -> Layout:
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
    return Layout(entries, len(text).to_bytes(8, "little") + text, offsets, 8 + len(text) + total)


def write_safetensors(
    file: BinaryIO,
    layout: Layout,
    tensors: Iterable[tuple[str, Tensor]],
    on_bytes: OnBytes | None = None,
) -> None:
    """Write a file; `tensors` come in any order, each of them once.

    Raises `ValueError` when they are not those of the layout: a bug of the caller's.
    """
    file.write(layout.head)
    missing, done, total = dict(layout.entries), 0, layout.file_size - len(layout.head)
    for key, tensor in tensors:
        entry = missing.pop(key)
        if (tensor.dtype, tuple(tensor.shape)) != (entry.dtype, entry.shape):
            raise ValueError(f"{key} is {tensor.dtype} {tuple(tensor.shape)}, not {entry}")
        file.seek(len(layout.head) + layout.offsets[key])
        file.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
        del tensor  # before the next one is made
        done += entry.nbytes
        if on_bytes is not None:
            on_bytes(done, total)
    if missing:
        raise ValueError(f"no tensor came for {', '.join(sorted(missing))}")
