"""What a weight file holds, and opening it as a component: alone, or as a part of a bundle."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError, reason
from ..files import read_object
from ..models.generator import Generator
from ..models.ltx_vae import LTXVAE
from ..models.tiny_vae import TinyVAE
from ..models.wan_vae import WanVAE
from ..models.wav2vec2 import AudioEncoder
from ..variants import AUDIO_REPOSITORY, REPOSITORY
from .configs import (
    read_audio_encoder_config,
    read_generator_config,
    read_ltx_config,
    read_tiny_config,
    read_wan_config,
)
from .layout import AUDIO_WEIGHTS, CONFIG, TINY_VAE_FILES, VAE_FILES, WEIGHTS, require
from .ltx_file import is_ltx, is_original, read_original
from .weights import Component, Weights, check_file, open_weights

FORMAT = "flashhead"
BUNDLE = "bundle"
ROLES = {
    "generator": "a generator",
    "vae": "a VAE",
    "audio_encoder": "an audio encoder",
    BUNDLE: "a one-file bundle",
}
"""What a weight file can be, in words."""

_OTHER_AUDIO_WEIGHTS = ("pytorch_model.bin", "tf_model.h5")
Config = Mapping[str, Any] | None
VAEComponent = Component[LTXVAE | WanVAE | TinyVAE]


def role_of(file: Weights) -> str:
    """What a weight file is, told by its header: one of `ROLES`.

    Raises `CheckpointError` for a file that is none of them.
    """
    keys = file.shapes.keys()
    if file.metadata.get("bundle") == FORMAT:
        return BUNDLE
    if "audio_proj.proj1.weight" in keys:
        return "generator"
    if {key.partition(".")[0] for key in keys} == set(PARTS):
        raise CheckpointError(
            f"{file.where} was a one-file bundle, but its metadata, which holds the configs, is "
            "gone; convert the published folder anew."
        )
    if is_ltx(keys) or is_wan(keys) or is_tiny(keys):
        return "vae"
    if any(key.startswith(("wav2vec2.", "feature_extractor.conv_layers.")) for key in keys):
        return "audio_encoder"
    example = f" named like '{next(iter(keys))}'" if keys else ""
    raise CheckpointError(
        f"{file.where} holds {len(keys)} tensors{example}; expected a FlashHead bundle, a "
        "generator, its VAE (LTX 0.9.0, Wan 2.1 or taew2_1) or wav2vec2."
    )


def open_generator(path: Path) -> Component[Generator]:
    """The generator of a Model_* folder (or of its weight file). Raises `CheckpointError`."""
    return generator_in(open_weights(path / WEIGHTS if path.is_dir() else path))


def open_vae(path: Path) -> VAEComponent:
    """A VAE of either family, told by its keys: a weight file, or the folder that holds it.

    Raises `CheckpointError`.
    """
    if path.is_dir():
        names = [*(name for files in VAE_FILES.values() for name in files), *TINY_VAE_FILES]
        present = [path / name for name in names if (path / name).is_file()]
        if not present:
            raise CheckpointError(f"{path} holds no VAE; expected {' or '.join(names)}.")
        path = present[0]
    return vae_in(open_weights(path))


def open_audio_encoder(path: Path) -> Component[AudioEncoder]:
    """wav2vec2-base from Hugging Face's folder (or its weight file). Raises `CheckpointError`."""
    if path.is_dir():
        folder, path = path, path / AUDIO_WEIGHTS
        require(folder / CONFIG, AUDIO_REPOSITORY)
        other = next((name for name in _OTHER_AUDIO_WEIGHTS if (folder / name).is_file()), None)
        if other is not None and not path.is_file():
            raise CheckpointError(
                f"{folder} holds the audio encoder as {other} alone, which is not read; download "
                f"{AUDIO_WEIGHTS} from {AUDIO_REPOSITORY} into it."
            )
        require(path, AUDIO_REPOSITORY)
    return audio_encoder_in(open_weights(path))


# Each of the following takes the contents of config.json; None reads the one beside the file.


def generator_in(file: Weights, config: Config = None) -> Component[Generator]:
    """The generator whose tensors a file holds. Raises `CheckpointError`."""
    config = _or_beside(config, file, REPOSITORY)
    sizes = read_generator_config(config, file.shapes, file.where)
    return Component(Generator, sizes, file, file.shapes, file.__getitem__)


def vae_in(file: Weights, config: Config = None) -> VAEComponent:
    """The VAE whose tensors a file holds. Raises `CheckpointError`.

    A Wan VAE and a tiny one have no config: their sizes are read off the weights' shapes.
    """
    if is_tiny(file.shapes):
        tiny_sizes = read_tiny_config(file.shapes, file.where)
        return Component(
            TinyVAE, tiny_sizes, file, file.shapes, lambda key: channels_last(file[key])
        )
    if is_wan(file.shapes):
        sizes = read_wan_config(file.shapes, file.where)
        return Component(WanVAE, sizes, file, file.shapes, lambda key: channels_last(file[key]))
    if not is_ltx(file.shapes):
        raise CheckpointError(
            f"{file.where} is neither the Wan 2.1 VAE, the LTX 0.9.0 VAE nor taew2_1: its "
            f"{len(file.shapes)} tensors are named like '{next(iter(file.shapes), '')}'."
        )
    if is_original(file.shapes):
        ltx_sizes, names = read_original(file)
    else:
        config = _or_beside(config, file, f"{REPOSITORY}, where it lies beside the LTX VAE")
        ltx_sizes, names = read_ltx_config(config, file.where), {key: key for key in file.shapes}
    shapes = {new: file.shapes[old] for new, old in names.items()}
    return Component(LTXVAE, ltx_sizes, file, shapes, lambda key: file[names[key]])


def is_wan(keys: Iterable[str]) -> bool:
    """Whether keys are the Wan VAE's: those of Wan-AI's .pth, which are our network's too."""
    return any(key.startswith(("encoder.downsamples.", "decoder.upsamples.")) for key in keys)


def is_tiny(keys: Iterable[str]) -> bool:
    """Whether keys are TAEHV's, whose encoder and decoder are lists of layers."""
    return {"encoder.0.weight", "decoder.22.bias"} <= set(keys)


def channels_last(tensor: Tensor) -> Tensor:
    """A weight in the memory layout that its convolution computes in, so that no call converts."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return tensor.contiguous(memory_format=formats.get(tensor.ndim, torch.contiguous_format))


_POSITION = "encoder.pos_conv_embed.conv."
_WEIGHT_NORMS = (
    ("weight_g", "weight_v"),
    ("parametrizations.weight.original0", "parametrizations.weight.original1"),
)


def audio_encoder_in(file: Weights, config: Config = None) -> Component[AudioEncoder]:
    """The wav2vec2 whose tensors a file holds. Raises `CheckpointError`.

    The positional convolution's weight normalisation is folded into a plain weight.
    """
    sizes = read_audio_encoder_config(_or_beside(config, file, AUDIO_REPOSITORY), file.where)
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

    return Component(AudioEncoder, sizes, file, shapes, read)


PARTS: dict[str, Callable[[Weights, Config], Component[Any]]] = {
    "generator": generator_in,
    "vae": vae_in,
    "audio_encoder": audio_encoder_in,
}
"""A bundle's parts by name, and what opens each."""


def _or_beside(config: Config, file: Weights, repository: str) -> Mapping[str, Any]:
    if config is not None:
        return config
    path = file.path.parent / CONFIG
    require(path, repository)
    check_file(path)
    try:
        return read_object(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not readable JSON: {reason(error)}.") from error
