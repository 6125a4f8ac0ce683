"""Opening a checkpoint's components, in files of their own or as parts of one."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..models.generator import Generator
from ..models.wav2vec2 import AudioEncoder
from .configs import read_audio_encoder_config, read_generator_config
from .layout import AUDIO_WEIGHTS, CONFIG, VAE_FILES, WEIGHTS, check_audio_folder
from .ltx_file import is_ltx, open_ltx_vae
from .wan_file import is_wan, open_wan_vae
from .weights import Component, WeightFile, Weights, open_weights, read_config


def open_generator(path: Path) -> Component:
    """The generator of a Model_* folder (or of its weight file)."""
    file = WeightFile(path / WEIGHTS if path.is_dir() else path)
    return generator_in(file, read_config(file.path.parent / CONFIG))


def generator_in(file: Weights, config: Mapping[str, Any]) -> Component:
    """The generator whose tensors a file holds; `config` is what config.json says."""
    sizes = read_generator_config(config, file.shapes, file.where)
    return Component(
        partial(Generator, sizes), sizes, file, file.shapes, file.__getitem__
    ).checked()


def open_vae(path: Path) -> Component:
    """A VAE of either family, told by its keys: a weight file, or the folder that holds it."""
    if path.is_dir():
        names = [name for files in VAE_FILES.values() for name in files]
        present = [path / name for name in names if (path / name).is_file()]
        if not present:
            raise CheckpointError(f"{path} holds no VAE; expected {' or '.join(names)}.")
        path = present[0]
    return vae_in(open_weights(path))


def vae_in(file: Weights, config: Mapping[str, Any] | None = None) -> Component:
    """The VAE whose tensors a file holds; LTX's `config` None means that it lies beside."""
    if is_wan(file.shapes):
        return open_wan_vae(file)
    if is_ltx(file.shapes):
        return open_ltx_vae(file, config)
    raise CheckpointError(
        f"{file.where} is neither the Wan 2.1 VAE nor the LTX 0.9.0 VAE: its "
        f"{len(file.shapes)} tensors are named like '{next(iter(file.shapes), '')}'."
    )


_POSITION = "encoder.pos_conv_embed.conv."
_WEIGHT_NORMS = (
    ("weight_g", "weight_v"),
    ("parametrizations.weight.original0", "parametrizations.weight.original1"),
)


def open_audio_encoder(path: Path) -> Component:
    """wav2vec2-base from Hugging Face's folder (or its weight file)."""
    if path.is_dir():
        check_audio_folder(path)
        path = path / AUDIO_WEIGHTS
    file = WeightFile(path)
    return audio_encoder_in(file, read_config(file.path.parent / CONFIG))


def audio_encoder_in(file: Weights, config: Mapping[str, Any]) -> Component:
    """The wav2vec2 whose tensors a file holds; `config` is what config.json says.

    The positional convolution's weight normalisation is folded into a plain weight.
    """
    sizes = read_audio_encoder_config(config, file.where)
    names = {key.removeprefix("wav2vec2."): key for key in file.shapes}
    shapes = {new: file.shapes[old] for new, old in names.items()}
    norm = next(
        (pair for pair in _WEIGHT_NORMS if all(_POSITION + name in names for name in pair)), None
    )
    if norm is not None:
        shapes[_POSITION + "weight"] = shapes[_POSITION + norm[1]]

    def read(key: str) -> Tensor:
        if norm is None or key != _POSITION + "weight":
            return file[names[key]]
        scale, direction = (file[names[_POSITION + name]].float() for name in norm)
        length = torch.linalg.vector_norm(direction, dim=(0, 1), keepdim=True)
        return direction * (scale / length)

    return Component(partial(AudioEncoder, sizes), sizes, file, shapes, read).checked()
