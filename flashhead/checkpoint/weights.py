"""Reading weight files and putting tensors into networks, with errors that name file and key."""

import math
import mmap
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..dtypes import SAFETENSORS_NAMES
from ..errors import CheckpointError, reason, shown
from ..files import fault_of, read_object
from ..models.backend import TORCH, Backend, build

Network = TypeVar("Network", bound=nn.Module, covariant=True)
Shape = tuple[int, ...]

TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt")
_DTYPES = {name: dtype for dtype, name in SAFETENSORS_NAMES.items()}
_ZIP = b"PK\x03\x04"
_TORCH = (_ZIP, b"\x80\x02")
_READ_BETWEEN_MAPPINGS = 64 * 2**20


@dataclass(frozen=True)
class StoredTensor:
    """One tensor in a file.

    dtype: its safetensors name, such as F32 or BF16. start: its first byte in a safetensors file.
    """

    dtype: str
    shape: Shape
    nbytes: int
    start: int = 0


class Weights:
    """Tensors by name, in a file on disk.

    entries: dtype, shape and size by tensor. metadata: the strings in a safetensors header. where:
    the file (and the part of it), for error messages.
    """

    def __init__(
        self,
        path: Path,
        entries: Mapping[str, StoredTensor],
        metadata: Mapping[str, str],
        where: str = "",
    ):
        self.path = path
        self.entries = entries
        self.metadata = metadata
        self.where = where or str(path)
        self.shapes: Mapping[str, Shape] = {key: entry.shape for key, entry in entries.items()}

    def __getitem__(self, key: str) -> Tensor:
        """A tensor, on the CPU; it may be the file's own memory-mapped bytes."""
        raise NotImplementedError

    def check_dtype(self, key: str) -> None:
        """Raise `CheckpointError` for a tensor in a dtype that no network is stored in."""
        dtype = self.entries[key].dtype
        if dtype not in _DTYPES:
            raise CheckpointError(
                f"{self.where}: the key '{key}' is stored as {dtype}; expected one of "
                f"{', '.join(_DTYPES)}."
            )

    def release(self) -> None:
        """Give back the memory that reading took; tensors that are still in use stay valid."""
        raise NotImplementedError


