"""From a checkpoint on disk to a `Bundle` of networks.

Every file is checked by its header, against the sizes it claims, before any weight is read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from .audio_encoder import AudioEncoder
from .backend import TORCH, Backend
from .components import open_audio_encoder, open_generator, open_vae
from .config import ChunkGeometry, GeneratorConfig
from .errors import CheckpointError
from .generator import Generator
from .layout import find_layout
from .vae import VAE
from .weights import Component

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Bundle:
    """Everything that one variant needs: three networks."""

    variant: str
    generator: Generator
    vae: VAE
    audio_encoder: AudioEncoder

    @property
    def device(self) -> torch.device:
        """Where the generator computes."""
        return self.generator.backend.device or torch.device("cpu")

    @property
    def geometry(self) -> ChunkGeometry:
        return ChunkGeometry.of(self.generator.config)

    @property
    def dtype(self) -> torch.dtype:
        return self.generator.backend.dtype


@dataclass(frozen=True)
class Checkpoint:
    """A variant's three components, checked, with no weight read."""

    variant: str
    generator: Component
    vae: Component
    audio_encoder: Component

    @property
    def geometry(self) -> ChunkGeometry:
        return ChunkGeometry.of(self.generator.config)


def open_checkpoint(path: str | Path, variant: str | None = None) -> Checkpoint:
    """Find and check a checkpoint's files; arguments and errors as for `load_bundle`."""
    layout = find_layout(path, variant)
    checkpoint = Checkpoint(
        layout.variant,
        open_generator(layout.generator),
        open_vae(layout.vae),
        open_audio_encoder(layout.audio_encoder),
    )
    check_family(checkpoint.generator.config, checkpoint.vae.config)
    return checkpoint


def load_bundle(
    path: str | Path,
    variant: str | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Bundle:
    """Load a checkpoint.

    Args:
        path: the published folder (see `find_layout`).
        variant: "lite", "pro" or "pretrained"; None means the only one there.
        device: where the networks live and compute.
        dtype: float32, bfloat16 or float16 for generator and VAE; the audio encoder stays in
            float32.

    Raises:
        CheckpointError: a file that is missing, truncated, foreign or of the wrong shape.
    """
    if dtype not in DTYPES:
        raise CheckpointError(
            f"The dtype {dtype} is not supported; expected float32, bfloat16 or float16."
        )
    checkpoint = open_checkpoint(path, variant)
    device = torch.device(device)
    backend = Backend(dtype=dtype, device=device)
    return Bundle(
        variant=checkpoint.variant,
        generator=checkpoint.generator.load(backend, device=device, dtype=dtype),
        vae=checkpoint.vae.load(backend, device=device, dtype=dtype),
        audio_encoder=load_audio_encoder(checkpoint.audio_encoder, backend, device=device),
    )


def load_audio_encoder(
    component: Component, backend: Backend = TORCH, *, device: torch.device | str = "cpu"
) -> AudioEncoder:
    """The audio encoder, which is kept and run in float32 whatever the others' dtype."""
    backend = replace(backend, dtype=torch.float32)
    return component.load(backend, device=device, dtype=torch.float32)


def check_family(config: GeneratorConfig, vae) -> None:
    """Raise `CheckpointError` unless a VAE makes the latents that a generator was trained on."""
    if (vae.latent_channels, tuple(vae.stride)) != (config.out_dim, config.vae_stride):
        raise CheckpointError(
            f"The VAE has {vae.latent_channels} latent channels at stride {tuple(vae.stride)}; "
            f"this generator needs {config.out_dim} at stride {config.vae_stride}: it is the VAE "
            "of the other variant (Lite uses LTX 0.9.0's, Pro uses Wan 2.1's)."
        )
