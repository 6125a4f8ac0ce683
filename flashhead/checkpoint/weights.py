"""Reading weight files and putting tensors into networks, with errors that name file and key."""

from __future__ import annotations

import json
import math
import mmap
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..dtypes import SAFETENSORS_NAMES
from ..errors import CheckpointError
from ..models.backend import TORCH, Backend, build

_DTYPES = {name: dtype for dtype, name in SAFETENSORS_NAMES.items()}
TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt")
_READ_BETWEEN_MAPPINGS = 64 * 2**20


class Weights(Protocol):
    """Tensors by name, on disk.

    where: the file, for errors. metadata: what else its header says. shapes: of every tensor.
    """

    path: Path
    where: str
    metadata: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]

    def __getitem__(self, key: str) -> Tensor:
        """A tensor, on the CPU; it may be the file's own memory-mapped bytes."""

    def dtype(self, key: str) -> str:
        """The stored dtype's safetensors name, such as F32 or BF16."""

    def nbytes(self, key: str) -> int:
        """Bytes that a tensor takes in the file."""

    def release(self) -> None:
        """Give back the memory that reading took; tensors that are still in use stay valid."""


class WeightFile:
    """A safetensors file, opened by its header; tensors are memory-mapped when they are asked for.

    A mapped page counts as the process's memory once it was read, until `release`.
    """

    def __init__(self, path: Path):
        self.path = path
        self.where = str(path)
        try:
            # safetensors' own parser finds what is wrong with a header.
            with safe_open(path, framework="pt") as file:
                self.metadata: Mapping[str, str] = file.metadata() or {}
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(length))
        except FileNotFoundError as error:
            raise CheckpointError(f"{path} does not exist.") from error
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{path} is truncated or no safetensors file ({error}); download it again."
            ) from error
        header.pop("__metadata__", None)
        self._data = 8 + length
        self._entries: dict[str, dict[str, Any]] = header
        self._read: list[tuple[int, int]] = []
        self.shapes: dict[str, tuple[int, ...]] = {k: tuple(e["shape"]) for k, e in header.items()}

    @cached_property
    def _map(self) -> mmap.mmap:
        # Copy on write: whoever changes a weight in place does not change the file.
        with self.path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)

    def __getitem__(self, key: str) -> Tensor:
        entry, shape = self._entries[key], self.shapes[key]
        dtype = _DTYPES.get(entry["dtype"])
        if dtype is None:
            raise CheckpointError(
                f"{self.where}: the key '{key}' is stored as {entry['dtype']}; expected one of "
                f"{', '.join(_DTYPES)}."
            )
        count = math.prod(shape)
        if count == 0:
            return torch.empty(shape, dtype=dtype)
        start, end = (self._data + offset for offset in entry["data_offsets"])
        self._read.append((start, end))
        return torch.frombuffer(self._map, dtype=dtype, count=count, offset=start).view(shape)

    def dtype(self, key: str) -> str:
        return self._entries[key]["dtype"]

    def nbytes(self, key: str) -> int:
        start, end = self._entries[key]["data_offsets"]
        return end - start

    def release(self) -> None:
        # Only whole pages of what was read: a neighbour's may have been changed in place.
        for start, end in self._read:
            start, end = -(-start // mmap.PAGESIZE), end // mmap.PAGESIZE
            if start < end and hasattr(self._map, "madvise"):  # Windows trims by itself
                length = (end - start) * mmap.PAGESIZE
                self._map.madvise(mmap.MADV_DONTNEED, start * mmap.PAGESIZE, length)
        self._read.clear()


class TorchFile:
    """A file of `torch.save` that holds tensors by name and nothing else; memory-mapped."""

    def __init__(self, path: Path):
        self.path = path
        self.where = str(path)
        self.metadata: Mapping[str, str] = {}
        self._tensors = _load_tensors(path)
        self._read = 0
        self.shapes: dict[str, tuple[int, ...]] = {
            key: tuple(tensor.shape) for key, tensor in self._tensors.items()
        }

    def __getitem__(self, key: str) -> Tensor:
        self._read += self.nbytes(key)
        return self._tensors[key]

    def dtype(self, key: str) -> str:
        return SAFETENSORS_NAMES.get(self._tensors[key].dtype, str(self._tensors[key].dtype))

    def nbytes(self, key: str) -> int:
        return self._tensors[key].nbytes

    def release(self) -> None:
        # The mapping is torch's own, and is given back by opening another: not for every tensor.
        if self._read > _READ_BETWEEN_MAPPINGS:
            self._tensors, self._read = _load_tensors(self.path), 0


def _load_tensors(path: Path) -> dict[str, Tensor]:
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
    return tensors


def open_weights(path: Path) -> WeightFile | TorchFile:
    """A weight file of either format, told by its name. Raises `CheckpointError`."""
    return (TorchFile if path.suffix in TORCH_SUFFIXES else WeightFile)(path)


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

    make: the network on a backend. config: its sizes. file: where the tensors are. shapes: of
    every tensor, by our keys. read: a tensor by our key.
    """

    make: Callable[[Backend], nn.Module]
    config: Any
    file: Weights
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], Tensor]

    @cached_property
    def plain(self) -> nn.Module:
        """The network in plain torch, without memory for its weights; its keys are ours."""
        return build(lambda: self.make(TORCH))

    def checked(self) -> Component:
        """Itself, once the header is found to hold what the network needs."""
        check_shapes(self.plain, self.shapes, self.file.where)
        return self

    def load(
        self,
        backend: Backend = TORCH,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | Callable[[str, tuple[int, ...]], torch.dtype] | None = None,
    ) -> Any:
        """The network, filled tensor by tensor, so that only one is held twice.

        `dtype` may be a function of a parameter's key and shape; None keeps each one's stored
        dtype. Buffers always keep theirs. A tensor that
        needs no conversion is not read yet: it stays in the file, mapped.
        """
        # A host's layers may not have made their weights yet, so the keys are plain torch's.
        keys, parameters = self.plain.state_dict().keys(), dict(self.plain.named_parameters())
        network = build(lambda: self.make(backend))
        for key in keys:
            placed = self.read(key).to(device)
            if key in parameters:
                kept = dtype(key, tuple(placed.shape)) if callable(dtype) else dtype
                placed = nn.Parameter(placed.to(kept or placed.dtype), requires_grad=False)
            _assign(network, key, placed)
            self.file.release()
        for key, buffer in list(network.named_buffers()):
            if key not in keys:  # a constant of the network's own
                _assign(network, key, buffer.to(device))
        return network


def _assign(network: nn.Module, key: str, tensor: Tensor) -> None:
    owner, _, leaf = key.rpartition(".")
    setattr(network.get_submodule(owner), leaf, tensor)
