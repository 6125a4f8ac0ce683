"""A description of a checkpoint from its headers. No weight is read, but in a .pth of torch's older
format, which cannot be mapped."""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from ..dtypes import torch_name
from ..errors import CheckpointError
from ..geometry import FPS
from ..models.config import (
    AudioEncoderConfig,
    CheckpointConfigs,
    GeneratorConfig,
    LTXVAEConfig,
    TinyVAEConfig,
    WanVAEConfig,
)
from ..models.devices import precision
from ..models.limits import PUBLISHED_SIZE
from ..models.memory import working_memory
from ..pocket import place_of
from .bundle_file import open_bundle
from .components import BUNDLE, PARTS, role_of
from .layout import (
    AUDIO_WEIGHTS,
    TINY_VAE_FILES,
    VAE_FILES,
    WEIGHTS,
    find_layout,
    find_snapshot,
    find_variants,
)
from .loading import Checkpoint, open_checkpoint
from .ltx_file import is_original
from .published import compare, sha256_of
from .weights import Component, open_weights

Row = tuple[str, str]
_WEIGHT_FILES = (WEIGHTS, AUDIO_WEIGHTS, *VAE_FILES["VAE_Wan"], *TINY_VAE_FILES)


def describe(path: str | Path, *, sha256: bool = False) -> str:
    """Several lines on a published folder, a component's folder, a weight file or a bundle.

    A folder's variant that cannot be loaded is listed with the reason. `sha256` adds the checksum
    of each weight file, for which it is read whole, and whether it is the published one's. Raises
    `CheckpointError` when there is nothing to describe.
    """
    path = place_of(path)
    if not path.exists():
        raise CheckpointError(f"{path} does not exist.")
    path = find_snapshot(path)
    variants = find_variants(path)
    if variants:
        lines = [f"{path}: published folder with {', '.join(variants)}"]
        for variant in variants:
            lines += ["", variant, *_table(_variant(path, variant, sha256))]
        return "\n".join(lines)
    if path.is_dir():
        inside = [path / name for name in _WEIGHT_FILES if (path / name).is_file()]
        if not inside:
            find_layout(path)  # raises an error that says what a published folder would hold
        path = inside[0]
    file = open_weights(path)
    role = role_of(file)
    rows: list[Row] = []
    if role == BUNDLE:
        header, parts = open_bundle(file)
        checkpoint = Checkpoint(header.variant, **parts, limits=header.limits)
        size = _bytes(path.stat().st_size)
        title = f"one-file bundle of {header.variant}, stored as {header.dtype}, {size}"
        for name, part in parts.items():
            rows += _component(part, f"from {header.sources.get(name, 'an unknown file')}")
        rows += _whole(checkpoint)
    else:
        component = PARTS[role](file, None)
        title = _summary(component)[0]
        rows += [*_component(component, path.name), *_totals([component])]
    if sha256:
        rows.append(_checksum(path))
    return "\n".join([f"{path}: {title}", *_table(rows)])


def _table(rows: Iterable[Row]) -> list[str]:
    return [f"  {label:15}{text}" for label, text in rows]


def _variant(root: Path, variant: str, sha256: bool) -> Iterator[Row]:
    try:
        checkpoint = open_checkpoint(root, variant)
    except CheckpointError as error:
        yield "cannot load", str(error)
        return
    for component in checkpoint.parts.values():
        yield from _component(component, component.file.path.parent.name)
        for file in component.adapters:
            yield "", f"changed by {file.path}"
        if sha256:
            yield from (_checksum(file.path) for file in component.files)
    yield from _whole(checkpoint)


def _whole(checkpoint: Checkpoint) -> Iterator[Row]:
    yield from _totals(checkpoint.parts.values())
    height, width = checkpoint.native_size
    sizes = CheckpointConfigs(*(part.config for part in checkpoint.parts.values()))
    need = {
        torch_name(dtype): working_memory(
            sizes, precision(torch.device("cpu"), sizes.vae, dtype), (height, width)
        )
        for dtype in (torch.float32, torch.bfloat16)
    }
    told = ", ".join(f"{_bytes(count)} in {name}" for name, count in need.items())
    yield "", f"and a chunk at {width}x{height} about {told}"
    if checkpoint.limits:
        yield "trained", f"at {width}x{height} alone, on drawn faces"


