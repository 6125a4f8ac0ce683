"""wav2vec2 whose features are interpolated to 25 a second, as in training (DESIGN §1.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import AudioError
from ..geometry import FPS, SAMPLE_RATE
from .backend import TORCH, Backend
from .config import AudioEncoderConfig


class ConvLayer(nn.Module):
    def __init__(self, config: AudioEncoderConfig, index: int, backend: Backend):
        super().__init__()
        ops = backend.operations
        channels = (1, *config.conv_dim)
        self.conv = ops.Conv1d(
            channels[index],
            channels[index + 1],
            config.conv_kernel[index],
            stride=config.conv_stride[index],
            bias=config.conv_bias,
        )
        # Only the first layer is normalised in wav2vec2-base: each channel over the whole time.
        width = channels[index + 1]
        self.layer_norm = ops.GroupNorm(width, width) if index == 0 else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.layer_norm is not None:
            x = self.layer_norm(x)
        return functional.gelu(x)


class FeatureExtractor(nn.Module):
    def __init__(self, config: AudioEncoderConfig, backend: Backend):
        super().__init__()
        self.conv_layers = nn.ModuleList(
            ConvLayer(config, index, backend) for index in range(len(config.conv_dim))
        )

    def forward(self, waveform: Tensor) -> Tensor:
        x = waveform.unsqueeze(1)
        for layer in self.conv_layers:
            x = layer(x)
        return x


class FeatureProjection(nn.Module):
    def __init__(self, config: AudioEncoderConfig, backend: Backend):
        super().__init__()
        ops = backend.operations
        self.layer_norm = ops.LayerNorm(config.conv_dim[-1], eps=config.layer_norm_eps)
        self.projection = ops.Linear(config.conv_dim[-1], config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.projection(self.layer_norm(x))


class PositionalConv(nn.Module):
    def __init__(self, config: AudioEncoderConfig, backend: Backend):
        super().__init__()
        kernel = config.num_conv_pos_embeddings
        self.conv = backend.operations.Conv1d(
            config.hidden_size,
            config.hidden_size,
            kernel,
            padding=kernel // 2,
            groups=config.num_conv_pos_embedding_groups,
        )

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[1]
        # An even kernel gives one frame more at the end.
        position = self.conv(x.transpose(1, 2))[..., :length]
        return functional.gelu(position).transpose(1, 2)


class Attention(nn.Module):
    def __init__(self, config: AudioEncoderConfig, backend: Backend):
        super().__init__()
        ops, dim = backend.operations, config.hidden_size
        self.heads = config.num_attention_heads
        self.attention = backend.attention
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (
            ops.Linear(dim, dim) for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        return self.out_proj(self.attention(q, k, v, self.heads))


class FeedForward(nn.Module):
    def __init__(self, config: AudioEncoderConfig, backend: Backend):
        super().__init__()
        ops = backend.operations
        self.intermediate_dense = ops.Linear(config.hidden_size, config.intermediate_size)
        self.output_dense = ops.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.output_dense(functional.gelu(self.intermediate_dense(x)))


class Layer(nn.Module):
    def __init__(self, config: AudioEncoderConfig, backend: Backend):
        super().__init__()
        ops, eps = backend.operations, config.layer_norm_eps
        self.attention = Attention(config, backend)
        self.layer_norm = ops.LayerNorm(config.hidden_size, eps=eps)
        self.feed_forward = FeedForward(config, backend)
        self.final_layer_norm = ops.LayerNorm(config.hidden_size, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer_norm(x + self.attention(x))
        return self.final_layer_norm(x + self.feed_forward(x))


class Transformer(nn.Module):
    def __init__(self, config: AudioEncoderConfig, backend: Backend):
        super().__init__()
        self.pos_conv_embed = PositionalConv(config, backend)
        self.layer_norm = backend.operations.LayerNorm(
            config.hidden_size, eps=config.layer_norm_eps
        )
        self.layers = nn.ModuleList(Layer(config, backend) for _ in range(config.num_hidden_layers))

    def forward(self, x: Tensor) -> Tensor:
        """(B, frames, hidden) -> every layer's output (B, frames, layers, hidden)."""
        x = self.layer_norm(x + self.pos_conv_embed(x))
        outputs = []
        for layer in self.layers:
            x = layer(x)
            outputs.append(x)
        return torch.stack(outputs, dim=2)


class AudioEncoder(nn.Module):
    """16 kHz waveform -> features of all layers at 25 a second. Meant to run in float32."""

    def __init__(self, config: AudioEncoderConfig, backend: Backend = TORCH):
        super().__init__()
        self.config = config
        self.backend = backend
        self.feature_extractor = FeatureExtractor(config, backend)
        self.feature_projection = FeatureProjection(config, backend)
        self.encoder = Transformer(config, backend)

    def forward(self, waveform: Tensor, frames: int) -> Tensor:
        """Normalised waveform (B, N) -> features (B, frames, layers, channels)."""
        x = self.feature_extractor(waveform)
        x = functional.interpolate(x, size=frames, mode="linear", align_corners=True)
        return self.encoder(self.feature_projection(x.transpose(1, 2)))

    def encode(self, waveform: Tensor, frames: int | None = None) -> Tensor:
        """Features of clips; the backend's dtype and device are those of the result.

        Args:
            waveform: (N,) or (B, N) at 16 kHz, any level: each clip is brought to zero mean and
                unit variance over its whole length.
            frames: how many feature frames; by default int(N * 25 / 16000).

        Returns:
            (frames, layers, channels), with a leading B if one was given.

        Raises:
            AudioError: shorter than one frame (640 samples), or not one or two dimensions.
        """
        if waveform.ndim not in (1, 2):
            raise AudioError(
                f"The encoder was given a waveform of shape {tuple(waveform.shape)}; "
                "expected (N,) or (B, N)."
            )
        samples = waveform.shape[-1]
        if frames is None:
            frames = samples * FPS // SAMPLE_RATE
        if frames < 1 or samples < self.config.receptive_field:
            raise AudioError(
                f"The audio has {samples} samples at 16 kHz; the encoder needs at least "
                f"{max(SAMPLE_RATE // FPS, self.config.receptive_field)}."
            )
        batch = self.backend.to(waveform.reshape(-1, samples))
        variance, mean = torch.var_mean(batch, dim=1, keepdim=True, correction=0)
        features = self((batch - mean) * torch.rsqrt(variance + 1e-7), frames)
        return features if waveform.ndim == 2 else features[0]
