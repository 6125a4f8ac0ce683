"""Reading weight files and putting tensors into networks, with errors that name file and key."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from .backend import TORCH, Backend
from .errors import CheckpointError

Module = TypeVar("Module", bound=nn.Module)
DTYPE_NAMES = {
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.float8_e4m3fn: "F8_E4M3",
}


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


class TorchFile:
    """A file of `torch.save` that holds tensors by name and nothing else; memory-mapped."""

    def __init__(self, path: Path):
        self.path = path
        try:
            tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except FileNotFoundError as error:
            raise CheckpointError(f"{path} does not exist.") from error
        except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
            reason = str(error).strip().partition("\n")[0].rstrip(".")
            raise CheckpointError(
                f"{path} is truncated or no file of plain weights ({reason}); download it again."
            ) from error
        if not isinstance(tensors, dict) or not all(
            isinstance(tensor, Tensor) for tensor in tensors.values()
        ):
            raise CheckpointError(f"{path} holds more than tensors by name; it is another file.")
        self._tensors: dict[str, Tensor] = tensors
        self.shapes: dict[str, tuple[int, ...]] = {k: tuple(v.shape) for k, v in tensors.items()}

    def __getitem__(self, key: str) -> Tensor:
        return self._tensors[key]

    def dtype(self, key: str) -> str:
        """The stored dtype's safetensors name, such as F32 or BF16."""
        return DTYPE_NAMES.get(self._tensors[key].dtype, str(self._tensors[key].dtype))


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


@dataclass(frozen=True)
class Component:
    """One network's weights on disk, known by their header; no weight is read until `load`.

    make: the network on a backend. config: its sizes. where: the file, for errors. shapes: of
    every tensor, by our keys. read: a tensor by our key.
    """

    make: Callable[[Backend], nn.Module]
    config: Any
    where: str
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], Tensor]

    def checked(self) -> Component:
        """Itself, once the header is found to hold what the network needs."""
        check_shapes(build(lambda: self.make(TORCH)), self.shapes, self.where)
        return self

    def load(
        self,
        backend: Backend = TORCH,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> Any:
        """The network, filled tensor by tensor, so that only one is held twice.

        `dtype` None keeps each parameter's stored dtype; buffers always keep theirs.
        """
        # A host's layers may not have made their weights yet, so the keys are plain torch's.
        plain = build(lambda: self.make(TORCH))
        parameters = dict(plain.named_parameters())
        network = build(lambda: self.make(backend))
        for key in plain.state_dict():
            placed = self.read(key).to(device)
            if key in parameters:
                placed = nn.Parameter(placed.to(dtype or placed.dtype), requires_grad=False)
            _assign(network, key, placed)
        for key, buffer in list(network.named_buffers()):
            if key not in plain.state_dict():  # a constant of the network's own
                _assign(network, key, buffer.to(device))
        return network


def _assign(network: nn.Module, key: str, tensor: Tensor) -> None:
    owner, _, leaf = key.rpartition(".")
    setattr(network.get_submodule(owner), leaf, tensor)
