"""From a checkpoint on disk to a `Bundle` of networks.

Every file is checked by its header, against the sizes it claims, before any weight is read.
"""

from collections.abc import Sequence
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
from ..variants import ADAPTER_REPOSITORY, REPOSITORY, VARIANTS
from . import components
from .adapters import adapt, find_lora
from .bundle_file import open_bundle
from .layout import (
    ADAPTER_FOLDERS,
    check_variant,
    find_adapter,
    find_layout,
    find_projection,
    vae_path,
)
from .weights import Component, open_weights

LoRAs = str | Path | Sequence[str | Path]
"""One LoRA or several, each PATH or PATH:STRENGTH."""


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

        But LTX's VAE, which may overflow in float16, is then in bfloat16 or float32 (`precision`).
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
    lora: LoRAs = (),
    audio_projection: str | Path | None = None,
) -> Checkpoint:
    """Find and check a checkpoint's files; arguments and errors as for `load_bundle`."""
    path = place_of(path)
    loras = [lora] if isinstance(lora, str | Path) else [*lora]
    file = open_weights(path) if path.is_file() else None
    role = "generator" if file is None else components.role_of(file)
    if file is not None and role == components.BUNDLE:
        check_variant(variant)
        header, parts = open_bundle(file)
        made = variant or header.variant
        if header.variant not in (made, VARIANTS[made].adapts):
            raise CheckpointError(
                f"{file.where} is a bundle of variant '{header.variant}', not '{variant}'."
            )
        if made != header.variant:
            loras, audio_projection = _adapter(made, path.parent, loras, audio_projection)
        if vae is not None:
            parts["vae"] = components.open_vae(vae_path(vae, path.absolute().parent, made))
        if audio_encoder is not None:
            parts["audio_encoder"] = components.open_audio_encoder(Path(audio_encoder))
        parts["generator"] = adapt(parts["generator"], loras, audio_projection)
        return Checkpoint(made, **parts, limits=header.limits)
    if role != "generator":
        raise CheckpointError(
            f"{path} is {components.ROLES[role]} alone; expected the folder of {REPOSITORY}, a "
            "one-file bundle, or a generator's weight file."
        )
    variant, generator, vae, audio_encoder = find_layout(
        path, variant, vae=vae, audio_encoder=audio_encoder
    )
    opened = components.open_generator(generator) if file is None else components.generator_in(file)
    if VARIANTS[variant].adapts:
        root = opened.file.path.absolute().parent.parent
        loras, audio_projection = _adapter(variant, root, loras, audio_projection)
    return Checkpoint(
        variant,
        adapt(opened, loras, audio_projection),
        components.open_vae(vae),
        components.open_audio_encoder(audio_encoder),
    )


def _adapter(
    variant: str, root: Path, loras: list[str | Path], projection: str | Path | None
) -> tuple[list[str | Path], str | Path]:
    """LoRAs and audio projection of a variant that is made by them: what is given, else what is in
    its folder in or beside a checkpoint's."""
    folder = find_adapter(root)
    if projection is None and folder is not None:
        projection, own = find_projection(folder), find_lora(folder)[0]
        given = [find_lora(lora)[0] for lora in loras]
        if not any(path.is_file() and path.samefile(own) for path in given):  # not twice
            loras = [folder, *loras]
    if not loras or projection is None:
        missing = "a LoRA" if not loras else "an audio projection"
        raise CheckpointError(
            f"Variant '{variant}' is {VARIANTS[variant].adapts} with a LoRA and an audio "
            f"projection of its own, and {missing} is missing; download {ADAPTER_REPOSITORY} into "
            f"{folder or root / ADAPTER_FOLDERS[0]}, or give both."
        )
    return loras, projection


def load_bundle(
    path: str | Path,
    variant: str | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    vae: str | Path | None = None,
    audio_encoder: str | Path | None = None,
    lora: LoRAs = (),
    audio_projection: str | Path | None = None,
) -> Bundle:
    """Load a checkpoint: `open_checkpoint`, then `Checkpoint.load`.

    Args:
        path: the published folder, a folder or weight file of its generator (see `find_layout`),
            a one-file bundle that `convert` wrote, or "pocket", the small one that comes along.
        variant: "lite", "pro", "pretrained" or "leaptalk" (Pro in one step); None means the only
            one there.
        device: where the networks live and compute.
        dtype: float32, bfloat16 or float16 for generator and VAE; the audio encoder stays in
            float32, and LTX's VAE is never in float16.
        vae: weight file or folder of the VAE, or "tiny" for the tiny autoencoder that comes with
            LeapTalk; None means the one that belongs to `path`.
        audio_encoder: folder or weight file of wav2vec2; None means the one that belongs to `path`.
        lora: PATH or PATH:STRENGTH, or several, to merge into the generator; see `open_lora`.
        audio_projection: file of weights for the generator's `audio_proj`; None means its own, and
            LeapTalk's for "leaptalk".

    Raises:
        CheckpointError: a file that is missing, truncated, foreign or of the wrong shape, or an
            unsupported dtype.
    """
    checkpoint = open_checkpoint(
        path,
        variant,
        vae=vae,
        audio_encoder=audio_encoder,
        lora=lora,
        audio_projection=audio_projection,
    )
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
