"""Random checkpoints in the published folder layout, at any size.

A miniature serves demonstrations and tests where the real weights are not at hand; the published
sizes serve benchmarks. The keys are those of our own networks, so they cannot drift from what
`load_bundle` reads.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .audio_encoder import AudioEncoder
from .config import SAMPLE_RATE, AudioEncoderConfig, GeneratorConfig, LTXVAEConfig
from .generator import Generator
from .layout import AUDIO_ENCODER, GENERATOR_FOLDERS, VAE_FOLDERS, WEIGHTS
from .vae.ltx import LTXVAE
from .weights import DTYPE_NAMES, build

Shapes = dict[str, tuple[int, ...]]

_POSITION = "wav2vec2.encoder.pos_conv_embed.conv.weight"
_TEXT_DIM = 4096
_VOCABULARY = 32


@dataclass(frozen=True)
class Sizes:
    """The three networks of a Lite checkpoint.

    The VAE's stride and channels must be the generator's, and the audio encoder's layers times
    channels its `audio_width`.
    """

    generator: GeneratorConfig
    vae: LTXVAEConfig
    audio_encoder: AudioEncoderConfig


def _sizes(
    generator: Mapping[str, int],
    *,
    vae_widths: tuple[int, ...],
    vae_layers: tuple[int, ...],
    latent_channels: int,
    conv_dim: int,
    encoder: Mapping[str, int],
) -> Sizes:
    """Sizes around what never varies: strides, patches, kernels (DESIGN §1.2-1.4)."""
    vae = LTXVAEConfig(vae_widths, vae_layers, (True, True, True, False), latent_channels)
    return Sizes(
        GeneratorConfig(
            in_dim=2 * latent_channels,
            out_dim=latent_channels,
            eps=1e-6,
            patch_size=(1, 1, 1),
            vae_stride=vae.stride,
            audio_width=encoder["num_hidden_layers"] * encoder["hidden_size"],
            **generator,
        ),
        vae,
        AudioEncoderConfig(
            conv_dim=(conv_dim,) * 7,
            conv_kernel=(10, 3, 3, 3, 3, 2, 2),
            conv_stride=(5, 2, 2, 2, 2, 2, 2),
            conv_bias=False,
            layer_norm_eps=1e-5,
            **encoder,
        ),
    )


MINIATURE = _sizes(
    {
        "dim": 64,
        "ffn_dim": 128,
        "num_heads": 2,
        "num_layers": 2,
        "freq_dim": 64,
        "audio_hidden": 32,
        "audio_tokens": 4,
    },
    vae_widths=(4, 8, 16, 16),
    vae_layers=(1, 1, 1, 1, 1),
    latent_channels=16,
    conv_dim=32,
    encoder={
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 4,
    },
)

PUBLISHED_LITE = _sizes(
    {
        "dim": 1536,
        "ffn_dim": 8960,
        "num_heads": 12,
        "num_layers": 30,
        "freq_dim": 256,
        "audio_hidden": 512,
        "audio_tokens": 32,
    },
    vae_widths=(128, 256, 512, 512),
    vae_layers=(4, 3, 3, 3, 4),
    latent_channels=128,
    conv_dim=512,
    encoder={
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "num_conv_pos_embeddings": 128,
        "num_conv_pos_embedding_groups": 16,
    },
)


def published_shapes(sizes: Sizes, *, unused: bool = False) -> dict[str, Shapes]:
    """Every tensor's shape, by weight file (a path inside the checkpoint) and key.

    `unused` adds the keys that the published files hold and nothing reads.
    """
    networks = (
        build(lambda: Generator(sizes.generator)),
        build(lambda: LTXVAE(sizes.vae)),
        build(lambda: AudioEncoder(sizes.audio_encoder)),
    )
    generator, vae, encoder = (
        {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
        for network in networks
    )
    encoder = {f"wav2vec2.{key}": shape for key, shape in encoder.items()}
    direction = encoder.pop(_POSITION)  # stored weight-normalised, kernel position by position
    encoder |= {f"{_POSITION}_g": (1, 1, direction[2]), f"{_POSITION}_v": direction}
    if unused:
        generator |= _unused_generator(sizes.generator.dim)
        hidden = sizes.audio_encoder.hidden_size
        encoder |= {
            "lm_head.weight": (_VOCABULARY, hidden),
            "lm_head.bias": (_VOCABULARY,),
            "wav2vec2.masked_spec_embed": (hidden,),
        }
    return {
        f"{GENERATOR_FOLDERS['lite']}/{WEIGHTS}": generator,
        f"{VAE_FOLDERS['lite']}/{WEIGHTS}": vae,
        f"{AUDIO_ENCODER}/model.safetensors": encoder,
    }


def _unused_generator(dim: int) -> Shapes:
    width = 768
    weights = {
        "text_embedding.0": (dim, _TEXT_DIM),
        "text_embedding.2": (dim, dim),
        "audio_emb.proj.0": (width,),
        "audio_emb.proj.1": (width, width),
        "audio_emb.proj.3": (dim, width),
        "audio_emb.proj.4": (dim,),
    }
    shapes: Shapes = {f"{name}.weight": shape for name, shape in weights.items()}
    return shapes | {f"{name}.bias": shape[:1] for name, shape in weights.items()}


def published_configs(sizes: Sizes) -> dict[str, dict[str, Any]]:
    """The JSON files of a checkpoint, by path inside it."""
    generator = asdict(sizes.generator)
    for key in ("audio_width", "audio_hidden", "audio_tokens", "audio_window"):
        del generator[key]  # the published file leaves them to the weights' shapes
    return {
        f"{GENERATOR_FOLDERS['lite']}/config.json": {
            "_class_name": "WanModelAudioProject",
            **generator,
            "has_image_input": False,
            "text_dim": _TEXT_DIM,
        },
        f"{VAE_FOLDERS['lite']}/config.json": {
            "_class_name": "AutoencoderKLLTXVideo",
            **asdict(sizes.vae),
            "patch_size_t": 1,
        },
        f"{AUDIO_ENCODER}/config.json": {
            "model_type": "wav2vec2",
            **asdict(sizes.audio_encoder),
            "feat_extract_norm": "group",
            "do_stable_layer_norm": False,
        },
        f"{AUDIO_ENCODER}/preprocessor_config.json": {
            "do_normalize": True,
            "feature_size": 1,
            "padding_value": 0.0,
            "sampling_rate": SAMPLE_RATE,
        },
    }


def random_tensor(key: str, shape: tuple[int, ...], seed: str) -> Tensor:
    """One float32 weight that keeps activations near unit size.

    Norms are 1, biases and means 0, everything else is normal with variance 1 / fan-in. It depends
    on key, shape and seed alone, so no weight moves when another is added.
    """
    if key == f"{_POSITION}_g":
        raise ValueError("a weight norm's scale follows from its direction; draw that")
    leaf = key.rpartition(".")[2]
    if leaf in ("bias", "latents_mean"):
        return torch.zeros(shape)
    if len(shape) == 1:
        return torch.ones(shape)
    digest = hashlib.sha256(f"{seed}/{key}".encode()).digest()
    rng = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little"))
    return torch.empty(shape).normal_(std=math.prod(shape[1:]) ** -0.5, generator=rng)


def _random_weights(shapes: Shapes, seed: str) -> Callable[[str], Tensor]:
    def make(key: str) -> Tensor:
        if key == f"{_POSITION}_g":
            direction = make(f"{_POSITION}_v")
            return torch.linalg.vector_norm(direction, dim=(0, 1), keepdim=True)
        return random_tensor(key, shapes[key], seed)

    return make


def write_checkpoint(
    folder: str | Path,
    sizes: Sizes = MINIATURE,
    seed: int = 0,
    *,
    dtype: torch.dtype = torch.float32,
    unused: bool = False,
) -> Path:
    """Write a random checkpoint that `load_bundle` reads as variant "lite".

    The same arguments give the same bytes. One tensor is held at a time; the global random
    generator is left alone.

    Args:
        folder: made if missing; files of the same names are replaced.
        sizes: `MINIATURE` (1.8 MB), `PUBLISHED_LITE` (8.1 GB in float32) or your own.
        seed: any integer.
        dtype: stored, float32 (as published), bfloat16 or float16.
        unused: write the keys too that the published files hold and nothing reads.

    Returns:
        The folder.
    """
    folder = Path(folder)
    for name, config in published_configs(sizes).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for name, shapes in published_shapes(sizes, unused=unused).items():
        _write_safetensors(folder / name, shapes, _random_weights(shapes, f"{seed}/{name}"), dtype)
    return folder


def _write_safetensors(
    path: Path, shapes: Shapes, make: Callable[[str], Tensor], dtype: torch.dtype
) -> None:
    """A safetensors file, tensor by tensor: the library's own writer wants them all at once."""

    def entries() -> Iterator[tuple[str, Any]]:
        yield "__metadata__", {"format": "pt"}
        end = 0
        for key in sorted(shapes):
            start, end = end, end + math.prod(shapes[key]) * dtype.itemsize
            place = [start, end]
            yield key, {"dtype": DTYPE_NAMES[dtype], "shape": shapes[key], "data_offsets": place}

    header = json.dumps(dict(entries()), separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for key in sorted(shapes):
            file.write(make(key).to(dtype).view(torch.uint8).numpy().data)
