"""The hyperparameters of every network, as frozen dataclasses.

`flashhead.checkpoint.configs` reads them from files.
"""

# Types as text: configs.py reads values by them.
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..geometry import ChunkGeometry


@dataclass(frozen=True)
class GeneratorConfig:
    """The diffusion transformer's hyperparameters (DESIGN §1.2).

    in_dim: channels of the noisy and the portrait's latents together. out_dim: latent channels.
    freq_dim: width of the timestep's sinusoidal embedding. patch_size, vae_stride: (t, h, w).
    audio_width: the audio encoder's layers * channels. audio_hidden: width inside the audio
    projection. audio_tokens: tokens that it makes for each latent frame. audio_window: frames of
    audio context for each frame, itself in the middle.
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
    def geometry(self) -> ChunkGeometry:
        return ChunkGeometry(self.vae_stride, self.patch_size, self.out_dim)


@dataclass(frozen=True)
class AudioEncoderConfig:
    """wav2vec2's hyperparameters, as Hugging Face's config.json names them (DESIGN §1.3)."""

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
        """Samples that one output of the convolutions depends on (400 in wav2vec2-base)."""
        field = 1
        for kernel, stride in zip(self.conv_kernel[::-1], self.conv_stride[::-1], strict=True):
            field = (field - 1) * stride + kernel
        return field


@dataclass(frozen=True)
class LTXVAEConfig:
    """The LTX 0.9.0 VAE's hyperparameters, as diffusers names them (DESIGN §1.4).

    One entry per resolution, finest first; layers_per_block has one more, for the middle, and may
    hold zeros. decoder_layers_per_block: None means the encoder's.
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
    def stride(self) -> tuple[int, int, int]:
        """Frames, rows and columns per latent: (t, h, w)."""
        temporal = 2 ** sum(self.spatio_temporal_scaling)
        return (temporal, self.patch_size * temporal, self.patch_size * temporal)


@dataclass(frozen=True)
class WanVAEConfig:
    """The Wan 2.1 VAE's hyperparameters (DESIGN §1.4).

    widths: channels at each resolution, finest first. temporal: for each step to the next
    resolution, whether time is halved with height and width. residual_blocks: of the encoder at
    each resolution; the decoder has one more.
    """

    base_width: int = 96
    widths: tuple[int, ...] = (96, 192, 384, 384)
    temporal: tuple[bool, ...] = (False, True, True)
    residual_blocks: int = 2
    latent_channels: int = 16

    @property
    def stride(self) -> tuple[int, int, int]:
        """Frames, rows and columns per latent: (t, h, w)."""
        spatial = 2 ** len(self.temporal)
        return (2 ** sum(self.temporal), spatial, spatial)


@dataclass(frozen=True)
class TinyVAEConfig:
    """The tiny autoencoder's hyperparameters. widths: of the decoder, coarsest first."""

    encoder_width: int = 64
    widths: tuple[int, ...] = (256, 128, 64, 64)
    latent_channels: int = 16

    @property
    def stride(self) -> tuple[int, int, int]:
        """Frames, rows and columns per latent: (t, h, w)."""
        return (4, 8, 8)


VAEConfig = LTXVAEConfig | WanVAEConfig | TinyVAEConfig


@dataclass(frozen=True)
class CheckpointConfigs:
    """The three networks of a checkpoint: Lite with the LTX VAE, Pro with the Wan VAE.

    The VAE's stride and channels must be the generator's, and the audio encoder's layers times
    channels its `audio_width`.
    """

    generator: GeneratorConfig
    vae: VAEConfig
    audio_encoder: AudioEncoderConfig

    @property
    def variant(self) -> str:
        return "lite" if isinstance(self.vae, LTXVAEConfig) else "pro"

    @classmethod
    def around(
        cls, vae: VAEConfig, generator: Mapping[str, int], encoder: AudioEncoderConfig
    ) -> CheckpointConfigs:
        """A generator between a VAE and an audio encoder. generator: its own sizes, those that do
        not follow from the other two."""
        lite = isinstance(vae, LTXVAEConfig)
        made = GeneratorConfig(
            **generator,
            in_dim=2 * vae.latent_channels,
            out_dim=vae.latent_channels,
            eps=1e-6,
            patch_size=(1, 1, 1) if lite else (1, 2, 2),
            vae_stride=vae.stride,
            audio_width=encoder.num_hidden_layers * encoder.hidden_size,
        )
        return cls(made, vae, encoder)


_GENERATOR = dict(
    dim=1536,
    ffn_dim=8960,
    num_heads=12,
    num_layers=30,
    freq_dim=256,
    audio_hidden=512,
    audio_tokens=32,
)
WAV2VEC2_BASE = AudioEncoderConfig(
    conv_dim=(512,) * 7,
    conv_kernel=(10, 3, 3, 3, 3, 2, 2),
    conv_stride=(5, 2, 2, 2, 2, 2, 2),
    conv_bias=False,
    hidden_size=768,
    intermediate_size=3072,
    num_attention_heads=12,
    num_hidden_layers=12,
    num_conv_pos_embeddings=128,
    num_conv_pos_embedding_groups=16,
    layer_norm_eps=1e-5,
)
LTX_SCALING = (True, True, True, False)
PUBLISHED_LITE = CheckpointConfigs.around(
    LTXVAEConfig((128, 256, 512, 512), (4, 3, 3, 3, 4), LTX_SCALING, 128), _GENERATOR, WAV2VEC2_BASE
)
PUBLISHED_PRO = CheckpointConfigs.around(WanVAEConfig(), _GENERATOR, WAV2VEC2_BASE)
