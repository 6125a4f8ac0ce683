"""The two layouts that LTX 0.9.0 VAE files come in: diffusers' and Lightricks' own.

Ours is diffusers'. The original numbers its blocks in one flat list, described in the safetensors
metadata; reading that list gives both the sizes and the new names.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from ..errors import CheckpointError
from ..models.config import LTXVAEConfig
from ..models.ltx_vae import LTXVAE
from ..variants import REPOSITORY
from .configs import read_ltx_config
from .layout import CONFIG
from .weights import Component, Weights, read_config

STATISTICS = {
    "per_channel_statistics.mean-of-means": "latents_mean",
    "per_channel_statistics.std-of-means": "latents_std",
}
_PREFIX = "vae."


def is_ltx(keys: Iterable[str]) -> bool:
    """Whether a file's keys look like an LTX VAE's, in either layout."""
    own = ("encoder.down_blocks.", "decoder.up_blocks.")
    return any(key.removeprefix(_PREFIX).startswith(own) for key in keys)


def open_ltx_vae(file: Weights, config: Mapping[str, Any] | None = None) -> Component:
    """The LTX 0.9.0 VAE in either layout.

    `config` is what diffusers' config.json says; None means that it lies beside the file. Raises
    `CheckpointError`.
    """
    where, keys = file.where, list(file.shapes)
    if is_original(keys):
        sizes, renames = convert_original(file.metadata, keys, where)
    else:
        if config is None:
            beside = file.path.parent / CONFIG
            if not beside.is_file():
                raise CheckpointError(
                    f"{beside} does not exist; download it from {REPOSITORY}, where it lies beside "
                    "the LTX VAE."
                )
            config = read_config(beside)
        sizes = read_ltx_config(config, where)
        renames = {key: key for key in keys}
    names = {new: old for old, new in renames.items()}
    shapes = {new: file.shapes[old] for new, old in names.items()}
    return Component(
        partial(LTXVAE, sizes), sizes, file, shapes, lambda key: file[names[key]]
    ).checked()


def is_original(keys: Sequence[str]) -> bool:
    """Whether a file's keys are of the original layout, alone or inside a whole model."""
    return any(key.removeprefix(_PREFIX) in STATISTICS for key in keys)


def _stages(blocks: Sequence[tuple[str, Any]], encoder: bool, where: str):
    """Walk one half's blocks: yields (index, new name, kind, parameters)."""
    names = ("down_blocks", "downsamplers.0", "conv_out")
    if not encoder:
        names = ("up_blocks", "upsamplers.0", "conv_in")
    # An encoder stage ends with its scaling and its middle is the list's last block; a decoder
    # stage begins with them and its middle comes first.
    stage, filled = 0, False
    last = len(blocks) - 1
    for index, (kind, parameters) in enumerate(blocks):
        if kind not in ("res_x", "res_x_y", "compress_all"):
            raise CheckpointError(
                f"{where}: this LTX VAE has a '{kind}' block, so it is later than the 0.9.0 that "
                "Lite was trained with; expected res_x, res_x_y and compress_all only."
            )
        if kind == "res_x":
            if index == (last if encoder else 0):
                yield index, "mid_block", kind, parameters
                continue
            if encoder and filled:
                stage += 1
            yield index, f"{names[0]}.{stage}", kind, parameters
            filled = True
        else:
            if not encoder and filled:
                stage, filled = stage + 1, False
            name = names[1] if kind == "compress_all" else names[2]
            yield index, f"{names[0]}.{stage}.{name}", kind, parameters


def _layers(parameters: Any) -> int:
    return parameters["num_layers"] if isinstance(parameters, Mapping) else int(parameters)


def convert_original(
    metadata: Mapping[str, str], keys: Sequence[str], where: str
) -> tuple[LTXVAEConfig, dict[str, str]]:
    """Config, and old key -> our key for every tensor that is used.

    Raises `CheckpointError` when the metadata's config is missing or of a later LTX VAE.
    """
    try:
        config = json.loads(metadata["config"])["vae"]
        blocks = [tuple(b) for b in config.get("encoder_blocks") or config["blocks"]]
        decoder_blocks = [tuple(b) for b in config.get("decoder_blocks") or config["blocks"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{where}: the safetensors metadata holds no 'config' of an LTX VAE; use the file as "
            "published, or diffusers' folder with its config.json."
        ) from error
    if config.get("timestep_conditioning"):
        raise CheckpointError(
            f"{where}: this LTX VAE is timestep-conditioned, so it is later than the 0.9.0 that "
            "Lite was trained with."
        )

    try:
        sizes, renames = _read_blocks(config, blocks, decoder_blocks, where)
    except CheckpointError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise CheckpointError(
            f"{where}: the blocks that the safetensors metadata lists are not an LTX 0.9.0 VAE's "
            f"({type(error).__name__}: {error}); use the file as published."
        ) from error
    new_keys = {}
    for key in keys:
        bare = key.removeprefix(_PREFIX)
        new = STATISTICS.get(bare)
        if new is None and bare.startswith(("encoder.", "decoder.")):
            new = bare
            for old, prefix in renames.items():
                if bare.startswith(old):
                    new = prefix + bare.removeprefix(old)
            new = new.replace(".res_blocks.", ".resnets.").replace(".norm3.norm.", ".norm3.")
            if ".conv_shortcut.conv." not in new:
                new = new.replace(".conv_shortcut.", ".conv_shortcut.conv.")
        if new is not None:
            new_keys[key] = new
    return sizes, new_keys


def _read_blocks(
    config: Mapping[str, Any],
    blocks: Sequence[tuple[str, Any]],
    decoder_blocks: Sequence[tuple[str, Any]],
    where: str,
) -> tuple[LTXVAEConfig, dict[str, str]]:
    """Sizes, and the blocks' old prefixes -> new."""
    widths = [config.get("encoder_base_channels", 128)]
    layers: list[int] = []
    scaling: list[bool] = []
    renames: dict[str, str] = {}
    for index, name, kind, parameters in _stages(blocks, True, where):
        renames[f"encoder.down_blocks.{index}."] = f"encoder.{name}."
        if kind == "res_x":
            layers.append(_layers(parameters))
            if name != "mid_block":
                widths.append(widths[-1])
                scaling.append(False)
        elif kind == "compress_all":
            scaling[-1] = True
        else:
            widths[-1] *= 2
    for index, name, _, _ in _stages(decoder_blocks[::-1], False, where):
        renames[f"decoder.up_blocks.{index}."] = f"decoder.{name}."

    sizes = {
        "block_out_channels": widths[:-1],
        "layers_per_block": layers,
        "spatio_temporal_scaling": scaling,
        "latent_channels": config["latent_channels"],
        "decoder_causal": config.get("causal_decoder", False),
    }
    sizes |= {k: config[k] for k in ("in_channels", "out_channels", "patch_size") if k in config}
    return read_ltx_config(sizes, where), renames
