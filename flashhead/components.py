"""Opening the three components of a checkpoint where they lie in files of their own."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from .audio_encoder import AudioEncoder
from .config import AudioEncoderConfig, GeneratorConfig
from .errors import CheckpointError
from .generator import Generator
from .layout import VAE_FILES, WEIGHTS
from .vae.ltx_layouts import is_ltx, open_ltx_vae
from .vae.wan_layouts import is_wan, open_wan_vae
from .weights import Component, TorchFile, WeightFile, read_config

AUDIO_WEIGHTS = "model.safetensors"


def open_generator(folder: Path) -> Component:
    """The generator of a Model_* folder (or of its weight file)."""
    file = WeightFile(folder / WEIGHTS if folder.is_dir() else folder)
    where = str(file.path)
    config = GeneratorConfig.from_checkpoint(
        read_config(file.path.parent / "config.json"), file.shapes, where
    )
    return Component(
        partial(Generator, config), config, where, file.shapes, file.__getitem__
    ).checked()


def open_vae(path: Path) -> Component:
    """A VAE of either family, told by its keys: a weight file, or the folder that holds it."""
    if path.is_dir():
        names = [name for files in VAE_FILES.values() for name in files]
        present = [path / name for name in names if (path / name).is_file()]
        if not present:
            raise CheckpointError(f"{path} holds no VAE; expected {' or '.join(names)}.")
        path = present[0]
    file = WeightFile(path) if path.suffix == ".safetensors" else TorchFile(path)
    if is_wan(file.shapes):
        return open_wan_vae(file)
    if is_ltx(file.shapes):
        return open_ltx_vae(file)
    raise CheckpointError(
        f"{path} is neither the Wan 2.1 VAE nor the LTX 0.9.0 VAE: its "
        f"{len(file.shapes)} tensors are named like '{next(iter(file.shapes), '')}'."
    )


_POSITION = "encoder.pos_conv_embed.conv."
_WEIGHT_NORMS = (
    ("weight_g", "weight_v"),
    ("parametrizations.weight.original0", "parametrizations.weight.original1"),
)


def open_audio_encoder(folder: Path) -> Component:
    """wav2vec2-base from Hugging Face's folder (or its weight file).

    The positional convolution's weight normalisation is folded into a plain weight.
    """
    file = WeightFile(folder / AUDIO_WEIGHTS if folder.is_dir() else folder)
    where = str(file.path)
    config = AudioEncoderConfig.from_checkpoint(
        read_config(file.path.parent / "config.json"), where
    )
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

    return Component(partial(AudioEncoder, config), config, where, shapes, read).checked()
