"""The two layouts that LTX 0.9.0 VAE files come in: diffusers' and Lightricks' own.

Ours is diffusers'. The original numbers its blocks in one flat list, described in the safetensors
metadata; reading that list gives both the sizes and the new names.
"""

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..errors import CheckpointError, reason, shown
from ..files import read_object
from ..models.config import LTXVAEConfig
from .configs import read_ltx_config
from .weights import Weights

_STATISTICS = {
    "per_channel_statistics.mean-of-means": "latents_mean",
    "per_channel_statistics.std-of-means": "latents_std",
}
_KINDS = ("res_x", "res_x_y", "compress_all")
_PREFIX = "vae."


def is_ltx(keys: Iterable[str]) -> bool:
    """Whether a file's keys look like an LTX VAE's, in either layout."""
    own = ("encoder.down_blocks.", "decoder.up_blocks.")
    return any(key.removeprefix(_PREFIX).startswith(own) for key in keys)


def is_original(keys: Iterable[str]) -> bool:
    """Whether a file's keys are of the original layout, alone or inside a whole model."""
    return any(key.removeprefix(_PREFIX) in _STATISTICS for key in keys)


def read_original(file: Weights) -> tuple[LTXVAEConfig, dict[str, str]]:
    """Config, and our key -> the file's key for every tensor that is used.

    Raises `CheckpointError` when the metadata's config is missing or of a later LTX VAE.
    """
    try:
        config = read_object(file.metadata["config"])["vae"]
        blocks = [tuple(b) for b in config.get("encoder_blocks") or config["blocks"]]
        decoder_blocks = [tuple(b) for b in config.get("decoder_blocks") or config["blocks"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{file.where}: the safetensors metadata holds no 'config' of an LTX VAE; use the file "
            "as published, or diffusers' folder with its config.json."
        ) from error
    if config.get("timestep_conditioning"):
        raise CheckpointError(
            f"{file.where}: this LTX VAE is timestep-conditioned, so it is later than the 0.9.0 "
            "that Lite was trained with."
        )
    try:
        kinds = [kind for kind, _ in blocks]
        decoder_kinds = [kind for kind, _ in reversed(decoder_blocks)]
        later = next((kind for kind in (*kinds, *decoder_kinds) if kind not in _KINDS), None)
        if later is None:
            names = _block_names(kinds, encoder=True)
            sizes = _read_sizes(config, zip(names, blocks, strict=True))
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(
            f"{file.where}: the blocks that the safetensors metadata lists are not an LTX 0.9.0 "
            f"VAE's ({type(error).__name__}: {reason(error)}); use the file as published."
        ) from error
    if later is not None:
        raise CheckpointError(
            f"{file.where}: this LTX VAE has a {shown(later)} block, so it is later than "
            f"the 0.9.0 that Lite was trained with; expected {', '.join(_KINDS)} only."
        )
    renames = {f"encoder.down_blocks.{n}": f"encoder.{name}" for n, name in enumerate(names)}
    names = _block_names(decoder_kinds, encoder=False)
    renames |= {f"decoder.up_blocks.{n}": f"decoder.{name}" for n, name in enumerate(names)}
    keys = {}
    for key in file.shapes:
        bare = key.removeprefix(_PREFIX)
        if bare in _STATISTICS:
            keys[_STATISTICS[bare]] = key
        elif bare.startswith(("encoder.", "decoder.")):
            parts = bare.split(".")
            block = ".".join(parts[:3])
            new = ".".join([renames.get(block, block), *parts[3:]])
            new = new.replace(".res_blocks.", ".resnets.").replace(".norm3.norm.", ".norm3.")
            if ".conv_shortcut.conv." not in new:
                new = new.replace(".conv_shortcut.", ".conv_shortcut.conv.")
            keys[new] = key
    return read_ltx_config(sizes, file.where), keys


def _block_names(kinds: Sequence[str], *, encoder: bool) -> list[str]:
    """diffusers' names of the blocks in the flat list of one half.

    An encoder's level ends with its scaling and widening, and the middle comes last; a decoder's
    level begins with them, and the middle comes first.
    """
    half, scaling, widening = "up_blocks", "upsamplers.0", "conv_in"
    if encoder:
        half, scaling, widening = "down_blocks", "downsamplers.0", "conv_out"
    names, resnets = [], 0
    for index, kind in enumerate(kinds):
        if kind == "res_x" and index == (len(kinds) - 1 if encoder else 0):
            names.append("mid_block")
            continue
        level = f"{half}.{resnets - (encoder and kind != 'res_x')}"
        resnets += kind == "res_x"
        part = {"res_x": "", "compress_all": f".{scaling}", "res_x_y": f".{widening}"}[kind]
        names.append(level + part)
    return names


def _read_sizes(
    config: Mapping[str, Any], blocks: Iterable[tuple[str, tuple[str, Any]]]
) -> dict[str, Any]:
    """What diffusers' config.json would say, from the encoder's blocks: (name, (kind, sizes))."""
    widths = [operator.index(config.get("encoder_base_channels", 128))]  # no list, to be doubled
    layers: list[int] = []
    scaling: list[bool] = []
    for name, (kind, sizes) in blocks:
        if kind == "compress_all":
            scaling[-1] = True
        elif kind == "res_x_y":
            widths[-1] *= 2
        else:
            layers.append(sizes["num_layers"] if isinstance(sizes, Mapping) else int(sizes))
            if name != "mid_block":
                widths.append(widths[-1])
                scaling.append(False)
    return {
        "block_out_channels": widths[:-1],
        "layers_per_block": layers,
        "spatio_temporal_scaling": scaling,
        "latent_channels": config["latent_channels"],
        "decoder_causal": config.get("causal_decoder", False),
        **{k: config[k] for k in ("in_channels", "out_channels", "patch_size") if k in config},
    }
