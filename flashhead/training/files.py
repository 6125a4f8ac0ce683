"""Writing tensors to files that are never half written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from ..files import replacing


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file, which takes `path`'s place once it is whole.

    The tensors must be contiguous and share no memory.
    """
    with replacing(path) as file:  # the format's writer wants a name
        save_file(dict(tensors), file.name, None if metadata is None else dict(metadata))
