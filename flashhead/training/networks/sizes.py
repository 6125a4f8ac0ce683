"""Sizes of new networks, as a settings file gives them."""

from __future__ import annotations

from ...geometry import ChunkGeometry
from ...models.config import AudioEncoderConfig, GeneratorConfig
from ...models.vae import VAE
from ...models.wav2vec2 import AudioEncoder
from ..settings import Settings


class AudioSizes(Settings):
    """A small encoder of wav2vec2's family, with the kernels and strides of wav2vec2-base."""

    conv_dim: int = 64
    hidden_size: int = 96
    intermediate_size: int = 192
    num_attention_heads: int = 4
    num_hidden_layers: int = 4
    num_conv_pos_embeddings: int = 16
    num_conv_pos_embedding_groups: int = 4

    def config(self) -> AudioEncoderConfig:
        """The encoder's whole configuration."""
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


class GeneratorSizes(Settings):
    """A generator's own sizes; the others follow from the VAE and the audio encoder."""

    dim: int = 192
    ffn_dim: int = 768
    num_heads: int = 4
    num_layers: int = 8
    freq_dim: int = 128
    audio_hidden: int = 128
    audio_tokens: int = 8
    patch_size: tuple[int, int, int] = (1, 1, 1)

    def config(self, vae: VAE, encoder: AudioEncoder) -> GeneratorConfig:
        """The configuration of a generator between this VAE and this audio encoder."""
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
            vae_stride=vae.stride,
            audio_width=encoder.config.num_hidden_layers * encoder.config.hidden_size,
            audio_hidden=self.audio_hidden,
            audio_tokens=self.audio_tokens,
        )


def chunk_geometry(vae: VAE, variant: str) -> ChunkGeometry:
    """How the generator of a variant ("lite" or "pro") cuts this VAE's latents."""
    patch_size = (1, 1, 1) if variant == "lite" else (1, 2, 2)
    return ChunkGeometry(vae.stride, patch_size, vae.latent_channels)
