"""Reading weight files and putting tensors into networks, with errors that name file and key."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from .backend import TORCH, Backend
from .errors import CheckpointError

Module = TypeVar("Module", bound=nn.Module)


class WeightFile:
    """A safetensors file, opened by its header; tensors are read (memory-mapped) one at a time."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self._file = safe_open(path, framework="pt")
            self.metadata: dict[str, str] | None = self._file.metadata()
            self.shapes: dict[str, tuple[int, ...]] = {
                key: tuple(self._file.get_slice(key).get_shape()) for key in self._file.keys()
            }
        except FileNotFoundError as error:
            raise CheckpointError(f"{path} does not exist.") from error
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{path} is truncated or no safetensors file ({error}); download it again."
            ) from error

    def __getitem__(self, key: str) -> Tensor:
        return self._file.get_tensor(key)

    def dtype(self, key: str) -> str:
        """The stored dtype's safetensors name, such as F32 or BF16."""
        return self._file.get_slice(key).get_dtype()


def read_config(path: Path) -> dict[str, Any]:
    """A JSON object from a file; `CheckpointError` when missing or not one."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist.") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not readable JSON: {error}.") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} holds a {type(config).__name__}; expected a JSON object.")
    return config


def build(make: Callable[[], Module]) -> Module:
    """Make a network without memory for its weights, on the meta device."""
    with torch.device("meta"):
        return make().eval().requires_grad_(False)


def check_shapes(network: nn.Module, shapes: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Raise `CheckpointError` at the first key that the network needs and a file lacks, or that
    has another shape; keys the network does not use are ignored."""
    for key, tensor in network.state_dict().items():
        expected, found = tuple(tensor.shape), shapes.get(key)
        if found is None:
            raise CheckpointError(
                f"{where}: the key '{key}' is missing; expected shape {expected}."
            )
        if found != expected:
            raise CheckpointError(
                f"{where}: the key '{key}' has shape {found}; expected {expected}."
            )


def assemble(
    make: Callable[[Backend], Module],
    backend: Backend,
    shapes: Mapping[str, tuple[int, ...]],
    tensors: Iterable[tuple[str, Tensor]],
    where: str,
    *,
    device: torch.device | str,
    dtype: torch.dtype | None,
) -> Module:
    """Make a network on a backend and fill it, after checking a file's shapes against it.

    Tensors are placed one by one, so that only one is held twice. `dtype` None keeps each
    parameter's stored dtype; buffers always keep theirs. Raises `CheckpointError` (see
    `check_shapes`) before any is read.
    """
    # A host's layers may not have made their weights yet, so the keys are plain torch's.
    plain = build(lambda: make(TORCH))
    check_shapes(plain, shapes, where)
    parameters, wanted = dict(plain.named_parameters()), plain.state_dict()
    network = build(lambda: make(backend))
    for key, tensor in tensors:
        if key in wanted:
            placed = tensor.to(device)
            if key in parameters:
                placed = nn.Parameter(placed.to(dtype or placed.dtype), requires_grad=False)
            owner, _, leaf = key.rpartition(".")
            setattr(network.get_submodule(owner), leaf, placed)
    return network
