"""Trained networks as a checkpoint folder with the names that `load_bundle` reads."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn

from ...checkpoint.configs import to_config
from ...checkpoint.layout import (
    AUDIO_ENCODER,
    AUDIO_WEIGHTS,
    CONFIG,
    GENERATOR_FOLDERS,
    VAE_FOLDERS,
    WEIGHTS,
)
from ...files import replacing
from ...models.generator import Generator
from ...models.ltx_vae import LTXVAE
from ...models.wan_vae import WanVAE
from ...models.wav2vec2 import AudioEncoder
from ..files import save_tensors

WAN_WEIGHTS = "wan_2.1_vae.safetensors"


def variant_of(vae: LTXVAE | WanVAE) -> str:
    """The variant that uses this VAE: "lite" for LTX's family, "pro" for Wan's."""
    return "lite" if isinstance(vae, LTXVAE) else "pro"


def export_generator(generator: Generator, root: str | Path, variant: str) -> Path:
    """Write a generator under a checkpoint's root; returns its folder."""
    folder = Path(root) / GENERATOR_FOLDERS[variant]
    return _write(folder, WEIGHTS, generator, to_config(generator.config))


def export_vae(vae: LTXVAE | WanVAE, root: str | Path) -> Path:
    """Write a VAE under a checkpoint's root; returns its folder."""
    folder = Path(root) / VAE_FOLDERS[variant_of(vae)]
    if isinstance(vae, WanVAE):  # its sizes are read off its weights
        return _write(folder, WAN_WEIGHTS, vae, None)
    return _write(folder, WEIGHTS, vae, to_config(vae.config))


def export_audio_encoder(encoder: AudioEncoder, root: str | Path) -> Path:
    """Write an audio encoder under a checkpoint's root; returns its folder."""
    folder = Path(root) / AUDIO_ENCODER
    return _write(folder, AUDIO_WEIGHTS, encoder, to_config(encoder.config), "wav2vec2.")


def _write(
    folder: Path, name: str, network: nn.Module, config: dict | None, prefix: str = ""
) -> Path:
    """Weights in float32 and config.json, each of which is either whole or not there."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        prefix + key: tensor.detach().to("cpu", torch.float32).contiguous()
        for key, tensor in network.state_dict().items()
    }
    if config is not None:
        with replacing(folder / CONFIG) as file:
            file.write((json.dumps(config, indent=2) + "\n").encode())
    save_tensors(folder / name, tensors, {"format": "pt"})
    return folder
