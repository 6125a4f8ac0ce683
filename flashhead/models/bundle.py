"""The three networks of one variant, and the checks that they belong together."""

from dataclasses import dataclass

import torch

from ..errors import CheckpointError
from ..geometry import ChunkGeometry
from ..variants import AUDIO_REPOSITORY
from .backend import TORCH, Backend
from .config import AudioEncoderConfig, GeneratorConfig, LTXVAEConfig, VAEConfig, WanVAEConfig
from .generator import Generator
from .limits import CheckpointLimits, native_size
from .ltx_vae import LTXVAE
from .tiny_vae import TinyVAE
from .vae import VAE
from .wan_vae import WanVAE
from .wav2vec2 import AudioEncoder


@dataclass(frozen=True)
class Bundle:
    """The three networks of one variant, and the limits of a small checkpoint (None: no limits)."""

    variant: str
    generator: Generator
    vae: VAE
    audio_encoder: AudioEncoder
    limits: CheckpointLimits | None = None

    @property
    def native_size(self) -> tuple[int, int]:
        """(height, width) in pixels that it was trained at."""
        return native_size(self.limits)

    @property
    def device(self) -> torch.device:
        """Where the generator computes."""
        return self.generator.backend.device or torch.device("cpu")

    @property
    def geometry(self) -> ChunkGeometry:
        return self.generator.config.geometry

    @property
    def dtype(self) -> torch.dtype:
        return self.generator.backend.dtype


def make_vae(config: VAEConfig, backend: Backend = TORCH) -> LTXVAE | WanVAE | TinyVAE:
    """The network that a VAE's sizes are of."""
    if isinstance(config, LTXVAEConfig):
        return LTXVAE(config, backend)
    return WanVAE(config, backend) if isinstance(config, WanVAEConfig) else TinyVAE(config, backend)


def check_family(config: GeneratorConfig, vae: VAE | VAEConfig) -> None:
    """Raise `CheckpointError` unless a VAE makes the latents that a generator was trained on."""
    if (vae.latent_channels, tuple(vae.stride)) != (config.out_dim, config.vae_stride):
        raise CheckpointError(
            f"The VAE has {vae.latent_channels} latent channels at stride {tuple(vae.stride)}; "
            f"this generator needs {config.out_dim} at stride {config.vae_stride}: it is the VAE "
            "of the other variant (Lite uses LTX 0.9.0's, Pro uses Wan 2.1's)."
        )


def check_encoder(config: GeneratorConfig, encoder: AudioEncoderConfig) -> None:
    """Raise `CheckpointError` unless a generator takes what an audio encoder gives."""
    width = encoder.num_hidden_layers * encoder.hidden_size
    if width != config.audio_width:
        raise CheckpointError(
            f"The audio encoder gives {encoder.num_hidden_layers} layers of {encoder.hidden_size}, "
            f"{width} features a frame; this generator needs {config.audio_width}: it is another "
            f"wav2vec2 than {AUDIO_REPOSITORY}."
        )