def _component(component: Component[Any], name: str) -> Iterator[Row]:
    """What is stored of a component, all of its file's tensors counted, and its sizes."""
    entries = component.file.entries.values()
    elements = sum(math.prod(entry.shape) for entry in entries)
    stored: dict[str, int] = {}
    for entry in entries:
        stored[entry.dtype] = stored.get(entry.dtype, 0) + entry.nbytes
    sizes = " + ".join(f"{dtype} {_bytes(size)}" for dtype, size in stored.items())
    label, summary = _summary(component)
    yield label, f"{name}: {elements:,} elements in {len(entries)} tensors, {sizes}"
    yield "", summary


def _summary(component: Component[Any]) -> tuple[str, str]:
    """What a component is, and its sizes in words."""
    config = component.config
    if isinstance(config, GeneratorConfig):
        return "generator", (
            f"dim {config.dim}, {config.num_layers} layers, {config.num_heads} heads, FFN "
            f"{config.ffn_dim}, {config.out_dim} latent channels, patch {_times(config.patch_size)}"
        )
    if isinstance(config, AudioEncoderConfig):
        words = f"wav2vec2, {config.num_hidden_layers} layers of {config.hidden_size}"
        return "audio encoder", words
    if isinstance(config, LTXVAEConfig):
        layout = "Lightricks'" if is_original(component.file.shapes) else "diffusers'"
        family, widths = f"LTX 0.9.0 in {layout} layout", config.block_out_channels
    elif isinstance(config, TinyVAEConfig):
        family, widths = "tiny (TAEHV)", config.widths
    else:
        assert isinstance(config, WanVAEConfig)
        family, widths = "Wan 2.1", config.widths
    return "VAE", (
        f"{family}, widths {' '.join(map(str, widths))}, {config.latent_channels} latent "
        f"channels, stride {_times(config.stride)}"
    )


def _totals(components: Iterable[Component[Any]]) -> Iterator[Row]:
    """A generator's chunks, and the memory that the weights in use take, by dtype."""
    encoder = rest = 0
    for component in components:
        used = sum(tensor.numel() for tensor in component.plain.state_dict().values())
        if isinstance(component.config, AudioEncoderConfig):
            encoder += used
        else:
            rest += used
        if isinstance(component.config, GeneratorConfig):
            yield from _chunks(component.config)
    weights = f"weights take {_bytes(4 * (encoder + rest))} in float32"
    if rest:
        weights += f", {_bytes(4 * encoder + 2 * rest)} in bfloat16 or float16"
    yield "memory", weights + (" (the audio encoder always float32)" if encoder else "")


def _chunks(config: GeneratorConfig) -> Iterator[Row]:
    geometry = config.geometry
    new, high, wide = geometry.new_frames, *geometry.size_multiples
    yield (
        "chunk",
        f"{geometry.frames} frames: {geometry.motion_frames} of motion, {new} new "
        f"({new / FPS:.2f} s, {geometry.new_samples:,} samples at 16 kHz)",
    )
    yield "sizes", f"width in multiples of {wide}, height in multiples of {high}"
    if not any(side % step for side, step in zip(PUBLISHED_SIZE, (high, wide), strict=True)):
        latents = geometry.latent_shape(PUBLISHED_SIZE)
        tokens = math.prod(latents[1:]) // math.prod(config.patch_size)
        yield "", f"512x512 is {_times(latents)} latents, {tokens:,} tokens"


def _checksum(path: Path) -> Row:
    digest, name = sha256_of(path), "/".join(path.absolute().parts[-2:])
    verdict = compare(name, path.stat().st_size, digest)
    return "sha256", "  ".join(filter(None, (digest, path.name, verdict)))


def _times(numbers: tuple[int, ...]) -> str:
    return "x".join(map(str, numbers))


def _bytes(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.2f} GB"
