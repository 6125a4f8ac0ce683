"""Writing a safetensors file tensor by tensor: safetensors' own writer needs them all at once."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ..dtypes import SAFETENSORS_NAMES

OnBytes = Callable[[int, int], None]
"""Called with (bytes written, bytes in all) of a file's tensors."""


@dataclass(frozen=True)
class Layout:
    """A safetensors file to write.

    entries: its tensors' dtypes and shapes, as tensors on the meta device. head: its first bytes.
    offsets: of each tensor, in bytes after the head. file_size: in bytes.
    """

    entries: Mapping[str, Tensor]
    head: bytes
    offsets: Mapping[str, int]
    file_size: int


def lay_out(entries: Mapping[str, Tensor], metadata: Mapping[str, str], align: int = 8) -> Layout:
    """Lay out a file of tensors like the entries, whose values do not matter.

    The header is padded to a multiple of `align` bytes.
    """
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
    """Write a file; `tensors` are those of the layout in any order, each of them once."""
    file.write(layout.head)
    done, total = 0, layout.file_size - len(layout.head)
    for key, tensor in tensors:
        entry = layout.entries[key]
        assert (tensor.dtype, tensor.shape) == (entry.dtype, entry.shape), key
        file.seek(len(layout.head) + layout.offsets[key])
        file.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
        del tensor  # before the next one is made
        done += entry.nbytes
        if on_bytes is not None:
            on_bytes(done, total)
