"""What changes a generator's weights as they are read: LoRA, and another audio projection."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from ..errors import CheckpointError, CheckpointWarning
from ..files import read_object
from ..models.generator import Generator
from .layout import LORA_CONFIG, LORA_WEIGHTS, find_projection
from .weights import Component, Weights, check_file, open_weights

LORA_PREFIXES = ("diffusion_model.", "base_model.model.")
"""What stands before a generator's keys in a LoRA: ComfyUI's name for it, and PEFT's."""
_PROJECTION = "audio_proj."
_PARTS = {".lora_A.weight": 0, ".lora_B.weight": 1, ".alpha": 2}


@dataclass(frozen=True)
class LoRA:
    """Low-rank matrices of a file: a matrix W becomes W + scale * B A.

    scales: by the matrix's key in the generator. names: of A and B in the file, by the same key.
    """

    file: Weights
    scales: Mapping[str, float]
    names: Mapping[str, tuple[str, str]]

    def add_to(self, key: str, weight: Tensor) -> Tensor:
        """A weight (out, in) with its low-rank matrix, in float32; itself where it has none."""
        if key not in self.names:
            return weight
        down, up = (self.file[name].float() for name in self.names[key])
        return weight.float().addmm(up, down, alpha=self.scales[key])


def open_lora(given: str | Path, generator: Component[Generator]) -> LoRA:
    """A LoRA for a generator, checked by its header.

    Args:
        given: PATH or PATH:STRENGTH. The path is a file as ComfyUI or PEFT has it, PEFT's folder
            (adapter_config.json and adapter_model.safetensors), or the folder with that as `lora`.
            A matrix's scale is the strength times alpha / rank; alpha is in the file or in PEFT's
            config beside it, else the rank.

    Raises:
        CheckpointError: no LoRA, one of a kind that is not read, or one of another generator.
    """
    path, strength = find_lora(given)
    file = open_weights(path)
    alpha = _peft_alpha(path.with_name(LORA_CONFIG))
    found: dict[str, dict[int, str]] = {}
    for name in file.shapes:
        key, part = _split(name)
        if part is None or key not in generator.shapes:
            raise CheckpointError(
                f"{file.where}: the key '{name}' is of no matrix of this generator; expected such "
                f"as '{LORA_PREFIXES[1]}blocks.0.self_attn.q.lora_A.weight'."
            )
        file.check_dtype(name)
        found.setdefault(key, {})[part] = name
    if not found:
        raise CheckpointError(f"{file.where} holds no tensors; expected a LoRA.")
    scales, names = {}, {}
    for key, parts in found.items():
        down, up = (file.shapes.get(parts.get(part, ""), ()) for part in (0, 1))
        shape, rank = generator.shapes[key], down[:1]
        if len(shape) != 2 or (down, up) != ((*rank, shape[1]), (shape[0], *rank)):
            raise CheckpointError(
                f"{file.where}: A and B for '{key}', a weight of shape {shape}, have the shapes "
                f"{down} and {up}; expected (rank, in) and (out, rank) for a matrix (out, in)."
            )
        own = file[parts[2]].flatten().tolist() if 2 in parts else [alpha or down[0]]
        if len(own) != 1 or not math.isfinite(own[0]):
            raise CheckpointError(f"{file.where}: alpha for '{key}' is {own}; expected a number.")
        scales[key] = strength * own[0] / max(1, down[0])
        names[key] = (parts[0], parts[1])
    return LoRA(file, scales, names)


def find_lora(given: str | Path) -> tuple[Path, float]:
    """The file that PATH[:STRENGTH] means, and the strength, 1 unless it is given."""
    path, strength = Path(given), 1.0
    start, colon, text = str(given).rpartition(":")
    if colon and not path.exists():
        try:
            path, strength = Path(start), float(text)
        except ValueError:  # a colon of the path's own
            path = Path(given)
    if not math.isfinite(strength):
        raise CheckpointError(f"The strength of the LoRA {path} is {text}; expected a number.")
    if path.is_dir():
        path = (path / "lora" if (path / "lora").is_dir() else path) / LORA_WEIGHTS
    return path, strength


def _split(name: str) -> tuple[str, int | None]:
    """A LoRA's key -> the generator's key, and which part it is; None for none that is read."""
    for prefix in LORA_PREFIXES:
        for suffix, part in _PARTS.items():
            if name.startswith(prefix) and name.endswith(suffix):
                return name[len(prefix) : -len(suffix)] + ".weight", part
    return name, None


def _peft_alpha(path: Path) -> float | None:
    """lora_alpha of PEFT's config; None where there is no config."""
    if not path.is_file():
        return None
    check_file(path)
    try:
        config = read_object(path.read_text(encoding="utf-8-sig"))
        alpha = float(config["lora_alpha"])
        if not 0 < alpha < math.inf:
            raise ValueError("out of range")
        unread = [key for key in ("use_rslora", "use_dora", "alpha_pattern") if config.get(key)]
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise CheckpointError(
            f"{path} has no readable lora_alpha; expected PEFT's config of a LoRA."
        ) from error
    if unread:
        raise CheckpointError(f"{path} asks for {unread[0]}, which is not read; merge it first.")
    return alpha


def adapt(
    generator: Component[Generator],
    loras: Sequence[str | Path] = (),
    audio_projection: str | Path | None = None,
) -> Component[Generator]:
    """A generator whose weights are read with LoRAs merged in, in float32, and with another audio
    projection in the place of its own.

    loras: see `open_lora`. audio_projection: a file of the projection's weights alone.

    Raises:
        CheckpointError: files that do not fit the generator.
    """
    opened = [open_lora(lora, generator) for lora in loras]
    files, replaced = [lora.file for lora in opened], {}
    if audio_projection is not None:
        projection = open_weights(Path(audio_projection))
        files.append(projection)
        replaced = _projection(projection, generator)
    else:
        for lora in opened:
            _warn_of_lone(lora)

    def read(key: str) -> Tensor:
        weight = replaced.get(key, generator.read)(key)
        for lora in opened:
            weight = lora.add_to(key, weight)
        return weight

    return replace(generator, read=read, adapters=(*generator.adapters, *files))


def _projection(
    file: Weights, generator: Component[Generator]
) -> dict[str, Callable[[str], Tensor]]:
    """What reads an audio projection's weights, by the generator's keys; it is checked here."""
    names = {_PROJECTION + name.removeprefix(_PROJECTION): name for name in file.shapes}
    own = {key for key in generator.plain.state_dict() if key.startswith(_PROJECTION)}
    for key in sorted(own | names.keys()):
        found = file.shapes[names[key]] if key in names else "missing"
        expected = generator.shapes[key] if key in own else "no such key"
        if found != expected:
            raise CheckpointError(
                f"{file.where}: '{key}' of the audio projection is {found}; expected {expected}."
            )
        file.check_dtype(names[key])
    return dict.fromkeys(own, lambda key: file[names[key]])


def _warn_of_lone(lora: LoRA) -> None:
    """LeapTalk's LoRA without its audio projection is half of it."""
    folder = lora.file.path.absolute().parent
    found = find_projection(folder) or find_projection(folder.parent)
    if found is not None:
        warnings.warn(
            f"The LoRA {lora.file.path} was trained with an audio projection of its own, {found}, "
            "far from the published one; without it lips do not follow. Give it too, or choose "
            "variant leaptalk.",
            CheckpointWarning,
            stacklevel=2,
        )
