"""Random checkpoints in the published folder layout, at any size.

The miniatures are for tests and demonstrations without the real weights, the published sizes for
benchmarks. The keys are those of our own networks, so they are always what `load_bundle` reads.
"""

import hashlib
import io
import json
import math
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.serialization import MAGIC_NUMBER, PROTOCOL_VERSION

from .checkpoint import layout as places
from .checkpoint.configs import to_config
from .checkpoint.storage import lay_out, write_safetensors
from .checkpoint.weights import TORCH_SUFFIXES
from .models.backend import build
from .models.bundle import make_vae
from .models.config import (
    LTX_SCALING,
    WAV2VEC2_BASE,
    CheckpointConfigs,
    GeneratorConfig,
    LTXVAEConfig,
    TinyVAEConfig,
    WanVAEConfig,
)
from .models.config import PUBLISHED_LITE as PUBLISHED_LITE
from .models.config import PUBLISHED_PRO as PUBLISHED_PRO
from .models.generator import Generator
from .models.wav2vec2 import AudioEncoder

Shapes = dict[str, tuple[int, ...]]

_POSITION = "wav2vec2.encoder.pos_conv_embed.conv.weight"
_TEXT_DIM = 4096


_SMALL_GENERATOR = dict(
    dim=64, ffn_dim=128, num_heads=2, num_layers=2, freq_dim=64, audio_hidden=32, audio_tokens=4
)
_SMALL_ENCODER = replace(
    WAV2VEC2_BASE,
    conv_dim=(32,) * 7,
    hidden_size=32,
    intermediate_size=64,
    num_attention_heads=4,
    num_hidden_layers=2,
    num_conv_pos_embeddings=16,
    num_conv_pos_embedding_groups=4,
)
MINIATURE = CheckpointConfigs.around(
    LTXVAEConfig((4, 8, 16, 16), (1, 1, 1, 1, 1), LTX_SCALING, 16), _SMALL_GENERATOR, _SMALL_ENCODER
)
MINIATURE_PRO = CheckpointConfigs.around(
    WanVAEConfig(base_width=8, widths=(8, 8, 16, 16), residual_blocks=1),
    _SMALL_GENERATOR,
    _SMALL_ENCODER,
)


def published_shapes(sizes: CheckpointConfigs) -> dict[str, Shapes]:
    """The shape of every tensor that is read, by weight file (a path inside the checkpoint), then
    by key."""
    generator = _shapes(lambda: Generator(sizes.generator))
    autoencoder = _shapes(lambda: make_vae(sizes.vae))
    encoder = _shapes(lambda: AudioEncoder(sizes.audio_encoder))
    encoder = {f"wav2vec2.{key}": shape for key, shape in encoder.items()}
    direction = encoder.pop(_POSITION)  # stored weight-normalised, kernel position by position
    encoder |= {f"{_POSITION}_g": (1, 1, direction[2]), f"{_POSITION}_v": direction}
    folder = places.VAE_FOLDERS[sizes.variant]
    return {
        f"{places.GENERATOR_FOLDERS[sizes.variant]}/{places.WEIGHTS}": generator,
        f"{folder}/{places.VAE_FILES[folder][0]}": autoencoder,
        f"{places.AUDIO_ENCODER}/{places.AUDIO_WEIGHTS}": encoder,
    }


def _shapes(make: Callable[[], nn.Module]) -> Shapes:
    return {key: tuple(tensor.shape) for key, tensor in build(make).state_dict().items()}


def _random_weight(key: str, shapes: Shapes, seed: str) -> Tensor:
    """One float32 weight that keeps activations near unit size.

    Norms are 1, biases and means 0, everything else is normal with variance 1 / fan-in. It depends
    on key, shape and seed alone, so that adding a weight changes no other.
    """
    shape, leaf = shapes[key], key.rpartition(".")[2]
    if key == f"{_POSITION}_g":  # a weight normalisation's scale: its direction's length
        direction = _random_weight(f"{_POSITION}_v", shapes, seed)
        return torch.linalg.vector_norm(direction, dim=(0, 1), keepdim=True)
    if leaf in ("bias", "latents_mean"):
        return torch.zeros(shape)
    if len(shape) == 1 or leaf == "gamma":
        return torch.ones(shape)
    digest = hashlib.sha256(f"{seed}/{key}".encode()).digest()
    rng = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little"))
    return torch.empty(shape).normal_(std=math.prod(shape[1:]) ** -0.5, generator=rng)


class _LegacyPickler(pickle.Pickler):
    """Pickles parameters on the meta device as torch's older format has those saved from a GPU."""

    def __init__(self, file: BinaryIO):
        super().__init__(file, 2)
        self.keys: list[str] = []

    def persistent_id(self, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else None  # a storage's description

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, nn.Parameter):
            return torch._utils._rebuild_parameter, (value.data, True, OrderedDict())
        if isinstance(value, Tensor):
            self.keys.append(f"{len(self.keys):014}")  # as long as an address in memory
            kind, gpu = getattr(torch, torch.storage._dtype_to_storage_type_map()[value.dtype]), 0
            storage = ["storage", kind, self.keys[-1], f"cuda:{gpu}", value.numel(), None]
            hooks: dict[str, Any] = OrderedDict()
            layout = (0, tuple(value.shape), value.stride(), False, hooks)
            return torch._utils._rebuild_tensor_v2, (storage, *layout)
        return NotImplemented


