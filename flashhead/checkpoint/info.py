"""What a checkpoint is, told from its headers: no weight is read (a .pth is memory-mapped)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import torch

from ..errors import CheckpointError
from ..geometry import FPS
from ..models.config import AudioEncoderConfig, GeneratorConfig, LTXVAEConfig, WanVAEConfig
from ..models.limits import PUBLISHED_SIZE
from ..models.memory import working_memory
from ..pocket import place_of
from .bundle_file import PARTS, BundleHeader
from .components import open_audio_encoder, open_generator, open_vae
from .layout import AUDIO_WEIGHTS, VAE_FILES, WEIGHTS, find_layout, find_snapshot, find_variants
from .loading import Checkpoint, open_checkpoint
from .ltx_file import is_original
from .roles import AUDIO_ENCODER, BUNDLE, GENERATOR, VAE, role_of
from .weights import Component, open_weights

_WEIGHT_FILES = (WEIGHTS, AUDIO_WEIGHTS, *VAE_FILES["VAE_Wan"])
_LABEL = 15


def open_component(path: Path) -> Component:
    """A weight file of any role but a bundle, told by its keys.

    Raises `CheckpointError` for a file that is none of ours, is damaged or has a wrong shape.
    """
    openers = {GENERATOR: open_generator, VAE: open_vae, AUDIO_ENCODER: open_audio_encoder}
    return openers[role_of(open_weights(path))](path)


def _role(component: Component) -> tuple[str, str]:
    """What a component is, and its sizes in words."""
    config = component.config
    if isinstance(config, GeneratorConfig):
        return "generator", (
            f"dim {config.dim}, {config.num_layers} layers, {config.num_heads} heads, FFN "
            f"{config.ffn_dim}, {config.out_dim} latent channels, patch {_times(config.patch_size)}"
        )
    if isinstance(config, AudioEncoderConfig):
        return (
            "audio encoder",
            f"wav2vec2, {config.num_hidden_layers} layers of {config.hidden_size}",
        )
    if isinstance(config, LTXVAEConfig):
        layout = "Lightricks'" if is_original(list(component.file.shapes)) else "diffusers'"
        family, widths = f"LTX 0.9.0 in {layout} layout", config.block_out_channels
    else:
        assert isinstance(config, WanVAEConfig)
        family, widths = "Wan 2.1", config.widths
    return "VAE", (
        f"{family}, widths {' '.join(map(str, widths))}, {config.latent_channels} latent "
        f"channels, stride {_times(config.stride)}"
    )


def describe(path: str | Path, *, sha256: bool = False) -> str:
    """Several lines on a published folder, a component's folder, a weight file or a bundle.

    A folder's variant that cannot be loaded is listed with the reason. `sha256` adds the checksum
    of each weight file, for which it is read whole. Raises `CheckpointError` when there is nothing
    to describe.
    """
    path = place_of(path)
    if not path.exists():
        raise CheckpointError(f"{path} does not exist.")
    path = find_snapshot(path)
    if path.is_dir():
        variants = find_variants(path)
        if variants:
            lines = [f"{path}: published folder with {', '.join(variants)}"]
            for variant in variants:
                lines += ["", variant, *_indent(_describe_variant(path, variant, sha256))]
            return "\n".join(lines)
        inside = [path / name for name in _WEIGHT_FILES if (path / name).is_file()]
        if not inside:
            find_layout(path)  # says what a published folder would hold
        path = inside[0]
    file = open_weights(path)
    if role_of(file) == BUNDLE:
        checkpoint = open_checkpoint(path)
        header = BundleHeader.from_metadata(file.metadata, file.where)
        lines = [f"{path}: {_bundle_title(header, path)}"]
        lines += _indent(_describe_bundle(checkpoint, header))
    else:
        component = open_component(path)
        lines = [f"{path}: {_role(component)[0]}"]
        lines += _indent(_describe_component(component, path.name))
        if isinstance(component.config, GeneratorConfig):
            lines += _indent(_describe_chunks(component.config))
        lines += _indent(_describe_weights([component]))
    if sha256:
        lines += _indent(_checksum(path))
    return "\n".join(lines)


def _bundle_title(header: BundleHeader, path: Path) -> str:
    return (
        f"one-file bundle of {header.variant}, stored as {header.dtype}, "
        f"{_bytes(path.stat().st_size)}"
    )


def _describe_bundle(checkpoint: Checkpoint, header: BundleHeader) -> Iterator[str]:
    for name in PARTS:
        source = header.sources.get(name, "an unknown file")
        yield from _describe_component(getattr(checkpoint, name), f"from {source}")
    yield from _describe_whole(checkpoint)


def _describe_variant(root: Path, variant: str, sha256: bool) -> Iterator[str]:
    try:
        checkpoint = open_checkpoint(root, variant)
    except CheckpointError as error:
        yield _line("cannot load", str(error))
        return
    for component in checkpoint.components:
        yield from _describe_component(component, component.file.path.parent.name)
        if sha256:
            yield from _checksum(component.file.path)
    yield from _describe_whole(checkpoint)


def _describe_whole(checkpoint: Checkpoint) -> Iterator[str]:
    config = checkpoint.generator.config
    yield from _describe_chunks(config)
    yield from _describe_weights(checkpoint.components)
    height, width = checkpoint.native_size
    need = working_memory(config, torch.bfloat16, (height, width))
    yield _line(
        "", f"and about {_bytes(need)} for a chunk at {width}x{height} in bfloat16 (an estimate)"
    )
    if checkpoint.limits:
        yield _line("trained", f"at {width}x{height} alone, on drawn faces")


def _describe_component(component: Component, name: str) -> Iterator[str]:
    file = component.file
    role, summary = _role(component)
    elements = sum(math.prod(shape) for shape in file.shapes.values())
    stored: dict[str, int] = {}
    for key in file.shapes:
        stored[file.dtype(key)] = stored.get(file.dtype(key), 0) + file.nbytes(key)
    sizes = " + ".join(f"{dtype} {_bytes(size)}" for dtype, size in stored.items())
    yield _line(role, f"{name}: {elements:,} elements in {len(file.shapes)} tensors, {sizes}")
    yield _line("", summary)


def _checksum(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        yield _line("sha256", f"{_sha256(file)}  {path.name}")


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _describe_chunks(config: GeneratorConfig) -> Iterator[str]:
    geometry = config.geometry
    new, high, wide = geometry.new_frames, *geometry.size_multiples
    yield _line(
        "chunk",
        f"{geometry.frames} frames: {geometry.motion_frames} of motion, {new} new "
        f"({new / FPS:.2f} s, {geometry.new_samples:,} samples at 16 kHz)",
    )
    yield _line("sizes", f"width in multiples of {wide}, height in multiples of {high}")
    if not any(side % step for side, step in zip(PUBLISHED_SIZE, (high, wide), strict=True)):
        latents = geometry.latent_shape(PUBLISHED_SIZE)
        tokens = math.prod(latents[1:]) // math.prod(config.patch_size)
        yield _line("", f"512x512 is {_times(latents)} latents, {tokens:,} tokens")


def _describe_weights(components: Iterable[Component]) -> Iterator[str]:
    encoder = rest = 0
    for component in components:
        used = sum(tensor.numel() for tensor in component.plain.state_dict().values())
        if isinstance(component.config, AudioEncoderConfig):
            encoder += used
        else:
            rest += used
    weights = f"weights take {_bytes(4 * (encoder + rest))} in float32"
    if rest:
        weights += f", {_bytes(4 * encoder + 2 * rest)} in bfloat16 or float16"
    yield _line("memory", weights + (" (the audio encoder always float32)" if encoder else ""))


def _line(label: str, text: str) -> str:
    return f"{label:{_LABEL}}{text}"


def _indent(lines: Iterator[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _times(numbers: tuple[int, ...]) -> str:
    return "x".join(map(str, numbers))


def _bytes(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.2f} GB"
