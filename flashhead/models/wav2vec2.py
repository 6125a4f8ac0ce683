"""wav2vec2 whose features are interpolated to 25 a second, as in training (DESIGN §1.3)."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import AudioError
from ..geometry import FPS, SAMPLE_RATE
from .backend import TORCH, Backend, named
from .config import AudioEncoderConfig


def _feature_extractor(config: AudioEncoderConfig, backend: Backend) -> nn.Sequential:
    """Waveform (B, 1, N) -> features (B, channels, n)."""
    ops, layers = backend.operations, nn.Sequential()
    channels = pairwise((1, *config.conv_dim))
    sizes = zip(channels, config.conv_kernel, config.conv_stride, strict=True)
    for (inputs, outputs), kernel, stride in sizes:
        conv = ops.Conv1d(inputs, outputs, kernel, stride=stride, bias=config.conv_bias)
        layer = {"conv": conv}
        # Only the first layer is normalised in wav2vec2-base: each channel over the whole time.
        if not layers:
            layer["layer_norm"] = ops.GroupNorm(outputs, outputs)
        layers.append(named(**layer, activation=nn.GELU()))
    return named(conv_layers=layers)


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


class Layer(nn.Module):
    def __init__(self, config: AudioEncoderConfig, backend: Backend):
        super().__init__()
        ops, dim, eps = backend.operations, config.hidden_size, config.layer_norm_eps
        self.attention = Attention(config, backend)
        self.layer_norm = ops.LayerNorm(dim, eps=eps)
        self.feed_forward = named(
            intermediate_dense=ops.Linear(dim, config.intermediate_size),
            activation=nn.GELU(),
            output_dense=ops.Linear(config.intermediate_size, dim),
        )
        self.final_layer_norm = ops.LayerNorm(dim, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer_norm(x + self.attention(x))
        return self.final_layer_norm(x + self.feed_forward(x))


class Transformer(nn.Module):
    def __init__(self, config: AudioEncoderConfig, backend: Backend):
        super().__init__()
        ops, dim, kernel = backend.operations, config.hidden_size, config.num_conv_pos_embeddings
        groups = config.num_conv_pos_embedding_groups
        self.pos_conv_embed = named(
            conv=ops.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=groups)
        )
        self.layer_norm = ops.LayerNorm(dim, eps=config.layer_norm_eps)
        self.layers = nn.ModuleList(Layer(config, backend) for _ in range(config.num_hidden_layers))

    def forward(self, x: Tensor) -> Tensor:
        """(B, frames, hidden) -> every layer's output (B, frames, layers, hidden)."""
        # An even kernel gives one frame more at the end.
        position = self.pos_conv_embed(x.transpose(1, 2))[..., : x.shape[1]]
        x = self.layer_norm(x + functional.gelu(position).transpose(1, 2))
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
        ops, channels = backend.operations, config.conv_dim[-1]
        self.feature_extractor = _feature_extractor(config, backend)
        self.feature_projection = named(
            layer_norm=ops.LayerNorm(channels, eps=config.layer_norm_eps),
            projection=ops.Linear(channels, config.hidden_size),
        )
        self.encoder = Transformer(config, backend)

    def forward(self, waveform: Tensor, frames: int) -> Tensor:
        """Normalised waveform (B, N) -> features (B, frames, layers, channels)."""
        x = self.feature_extractor(waveform.unsqueeze(1))
        x = functional.interpolate(x, size=frames, mode="linear", align_corners=True)
        return self.encoder(self.feature_projection(x.transpose(1, 2)))

    def encode(self, waveform: Tensor, frames: int | None = None) -> Tensor:
        """Waveform (N,) or (B, N) at 16 kHz -> features ([B,] frames, layers, channels).

        Any level will do: each clip is brought to zero mean and unit variance over its whole
        length. `frames` is int(N * 25 / 16000) by default. The backend's dtype and device are those
        of the result. Raises `AudioError` for less than one frame (640 samples), or another number
        of dimensions.
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
