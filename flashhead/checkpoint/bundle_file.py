"""A whole checkpoint in one safetensors file: its format, and reading it (DESIGN §3.4).

Tensors have our networks' own keys after `generator.`, `vae.` or `audio_encoder.`. A float8 matrix
has its scales (one float32 for each output channel) under its key plus `_scale`. The metadata hold
the contents of the config.json files, so that the one file is all there is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..dtypes import FLOAT8, SAFETENSORS_NAMES
from ..errors import CheckpointError, shown
from ..files import read_object
from ..geometry import LONGEST_SEAM_FADE
from ..models.limits import THUMBNAIL_SIDE, CheckpointLimits
from ..variants import VARIANTS
from .components import FORMAT, PARTS
from .storage import SCALE, dequantize
from .weights import Component, Weights

VERSION = 1
_FLOAT8 = SAFETENSORS_NAMES[FLOAT8]
_LIMITS = "trained"


@dataclass(frozen=True)
class BundleHeader:
    """The contents of a bundle's metadata.

    dtype: the name of the dtype that it was converted to, such as "bf16". configs: the contents of
    config.json, by part. sources: the file that each part was converted from, as FOLDER/NAME.
    limits: what a small checkpoint is limited to.
    """

    variant: str
    dtype: str
    configs: Mapping[str, Mapping[str, Any]]
    sources: Mapping[str, str]
    limits: CheckpointLimits | None = None

    def to_metadata(self) -> dict[str, str]:
        """The header as safetensors metadata, in which all values are strings."""
        metadata = {
            "format": "pt",
            "bundle": FORMAT,
            "bundle_version": str(VERSION),
            "variant": self.variant,
            "dtype": self.dtype,
            **{f"{part}_config": json.dumps(config) for part, config in self.configs.items()},
            "sources": json.dumps(self.sources),
        }
        if self.limits:
            faces = [face.hex() for face in self.limits.faces]
            limits = {"size": self.limits.size, "faces": faces, "seam_fade": self.limits.seam_fade}
            metadata[_LIMITS] = json.dumps(limits)
        return metadata

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], where: str) -> BundleHeader:
        """The inverse of `to_metadata`. Raises `CheckpointError` for damaged or later metadata."""
        version = metadata.get("bundle_version", "")
        if not re.fullmatch(r"0*[1-9]\d{0,8}", version):
            raise CheckpointError(
                f"{where}: bundle_version is {shown(version)}; expected a number."
            )
        if int(version) > VERSION:
            raise CheckpointError(
                f"{where} is a bundle of format {version}, and this version of FlashHead reads "
                f"format {VERSION} at most; update it."
            )
        variant = metadata.get("variant")
        if variant not in VARIANTS:
            raise CheckpointError(
                f"{where} is a bundle of variant {shown(variant)}; expected one of "
                f"{', '.join(VARIANTS)}."
            )
        return cls(
            variant,
            metadata.get("dtype", "unknown"),
            {part: _object(metadata, f"{part}_config", where) for part in PARTS},
            {k: v for k, v in _object(metadata, "sources", where).items() if isinstance(v, str)},
            read_limits(_object(metadata, _LIMITS, where), where) if _LIMITS in metadata else None,
        )


def read_limits(value: Mapping[str, Any], where: str) -> CheckpointLimits:
    """A small checkpoint's limits from its bundle's metadata. Raises `CheckpointError`."""
    try:
        height, width = map(int, value["size"])
        faces = tuple(bytes.fromhex(face) for face in value["faces"])
        fade = int(value.get("seam_fade", 0))
        whole = {len(face) for face in faces} == {3 * THUMBNAIL_SIDE**2}
        if min(height, width) < 1 or not whole or fade not in range(LONGEST_SEAM_FADE + 1):
            raise ValueError("out of range")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(
            f"{where}: the bundle's '{_LIMITS}' metadata cannot be read; expected a frame size, "
            f"thumbnails of {THUMBNAIL_SIDE}x{THUMBNAIL_SIDE} pixels and a seam fade of 0 to "
            f"{LONGEST_SEAM_FADE} frames. Convert it anew."
        ) from error
    return CheckpointLimits((height, width), faces, fade)


def _object(metadata: Mapping[str, str], key: str, where: str) -> dict[str, Any]:
    try:
        return read_object(metadata[key])
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{where}: the bundle's metadata have no readable '{key}'; convert it anew."
        ) from error


class BundlePart(Weights):
    """One component's tensors in a bundle, by their keys without the prefix."""

    def __init__(self, file: Weights, name: str):
        self._file, self._prefix = file, f"{name}."
        entries = {
            key.removeprefix(self._prefix): entry
            for key, entry in file.entries.items()
            if key.startswith(self._prefix)
        }
        super().__init__(file.path, entries, {}, f"{file.where}, {name}")
        for key, entry in entries.items():
            if entry.dtype == _FLOAT8 and self.shapes.get(key + SCALE) != entry.shape[:1]:
                raise CheckpointError(
                    f"{self.where}: the float8 key '{key}' of shape {entry.shape} has no scales of "
                    f"shape {entry.shape[:1]}; convert the bundle anew."
                )

    def __getitem__(self, key: str) -> Tensor:
        stored = self._file[self._prefix + key]
        scale = key + SCALE
        return dequantize(stored, self[scale]) if stored.dtype == FLOAT8 else stored

    def release(self) -> None:
        self._file.release()


def open_bundle(file: Weights) -> tuple[BundleHeader, dict[str, Component[Any]]]:
    """A bundle's header, and its components by the names of `PARTS`; no weight is read.

    Raises `CheckpointError`.
    """
    header = BundleHeader.from_metadata(file.metadata, file.where)
    return header, {
        name: open_part(BundlePart(file, name), header.configs[name])
        for name, open_part in PARTS.items()
    }
