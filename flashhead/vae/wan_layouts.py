"""The files that the Wan 2.1 VAE comes in: Wan-AI's .pth, and the same keys as safetensors."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ..backend import TORCH, Backend
from ..errors import CheckpointError
from ..weights import WeightFile, assemble
from .wan import WanVAE, WanVAEConfig

WEIGHTS = ("Wan2.1_VAE.pth", "wan_2.1_vae.safetensors")
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


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


def open_wan_vae(path: Path) -> WeightFile | TorchFile:
    """The weights in a folder that holds one of `WEIGHTS`, or in a file."""
    if path.is_dir():
        present = [path / name for name in WEIGHTS if (path / name).is_file()]
        if not present:
            raise CheckpointError(f"{path} holds no Wan 2.1 VAE; expected {' or '.join(WEIGHTS)}.")
        path = present[0]
    return WeightFile(path) if path.suffix == ".safetensors" else TorchFile(path)


def load_wan_vae(
    path: Path, *, device: torch.device | str, dtype: torch.dtype | None, backend: Backend = TORCH
) -> WanVAE:
    """The Wan 2.1 VAE from its folder or a file; `dtype` None keeps the stored one.

    Raises:
        CheckpointError: a file that is missing, truncated, foreign or of the wrong shape.
    """
    file = open_wan_vae(path)
    where = str(file.path)
    config = WanVAEConfig.from_shapes(file.shapes, where)

    def tensors() -> Iterator[tuple[str, Tensor]]:
        for key, shape in file.shapes.items():
            # Laid out as the convolutions want them, or each call would do it over.
            layout = _CHANNELS_LAST.get(len(shape), torch.contiguous_format)
            yield key, file[key].contiguous(memory_format=layout)

    network = assemble(
        partial(WanVAE, config), backend, file.shapes, tensors(), where, device=device, dtype=dtype
    )
    for name in ("latents_mean", "latents_std"):
        setattr(network, name, getattr(network, name).to(device))
    return network
