"""What a stage starts from: networks in a checkpoint folder, or new ones of given sizes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from ...checkpoint.components import open_audio_encoder, open_generator, open_vae
from ...checkpoint.layout import AUDIO_ENCODER, VAE_FOLDERS
from ...checkpoint.loading import load_audio_encoder
from ...errors import CheckpointError
from ...geometry import ChunkGeometry
from ...models.backend import Backend
from ...models.config import AudioEncoderConfig, GeneratorConfig
from ...models.generator import Generator
from ...models.vae import VAE
from ...models.wav2vec2 import AudioEncoder
from .initialisation import trainable


@dataclass(frozen=True)
class AudioSizes:
    """A small encoder of wav2vec2's family: kernels and strides are its own."""

    conv_dim: int = 64
    hidden_size: int = 96
    intermediate_size: int = 192
    num_attention_heads: int = 4
    num_hidden_layers: int = 4
    num_conv_pos_embeddings: int = 16
    num_conv_pos_embedding_groups: int = 4

    def config(self) -> AudioEncoderConfig:
        return AudioEncoderConfig(
            conv_dim=(self.conv_dim,) * 7,
            conv_kernel=(10, 3, 3, 3, 3, 2, 2),
            conv_stride=(5, 2, 2, 2, 2, 2, 2),
            conv_bias=False,
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_attention_heads=self.num_attention_heads,
            num_hidden_layers=self.num_hidden_layers,
            num_conv_pos_embeddings=self.num_conv_pos_embeddings,
            num_conv_pos_embedding_groups=self.num_conv_pos_embedding_groups,
            layer_norm_eps=1e-5,
        )


@dataclass(frozen=True)
class GeneratorSizes:
    """A generator's own sizes; what it shares with VAE and audio encoder follows from them."""

    dim: int = 192
    ffn_dim: int = 768
    num_heads: int = 4
    num_layers: int = 8
    freq_dim: int = 128
    audio_hidden: int = 128
    audio_tokens: int = 8
    patch_size: tuple[int, int, int] = (1, 1, 1)

    def config(self, vae: VAE, encoder: AudioEncoder) -> GeneratorConfig:
        return GeneratorConfig(
            dim=self.dim,
            ffn_dim=self.ffn_dim,
            num_heads=self.num_heads,
            num_layers=self.num_layers,
            freq_dim=self.freq_dim,
            in_dim=2 * vae.latent_channels,
            out_dim=vae.latent_channels,
            eps=1e-6,
            patch_size=self.patch_size,
            vae_stride=tuple(vae.stride),
            audio_width=encoder.config.num_hidden_layers * encoder.config.hidden_size,
            audio_hidden=self.audio_hidden,
            audio_tokens=self.audio_tokens,
        )

    def geometry(self, vae: VAE) -> ChunkGeometry:
        return ChunkGeometry(tuple(vae.stride), self.patch_size, vae.latent_channels)


@dataclass(frozen=True)
class Surroundings:
    """The frozen networks around a generator, and the variant that their VAE makes it."""

    vae: VAE
    audio_encoder: AudioEncoder
    variant: str


def open_surroundings(
    root: str | Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    variant: str | None = None,
) -> Surroundings:
    """VAE and audio encoder of a checkpoint folder in the published layout.

    `variant` None means the one whose VAE is there; the audio encoder stays in float32.

    Raises:
        CheckpointError: no VAE, or both and no variant; files that are damaged.
    """
    root, device = Path(root), torch.device(device)
    there = [v for v in ("lite", "pro") if (root / VAE_FOLDERS[v]).is_dir()]
    if variant is None and len(there) != 1:
        found = " and ".join(there) or "none"
        raise CheckpointError(
            f"{root} has the VAE of {found}; expected one, or say which variant to train."
        )
    variant = variant or there[0]
    backend = Backend(dtype=dtype, device=device)
    vae = open_vae(root / VAE_FOLDERS[variant]).load(backend, device=device, dtype=dtype)
    encoder = load_audio_encoder(
        open_audio_encoder(root / AUDIO_ENCODER), Backend(device=device), device=device
    )
    return Surroundings(vae, encoder, variant)


def open_trainable(path: str | Path, device: torch.device | str = "cpu") -> Generator:
    """The generator of a Model_* folder or weight file, as a float32 copy that wants gradients."""
    return trainable(open_generator(Path(path)).load(), device)