def legacy_head(shapes: Shapes, dtype: torch.dtype = torch.float32) -> bytes:
    """All but the tensors of a file in torch's older format, in which the Wan VAE was published.

    After it comes each tensor, in the order of `shapes`: its number of elements in 8 bytes, and its
    elements.
    """
    parameters = {
        key: nn.Parameter(torch.empty(shape, dtype=dtype, device="meta"))
        for key, shape in shapes.items()
    }
    types = {"short": 2, "int": 4, "long": 4}
    system = {"protocol_version": PROTOCOL_VERSION, "little_endian": True, "type_sizes": types}
    head = io.BytesIO()
    for part in (MAGIC_NUMBER, PROTOCOL_VERSION, system):
        pickle.dump(part, head, 2)
    pickler = _LegacyPickler(head)
    pickler.dump(parameters)
    pickle.dump(pickler.keys, head, 2)
    return head.getvalue()


def write_checkpoint(
    folder: str | Path,
    sizes: CheckpointConfigs = MINIATURE,
    seed: int = 0,
    *,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Write a random checkpoint that `load_bundle` reads as the variant of its sizes.

    The same arguments give the same bytes. One tensor is held at a time. The Wan VAE is in torch's
    older format, as published. The global random generator is left alone.

    Args:
        folder: made if missing; files of the same names are replaced.
        sizes: `MINIATURE` (1.8 MB), `PUBLISHED_LITE` (8.1 GB in float32), the same of Pro
            (`MINIATURE_PRO`, `PUBLISHED_PRO`) or your own.
        seed: any integer.
        dtype: what weights are stored as: float32 (as published), bfloat16 or float16.

    Returns:
        The folder.
    """
    folder, variant = Path(folder), sizes.variant
    generator = to_config(sizes.generator) | {"has_image_input": False, "text_dim": _TEXT_DIM}
    configs = {
        places.GENERATOR_FOLDERS[variant]: generator,
        places.AUDIO_ENCODER: to_config(sizes.audio_encoder),
    }
    if variant == "lite":  # the Wan VAE has none
        configs[places.VAE_FOLDERS[variant]] = to_config(sizes.vae)
    for name, shapes in published_shapes(sizes).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.parent.name in configs:
            text = json.dumps(configs[path.parent.name], indent=2) + "\n"
            path.with_name(places.CONFIG).write_text(text, encoding="utf-8")
        tensors = ((key, _random_weight(key, shapes, f"{seed}/{name}").to(dtype)) for key in shapes)
        with path.open("wb") as file:
            if path.suffix in TORCH_SUFFIXES:
                file.write(legacy_head(shapes, dtype))
                for _, tensor in tensors:
                    file.write(tensor.numel().to_bytes(8, "little"))
                    file.write(tensor.reshape(-1).view(torch.uint8).numpy().data)
                continue
            entries = {
                key: torch.empty(shape, dtype=dtype, device="meta") for key, shape in shapes.items()
            }
            layout = lay_out(entries, {"format": "pt"})
            write_safetensors(file, layout, tensors)
    return folder


TINY = TinyVAEConfig(8, (16, 8, 8, 8))
"""The miniature's tiny autoencoder."""


def write_adapter(
    folder: str | Path,
    sizes: GeneratorConfig = MINIATURE_PRO.generator,
    seed: int = 0,
    *,
    rank: int = 64,
) -> Path:
    """Write random LeapTalk files for a generator, as published: LoRA in PEFT's layout, audio
    projection and tiny autoencoder in 16 bits. Returns the folder, which is made."""

    def draw(shapes: Shapes, name: str) -> dict[str, Tensor]:
        return {key: _random_weight(key, shapes, f"{seed}/{name}") for key in shapes}

    folder, shapes = Path(folder), _shapes(lambda: Generator(sizes))
    (folder / "lora").mkdir(parents=True, exist_ok=True)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": [*"qkvo"]}
    (folder / "lora" / places.LORA_CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    pairs: Shapes = {}
    for key, (out, *wide) in shapes.items():
        if re.fullmatch(r"blocks\.\d+\.(self|cross)_attn\.[qkvo]\.weight", key):
            name = f"base_model.model.{key.removesuffix('.weight')}"
            pairs |= {f"{name}.lora_A.weight": (rank, *wide), f"{name}.lora_B.weight": (out, rank)}
    save_file(draw(pairs, "lora"), folder / "lora" / places.LORA_WEIGHTS, {"format": "pt"})
    drawn = draw({k: s for k, s in shapes.items() if k.startswith("audio_proj.")}, "projection")
    projection = {key.removeprefix("audio_proj."): value for key, value in drawn.items()}
    tiny = draw(_shapes(lambda: make_vae(TINY)), "tiny")
    torch.save(
        {k: v.bfloat16() for k, v in projection.items()}, folder / "audio_proj_step_10400.pt"
    )
    torch.save({k: v.half() for k, v in tiny.items()}, folder / places.TINY_VAE_FILES[0])
    return folder
