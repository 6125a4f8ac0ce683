"""From a checkpoint on disk to a `Bundle` of networks.

Every file is checked by its header, against the sizes it claims, before any weight is read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..errors import CheckpointError
from ..geometry import ChunkGeometry
from ..models.backend import TORCH, Backend
from ..models.bundle import Bundle, check_encoder, check_family
from ..models.limits import CheckpointLimits, native_size
from ..models.wav2vec2 import AudioEncoder
from ..pocket import place_of
from ..variants import REPOSITORY
from .bundle_file import open_bundle
from .components import open_audio_encoder, open_generator, open_vae
from .layout import check_variant, find_layout
from .roles import BUNDLE, GENERATOR, role_of
from .weights import Component, Weights, open_weights

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Checkpoint:
    """A variant's three components, checked, with no weight read."""

    variant: str
    generator: Component
    vae: Component
    audio_encoder: Component
    limits: CheckpointLimits | None = None

    @property
    def native_size(self) -> tuple[int, int]:
        """(height, width) of the frames that it makes best."""
        return native_size(self.limits)

    @property
    def components(self) -> tuple[Component, ...]:
        return (self.generator, self.vae, self.audio_encoder)

    @property
    def geometry(self) -> ChunkGeometry:
        return self.generator.config.geometry


def open_checkpoint(
    path: str | Path,
    variant: str | None = None,
    *,
    vae: str | Path | None = None,
    audio_encoder: str | Path | None = None,
) -> Checkpoint:
    """Find and check a checkpoint's files; arguments and errors as for `load_bundle`."""
    path = place_of(path)
    file = open_weights(path) if path.is_file() else None
    if file is None or role_of(file) == GENERATOR:
        layout = find_layout(path, variant, vae=vae, audio_encoder=audio_encoder)
        checkpoint = Checkpoint(
            layout.variant,
            open_generator(layout.generator),
            open_vae(layout.vae),
            open_audio_encoder(layout.audio_encoder),
        )
    elif role_of(file) == BUNDLE:
        checkpoint = _open_bundle(file, variant)
        if vae is not None:
            checkpoint = replace(checkpoint, vae=open_vae(Path(vae)))
        if audio_encoder is not None:
            other = open_audio_encoder(Path(audio_encoder))
            checkpoint = replace(checkpoint, audio_encoder=other)
    else:
        raise CheckpointError(
            f"{path} is {role_of(file)} alone; expected the folder of {REPOSITORY}, a one-file "
            "bundle, or a generator's weight file."
        )
    check_family(checkpoint.generator.config, checkpoint.vae.config)
    check_encoder(checkpoint.generator.config, checkpoint.audio_encoder.config)
    return checkpoint


def _open_bundle(file: Weights, variant: str | None) -> Checkpoint:
    check_variant(variant)
    header, parts = open_bundle(file)
    if variant not in (None, header.variant):
        raise CheckpointError(
            f"{file.where} is a bundle of variant '{header.variant}', not '{variant}'."
        )
    return Checkpoint(header.variant, **parts, limits=header.limits)


def load_bundle(
    path: str | Path,
    variant: str | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    vae: str | Path | None = None,
    audio_encoder: str | Path | None = None,
) -> Bundle:
    """Load a checkpoint.

    Files are memory-mapped: a weight that needs no conversion stays in its file, and of the others
    one at a time is held twice.

    Args:
        path: the published folder, a folder or weight file of its generator (see `find_layout`),
            a one-file bundle that `convert` wrote, or "pocket", the small one that comes along.
        variant: "lite", "pro" or "pretrained"; None means the only one there.
        device: where the networks live and compute.
        dtype: float32, bfloat16 or float16 for generator and VAE; the audio encoder stays in
            float32.
        vae: weight file or folder of the VAE; None means the one that belongs to `path`.
        audio_encoder: folder or weight file of wav2vec2; None means the one that belongs to `path`.

    Raises:
        CheckpointError: a file that is missing, truncated, foreign or of the wrong shape.
    """
    if dtype not in DTYPES:
        raise CheckpointError(
            f"The dtype {dtype} is not supported; expected float32, bfloat16 or float16."
        )
    checkpoint = open_checkpoint(path, variant, vae=vae, audio_encoder=audio_encoder)
    device = torch.device(device)
    backend = Backend(dtype=dtype, device=device)
    return Bundle(
        variant=checkpoint.variant,
        generator=checkpoint.generator.load(backend, device=device, dtype=dtype),
        vae=checkpoint.vae.load(backend, device=device, dtype=dtype),
        audio_encoder=load_audio_encoder(checkpoint.audio_encoder, backend, device=device),
        limits=checkpoint.limits,
    )


def load_audio_encoder(
    component: Component, backend: Backend = TORCH, *, device: torch.device | str = "cpu"
) -> AudioEncoder:
    """The audio encoder, which is kept and run in float32 whatever the others' dtype."""
    backend = replace(backend, dtype=torch.float32)
    return component.load(backend, device=device, dtype=torch.float32)
