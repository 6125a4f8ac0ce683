"""What a checkpoint is, told from its headers: no weight is read (a .pth is memory-mapped)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from .backend import TORCH
from .components import AUDIO_WEIGHTS, open_audio_encoder, open_generator, open_vae
from .config import FPS, AudioEncoderConfig, ChunkGeometry, GeneratorConfig, LTXVAEConfig
from .errors import CheckpointError
from .layout import VAE_FILES, WEIGHTS, find_layout, find_variants
from .memory import working_memory
from .vae.ltx_layouts import is_ltx, is_original
from .vae.wan import WanVAEConfig
from .vae.wan_layouts import is_wan
from .weights import Component, TorchFile, WeightFile, build

_WEIGHT_FILES = (WEIGHTS, AUDIO_WEIGHTS, *VAE_FILES["VAE_Wan"])
_USUAL_SIZE = (512, 512)
_LABEL = 15


def _file(path: Path) -> WeightFile | TorchFile:
    return TorchFile(path) if path.suffix == ".pth" else WeightFile(path)


def open_component(path: Path) -> Component:
    """A weight file of any role, told by its keys.

    Raises `CheckpointError` for a file that is none of ours, is damaged or has a wrong shape.
    """
    keys = _file(path).shapes.keys()
    if "audio_proj.proj1.weight" in keys:
        return open_generator(path)
    if is_ltx(keys) or is_wan(keys):
        return open_vae(path)
    if any(key.startswith(("wav2vec2.", "feature_extractor.conv_layers.")) for key in keys):
        return open_audio_encoder(path)
    example = f" named like '{next(iter(keys))}'" if keys else ""
    raise CheckpointError(
        f"{path} holds {len(keys)} tensors{example}; expected a FlashHead generator, its VAE "
        "(LTX 0.9.0 or Wan 2.1) or wav2vec2."
    )


def _role(component: Component, file: WeightFile | TorchFile) -> tuple[str, str]:
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
        layout = "Lightricks'" if is_original(list(file.shapes)) else "diffusers'"
        family, widths = f"LTX 0.9.0 in {layout} layout", config.block_out_channels
    else:
        assert isinstance(config, WanVAEConfig)
        family, widths = "Wan 2.1", config.widths
    return "VAE", (
        f"{family}, widths {' '.join(map(str, widths))}, {config.latent_channels} latent "
        f"channels, stride {_times(config.stride)}"
    )


def describe(path: str | Path) -> str:
    """Several lines on a published folder, a component's folder or a weight file.

    A folder's variant that cannot be loaded is listed with the reason. Raises `CheckpointError`
    when there is nothing to describe.
    """
    path = Path(path)
    if not path.exists():
        raise CheckpointError(f"{path} does not exist.")
    if path.is_dir():
        variants = find_variants(path)
        if variants:
            lines = [f"{path}: published folder with {', '.join(variants)}"]
            for variant in variants:
                lines += ["", variant, *_indent(_describe_variant(path, variant))]
            return "\n".join(lines)
        inside = [path / name for name in _WEIGHT_FILES if (path / name).is_file()]
        if not inside:
            find_layout(path)  # says what a published folder would hold
        path = inside[0]
    component = open_component(path)
    lines = [f"{path}: {_role(component, _file(path))[0]}"]
    lines += _indent(_describe_component(component, path.name))
    if isinstance(component.config, GeneratorConfig):
        lines += _indent(_describe_chunks(component.config))
    return "\n".join([*lines, *_indent(_describe_weights([component]))])


def _describe_variant(root: Path, variant: str) -> Iterator[str]:
    try:
        layout = find_layout(root, variant)
        generator = open_generator(layout.generator)
        components = [generator, open_vae(layout.vae), open_audio_encoder(layout.audio_encoder)]
    except CheckpointError as error:
        yield _line("cannot load", str(error))
        return
    for component in components:
        yield from _describe_component(component, Path(component.where).parent.name)
    yield from _describe_chunks(generator.config)
    yield from _describe_weights(components)
    need = working_memory(generator.config, torch.bfloat16, _USUAL_SIZE)
    yield _line("", f"and about {_bytes(need)} for a chunk at 512x512 in bfloat16 (an estimate)")


def _describe_component(component: Component, name: str) -> Iterator[str]:
    file = _file(Path(component.where))
    role, summary = _role(component, file)
    elements = sum(math.prod(shape) for shape in file.shapes.values())
    stored = ", ".join(dict.fromkeys(file.dtype(key) for key in file.shapes))
    size = _bytes(file.path.stat().st_size)
    yield _line(
        role, f"{name}: {elements:,} elements in {len(file.shapes)} tensors, {stored}, {size}"
    )
    yield _line("", summary)


def _describe_chunks(config: GeneratorConfig) -> Iterator[str]:
    geometry = ChunkGeometry.of(config)
    new, high, wide = geometry.new_frames, *geometry.size_multiples
    yield _line(
        "chunk",
        f"{geometry.frames} frames: {geometry.motion_frames} of motion, {new} new "
        f"({new / FPS:.2f} s, {geometry.new_samples:,} samples at 16 kHz)",
    )
    yield _line("sizes", f"width in multiples of {wide}, height in multiples of {high}")
    if not any(side % step for side, step in zip(_USUAL_SIZE, (high, wide), strict=True)):
        latents = geometry.latent_shape(_USUAL_SIZE)
        tokens = math.prod(latents[1:]) // math.prod(config.patch_size)
        yield _line("", f"512x512 is {_times(latents)} latents, {tokens:,} tokens")


def _describe_weights(components: Iterable[Component]) -> Iterator[str]:
    encoder = rest = 0
    for component in components:
        network = build(lambda make=component.make: make(TORCH))
        used = sum(tensor.numel() for tensor in network.state_dict().values())
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