class WeightFile(Weights):
    """A safetensors file; opening it reads the header alone.

    It is mapped here and not by safetensors' own reader, which counts every page it has read as the
    process's memory for as long as any tensor of the file is in use. `release` gives them back.
    """

    def __init__(self, path: Path):
        try:
            with safe_open(path, framework="pt") as checked:  # it finds what is wrong with a header
                metadata = checked.metadata() or {}
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = read_object(file.read(length))
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(
                f"{path} is truncated or no safetensors file ({reason(error)}); download it again."
            ) from error
        header.pop("__metadata__", None)
        self._read: list[StoredTensor] = []
        entries = {}
        for key, entry in header.items():
            start, end = entry["data_offsets"]
            shape = tuple(entry["shape"])
            entries[key] = StoredTensor(entry["dtype"], shape, end - start, 8 + length + start)
        super().__init__(path, entries, metadata)

    @cached_property
    def _map(self) -> mmap.mmap:
        # Copy on write: whoever changes a weight in place does not change the file.
        with self.path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)

    def __getitem__(self, key: str) -> Tensor:
        self.check_dtype(key)
        entry = self.entries[key]
        dtype = _DTYPES[entry.dtype]
        count = math.prod(entry.shape)
        if count == 0:
            return torch.empty(entry.shape, dtype=dtype)
        self._read.append(entry)
        flat = torch.frombuffer(self._map, dtype=dtype, count=count, offset=entry.start)
        return flat.view(entry.shape)

    def release(self) -> None:
        # Only whole pages of what was read: a neighbour's may have been changed in place.
        for entry in self._read:
            start = -(-entry.start // mmap.PAGESIZE) * mmap.PAGESIZE
            length = (entry.start + entry.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE - start
            if length > 0 and hasattr(self._map, "madvise"):  # Windows trims by itself
                self._map.madvise(mmap.MADV_DONTNEED, start, length)
        self._read.clear()


class TorchFile(Weights):
    """A file of `torch.save` that holds tensors by name and nothing else.

    Its zip format is memory-mapped. Its older one, in which the Wan VAE was published, cannot be:
    that file is in memory whole, and `release` lets go of the tensors that were read.
    """

    def __init__(self, path: Path):
        self._tensors, self.mapped = _load_tensors(path)
        self._read: list[str] = []
        entries = {
            key: StoredTensor(
                SAFETENSORS_NAMES.get(tensor.dtype, str(tensor.dtype)),
                tuple(tensor.shape),
                tensor.nbytes,
            )
            for key, tensor in self._tensors.items()
        }
        super().__init__(path, entries, {})

    def __getitem__(self, key: str) -> Tensor:
        self.check_dtype(key)
        if key not in self._tensors:  # let go before
            self._tensors.clear()
            self._tensors, self.mapped = _load_tensors(self.path)
        self._read.append(key)
        # A copy, because a small tensor that stays would keep the space of large ones apart.
        return self._tensors[key] if self.mapped else self._tensors[key].clone()

    def release(self) -> None:
        if not self.mapped:
            for key in self._read:
                self._tensors.pop(key, None)
        # torch's own mapping is given back by opening another: not for every tensor.
        elif sum(self.entries[key].nbytes for key in self._read) > _READ_BETWEEN_MAPPINGS:
            self._tensors, self.mapped = _load_tensors(self.path)
        else:
            return
        self._read.clear()


def _load_tensors(path: Path) -> tuple[dict[str, Tensor], bool]:
    """The tensors of a file of torch.save, and whether they are its memory-mapped bytes."""
    try:
        with path.open("rb") as file:
            mapped = file.read(len(_ZIP)) == _ZIP
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # torch's unpickler raises whatever a damaged file leads it to
        # Its own error advises to run what is in the file.
        unsafe = isinstance(error, pickle.UnpicklingError)
        why = "it holds what torch does not load safely" if unsafe else reason(error)
        raise CheckpointError(
            f"{path} is truncated or no file of plain weights ({why}); download it again."
        ) from error
    if not isinstance(tensors, dict) or not all(
        isinstance(key, str) and _is_plain(tensor) for key, tensor in tensors.items()
    ):
        raise CheckpointError(f"{path} holds more than tensors by name; it is another file.")
    # Views may repeat a few bytes without end, and what is stored nowhere has any size.
    if sum(tensor.nbytes for tensor in tensors.values()) > path.stat().st_size:
        raise CheckpointError(f"{path} is damaged: it is smaller than its tensors.")
    return {key: tensor.detach() for key, tensor in tensors.items()}, mapped


def _is_plain(value: Any) -> bool:
    """Whether an unpickled value is a tensor of numbers in memory."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
    )


def check_file(path: Path) -> None:
    """Raise `CheckpointError` where a path is no file at all, or a file in another's place."""
    if fault := fault_of(path):
        raise CheckpointError(f"{path} {fault}.")


def open_weights(path: Path) -> Weights:
    """A weight file of either format, told by its contents, or else its name: people rename files
    to what a folder should hold. Raises `CheckpointError`."""
    check_file(path)
    with path.open("rb") as file:
        head = file.read(9)
    pickled = path.suffix in TORCH_SUFFIXES or head.startswith(_TORCH)
    return TorchFile(path) if pickled and head[8:] != b"{" else WeightFile(path)


@dataclass(frozen=True)
class Component(Generic[Network]):
    """One network's weights on disk, checked by their header; no weight is read until `load`.

    network: its class. config: its dataclass of `flashhead.models.config`. file: where the tensors
    are. shapes: of the tensors, by the network's keys. read: gives a tensor by the network's key.
    adapters: files of what changes the weights as they are read.

    Raises `CheckpointError` at the first key that the network needs and the file lacks, or has in
    another shape; keys that the network does not use are ignored.
    """

    network: Callable[[Any, Backend], Network]
    config: Any
    file: Weights
    shapes: Mapping[str, Shape]
    read: Callable[[str], Tensor]
    adapters: tuple[Weights, ...] = ()

    @property
    def files(self) -> tuple[Weights, ...]:
        """All that it is read from."""
        return (self.file, *self.adapters)

    def release(self) -> None:
        """As of `Weights`, of all files."""
        for file in self.files:
            file.release()

    def __post_init__(self) -> None:
        for key, tensor in self.plain.state_dict().items():
            expected, found = tuple(tensor.shape), self.shapes.get(key)
            if found is None:
                raise CheckpointError(
                    f"{self.file.where}: the key '{key}' is missing; expected shape {expected}."
                )
            if found != expected:
                raise CheckpointError(
                    f"{self.file.where}: the key '{key}' has shape {shown(found)}; expected "
                    f"{expected}."
                )

    @cached_property
    def plain(self) -> Network:
        """The network of plain torch layers on the meta device: its keys and shapes, no weights."""
        try:
            return build(lambda: self.network(self.config, TORCH))
        except (ArithmeticError, RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"{self.file.where}: no network can have the sizes of its config ({reason(error)})."
            ) from error

    def load(
        self,
        backend: Backend = TORCH,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | Callable[[str, Shape], torch.dtype] | None = None,
    ) -> Network:
        """The network, filled tensor by tensor, so that only one is held twice.

        `dtype` may be a function of a parameter's key and shape; None keeps each one's stored
        dtype, and buffers always keep theirs. A tensor that needs no conversion is not read yet: it
        stays in the file, mapped.
        """
        # A host's layers may not have made their weights yet, so the keys are plain torch's.
        keys, parameters = self.plain.state_dict().keys(), dict(self.plain.named_parameters())
        network = build(lambda: self.network(self.config, backend))
        for key in keys:
            tensor = self.read(key).to(device)
            if key in parameters:
                kept = dtype(key, tuple(tensor.shape)) if callable(dtype) else dtype
                tensor = nn.Parameter(tensor.to(kept or tensor.dtype), requires_grad=False)
            _assign(network, key, tensor)
            self.release()
        for key, buffer in list(network.named_buffers()):
            if key not in keys:  # a constant of the network's own
                _assign(network, key, buffer.to(device))
        return network


def _assign(network: nn.Module, key: str, tensor: Tensor) -> None:
    owner, _, leaf = key.rpartition(".")
    setattr(network.get_submodule(owner), leaf, tensor)
