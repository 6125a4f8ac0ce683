"""The sizes of every network, as frozen dataclasses, and what follows from them.

`flashhead.checkpoint.configs` reads them from files.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..geometry import ChunkGeometry


@dataclass(frozen=True)
class GeneratorConfig:
    """The diffusion transformer's sizes (DESIGN §1.2).

    audio_width: audio layers * channels. audio_hidden, audio_tokens: of the audio projection.
    audio_window: frames of audio context around each frame.
    """

    dim: int
    ffn_dim: int
    num_heads: int
    num_layers: int
    freq_dim: int
    in_dim: int
    out_dim: int
    eps: float
    patch_size: tuple[int, int, int]
    vae_stride: tuple[int, int, int]
    audio_width: int
    audio_hidden: int
    audio_tokens: int
    audio_window: int = 5

    @property
    def head_dim(self) -> int:
        return self.dim // self.num_heads

    @property
    def audio_vectors(self) -> int:
        """Feature vectors that one latent frame after the first sees: 12 Lite, 8 Pro."""
        return self.audio_window + self.vae_stride[0] - 1

    @property
    def geometry(self) -> ChunkGeometry:
        return ChunkGeometry(self.vae_stride, self.patch_size, self.out_dim)


@dataclass(frozen=True)
class AudioEncoderConfig:
    """wav2vec2's sizes, as Hugging Face's config.json names them."""

    conv_dim: tuple[int, ...]
    conv_kernel: tuple[int, ...]
    conv_stride: tuple[int, ...]
    conv_bias: bool
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_hidden_layers: int
    num_conv_pos_embeddings: int
    num_conv_pos_embedding_groups: int
    layer_norm_eps: float

    @property
    def receptive_field(self) -> int:
        """Samples under one convolutional frame (400 in wav2vec2-base)."""
        field = 1
        for kernel, stride in zip(
            reversed(self.conv_kernel), reversed(self.conv_stride), strict=True
        ):
            field = (field - 1) * stride + kernel
        return field


@dataclass(frozen=True)
class LTXVAEConfig:
    """The LTX 0.9.0 VAE's sizes, as diffusers names them (DESIGN §1.4).

    decoder_layers_per_block: None means the encoder's. A level may have no layers.
    """

    block_out_channels: tuple[int, ...]
    layers_per_block: tuple[int, ...]
    spatio_temporal_scaling: tuple[bool, ...]
    latent_channels: int
    in_channels: int = 3
    out_channels: int = 3
    patch_size: int = 4
    encoder_causal: bool = True
    decoder_causal: bool = False
    decoder_layers_per_block: tuple[int, ...] | None = None

    @property
    def scalings(self) -> int:
        return sum(self.spatio_temporal_scaling)

    @property
    def stride(self) -> tuple[int, int, int]:
        """Pixels per latent in (t, h, w)."""
        spatial = self.patch_size * 2**self.scalings
        return (2**self.scalings, spatial, spatial)


@dataclass(frozen=True)
class WanVAEConfig:
    """The Wan 2.1 VAE's sizes.

    `widths` are the channels at each resolution, finest first. Between two of them height and
    width halve, and time too where `temporal` says so.
    """

    base_width: int = 96
    widths: tuple[int, ...] = (96, 192, 384, 384)
    temporal: tuple[bool, ...] = (False, True, True)
    residual_blocks: int = 2
    latent_channels: int = 16

    @property
    def stride(self) -> tuple[int, int, int]:
        """Pixels per latent in (t, h, w)."""
        spatial = 2 ** len(self.temporal)
        return (2 ** sum(self.temporal), spatial, spatial)


VAEConfig = LTXVAEConfig | WanVAEConfig
