"""Networks of a checkpoint folder: frozen ones that make data, and generators to train."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from ...checkpoint.components import open_audio_encoder, open_generator, open_vae
from ...checkpoint.layout import AUDIO_ENCODER, VAE_FOLDERS
from ...checkpoint.loading import load_audio_encoder
from ...errors import CheckpointError
from ...models.backend import Backend
from ...models.generator import Generator
from ...models.vae import VAE
from ...models.wav2vec2 import AudioEncoder
from .initialisation import trainable


@dataclass(frozen=True)
class FrozenNetworks:
    """The networks that a generator is trained with and that are not trained themselves.

    variant: "lite" or "pro", which follows from the VAE.
    """

    vae: VAE
    audio_encoder: AudioEncoder
    variant: str


def load_frozen_networks(
    root: str | Path, device: torch.device | str = "cpu", variant: str | None = None
) -> FrozenNetworks:
    """VAE and audio encoder of a checkpoint folder, in float32.

    `variant` None means the one whose VAE is there.

    Raises:
        CheckpointError: no VAE, or both and no variant; files that are damaged.
    """
    root, device = Path(root), torch.device(device)
    found = [name for name in ("lite", "pro") if (root / VAE_FOLDERS[name]).is_dir()]
    if variant is None and len(found) != 1:
        raise CheckpointError(
            f"{root} has the VAE of {' and '.join(found) or 'none'}; expected one, or say which "
            "variant to train."
        )
    variant = variant or found[0]
    backend = Backend(device=device)
    vae = open_vae(root / VAE_FOLDERS[variant]).load(backend, device=device, dtype=torch.float32)
    encoder = load_audio_encoder(open_audio_encoder(root / AUDIO_ENCODER), backend, device=device)
    return FrozenNetworks(vae, encoder, variant)


def load_trainable_generator(path: str | Path, device: torch.device | str = "cpu") -> Generator:
    """The generator of a Model_* folder or weight file, as a float32 copy that wants gradients."""
    return trainable(open_generator(Path(path)).load(), device)
