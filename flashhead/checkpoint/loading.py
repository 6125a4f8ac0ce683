"""From a checkpoint on disk to a `Bundle` of networks.

Every file is checked by its header, against the sizes it claims, before any weight is read.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..dtypes import COMPUTE_DTYPES
from ..errors import CheckpointError
from ..geometry import ChunkGeometry
from ..models.backend import TORCH, Backend
from ..models.bundle import Bundle, check_encoder, check_family
from ..models.devices import AUDIO_DTYPE, precision
from ..models.generator import Generator
from ..models.limits import CheckpointLimits, native_size
from ..models.wav2vec2 import AudioEncoder
from ..pocket import place_of
from ..variants import REPOSITORY
from . import components
from .bundle_file import open_bundle
from .layout import check_variant, find_layout
from .weights import Component, open_weights


@dataclass(frozen=True)
class Checkpoint:
    """A variant's three components, their headers checked and no weight read.

    limits: what a small checkpoint is limited to; None for the published ones. Raises
    `CheckpointError` for components that do not belong together.
    """

    variant: str
    generator: Component[Generator]
    vae: components.VAEComponent
    audio_encoder: Component[AudioEncoder]
    limits: CheckpointLimits | None = None

    def __post_init__(self) -> None:
        check_family(self.generator.config, self.vae.config)
        check_encoder(self.generator.config, self.audio_encoder.config)

    @property
    def native_size(self) -> tuple[int, int]:
        """(height, width) in pixels that it was trained at."""
        return native_size(self.limits)

    @property
    def parts(self) -> dict[str, Component[Any]]:
        """The components by their names in a bundle."""
        return {name: getattr(self, name) for name in components.PARTS}

    @property
    def geometry(self) -> ChunkGeometry:
        return self.generator.config.geometry

    def load(
        self, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> Bundle:
        """The networks with their weights, on `device`, generator and VAE in `dtype`.

        But LTX's VAE, which overflows in float16, is then in bfloat16 or float32 (`precision`).
        Files are memory-mapped: a weight that needs no conversion stays in its file, and of the
        others one at a time is held twice. Raises `CheckpointError` for a dtype that is neither
        float32 nor bfloat16 nor float16.
        """
        if dtype not in COMPUTE_DTYPES.values():
            raise CheckpointError(
                f"The dtype {dtype} is not supported; expected float32, bfloat16 or float16."
            )
        device = torch.device(device)
        backend = Backend(dtype=dtype, device=device)
        vae_dtype = precision(device, self.vae.config, dtype).vae
        vae_backend = replace(backend, dtype=vae_dtype)
        return Bundle(
            variant=self.variant,
            generator=self.generator.load(backend, device=device, dtype=dtype),
            vae=self.vae.load(vae_backend, device=device, dtype=vae_dtype),
            audio_encoder=load_audio_encoder(self.audio_encoder, backend, device=device),
            limits=self.limits,
        )


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
    role = "generator" if file is None else components.role_of(file)
    if file is not None and role == components.BUNDLE:
        check_variant(variant)
        header, parts = open_bundle(file)
        if variant not in (None, header.variant):
            raise CheckpointError(
                f"{file.where} is a bundle of variant '{header.variant}', not '{variant}'."
            )
        if vae is not None:
            parts["vae"] = components.open_vae(Path(vae))
        if audio_encoder is not None:
            parts["audio_encoder"] = components.open_audio_encoder(Path(audio_encoder))
        return Checkpoint(header.variant, **parts, limits=header.limits)
    if role != "generator":
        raise CheckpointError(
            f"{path} is {components.ROLES[role]} alone; expected the folder of {REPOSITORY}, a "
            "one-file bundle, or a generator's weight file."
        )
    variant, generator, vae, audio_encoder = find_layout(
        path, variant, vae=vae, audio_encoder=audio_encoder
    )
    return Checkpoint(
        variant,
        components.open_generator(generator) if file is None else components.generator_in(file),
        components.open_vae(vae),
        components.open_audio_encoder(audio_encoder),
    )


def load_bundle(
    path: str | Path,
    variant: str | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    vae: str | Path | None = None,
    audio_encoder: str | Path | None = None,
) -> Bundle:
    """Load a checkpoint: `open_checkpoint`, then `Checkpoint.load`.

    Args:
        path: the published folder, a folder or weight file of its generator (see `find_layout`),
            a one-file bundle that `convert` wrote, or "pocket", the small one that comes along.
        variant: "lite", "pro" or "pretrained"; None means the only one there.
        device: where the networks live and compute.
        dtype: float32, bfloat16 or float16 for generator and VAE; the audio encoder stays in
            float32, and LTX's VAE is never in float16.
        vae: weight file or folder of the VAE; None means the one that belongs to `path`.
        audio_encoder: folder or weight file of wav2vec2; None means the one that belongs to `path`.

    Raises:
        CheckpointError: a file that is missing, truncated, foreign or of the wrong shape, or an
            unsupported dtype.
    """
    checkpoint = open_checkpoint(path, variant, vae=vae, audio_encoder=audio_encoder)
    return checkpoint.load(device, dtype)


def load_audio_encoder(
    component: Component[AudioEncoder],
    backend: Backend = TORCH,
    *,
    device: torch.device | str = "cpu",
) -> AudioEncoder:
    """The audio encoder, which is kept and run in float32 whatever the others' dtype."""
    backend = replace(backend, dtype=AUDIO_DTYPE)
    return component.load(backend, device=device, dtype=AUDIO_DTYPE)
