"""The diffusion transformer: noisy latents, reference latents, audio -> velocity (DESIGN §1.2).

What does not depend on the noisy latents can be computed once and passed in: modulations and rotary
table once a run, cross-attention keys and values once a chunk. The module holds weights only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from einops import rearrange
from torch import Tensor, nn

from .audio_projection import AudioProjection
from .backend import TORCH, Backend
from .config import GeneratorConfig
from .rotary import rotary_table, rotate

Options = Mapping[str, Any]
KeysValues = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class TimeCondition:
    """Modulations for N timesteps; where they say scale they hold 1 + scale.

    timesteps: (N,) in 0..1000. blocks: (N, layers, 6, dim): shift, scale, gate for attention, then
    for the FFN. head: (N, 2, dim): shift, scale.
    """

    timesteps: Tensor
    blocks: Tensor
    head: Tensor

    def __getitem__(self, index: slice) -> TimeCondition:
        return TimeCondition(self.timesteps[index], self.blocks[index], self.head[index])


@dataclass(frozen=True)
class AudioCondition:
    """Keys and values of each block's cross-attention: a pair of (B*T, tokens, dim) per block."""

    keys_values: tuple[KeysValues, ...]

    def repeat(self, count: int) -> AudioCondition:
        """This condition, of one sample, repeated for a batch of `count`."""
        return self if count == 1 else self.join(*[self] * (count - 1))

    def join(self, *others: AudioCondition) -> AudioCondition:
        """All conditions as one batch, the samples of this one first."""
        blocks = zip(self.keys_values, *(other.keys_values for other in others), strict=True)
        pairs = (zip(*block, strict=True) for block in blocks)
        return AudioCondition(tuple((torch.cat(k), torch.cat(v)) for k, v in pairs))


def timestep_embedding(timestep: Tensor, dim: int) -> Tensor:
    """Cosines, then sines, of t * 10000^(-i / half): (N,) -> (N, dim) float32.

    In float64, where the timesteps are if they can be so there, else on the CPU.
    """
    half, device = dim // 2, timestep.device
    if device.type not in ("cpu", "cuda", "meta"):
        device = torch.device("cpu")
    exponents = torch.arange(half, dtype=torch.float64, device=device) / half
    angles = torch.outer(timestep.to(device).double(), 10_000.0**-exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=1).float()


class Attention(nn.Module):
    """Query, key, value and output projections; q and k are normalised over the whole width."""

    def __init__(self, config: GeneratorConfig, backend: Backend):
        super().__init__()
        ops, dim = backend.operations, config.dim
        self.heads = config.num_heads
        self.attention = backend.attention
        self.q, self.k, self.v, self.o = (ops.Linear(dim, dim) for _ in range(4))
        self.norm_q = ops.RMSNorm(dim, eps=config.eps)
        self.norm_k = ops.RMSNorm(dim, eps=config.eps)


class SelfAttention(Attention):
    def forward(self, x: Tensor, rotary: Tensor, options: Options) -> Tensor:
        q = rotate(self.norm_q(self.q(x)), rotary, self.heads)
        k = rotate(self.norm_k(self.k(x)), rotary, self.heads)
        return self.o(self.attention(q, k, self.v(x), self.heads, **options))


class CrossAttention(Attention):
    def keys_values(self, context: Tensor) -> KeysValues:
        return self.norm_k(self.k(context)), self.v(context)

    def forward(self, x: Tensor, keys_values: KeysValues, options: Options) -> Tensor:
        query = self.norm_q(self.q(x))
        return self.o(self.attention(query, *keys_values, self.heads, **options))


class Block(nn.Module):
    def __init__(self, config: GeneratorConfig, backend: Backend):
        super().__init__()
        ops, dim = backend.operations, config.dim
        self.norm1 = ops.LayerNorm(dim, eps=config.eps, elementwise_affine=False)
        self.self_attn = SelfAttention(config, backend)
        self.norm3 = ops.LayerNorm(dim, eps=config.eps)
        self.cross_attn = CrossAttention(config, backend)
        self.norm2 = ops.LayerNorm(dim, eps=config.eps, elementwise_affine=False)
        self.ffn = nn.Sequential(
            ops.Linear(dim, config.ffn_dim),
            nn.GELU(approximate="tanh"),
            ops.Linear(config.ffn_dim, dim),
        )
        self.modulation = nn.Parameter(torch.empty(1, 6, dim))

    def forward(
        self, x: Tensor, modulation: Tensor, audio: KeysValues, rotary: Tensor, options: Options
    ) -> Tensor:
        """x (B, T*h*w, dim), modulation (B, 6, 1, dim), rotary (2, T*h*w, head_dim // 2)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation.unbind(1)
        modulated = torch.addcmul(shift1, self.norm1(x), scale1)
        x = torch.addcmul(x, self.self_attn(modulated, rotary, options), gate1)
        # A latent frame's tokens attend to that frame's audio tokens only: frames join the batch.
        frames = audio[0].shape[0] // x.shape[0]
        query = rearrange(self.norm3(x), "b (t l) c -> (b t) l c", t=frames)
        attended = self.cross_attn(query, audio, options)
        x = x + rearrange(attended, "(b t) l c -> b (t l) c", t=frames)
        return torch.addcmul(x, self.ffn(torch.addcmul(shift2, self.norm2(x), scale2)), gate2)


class Head(nn.Module):
    def __init__(self, config: GeneratorConfig, backend: Backend):
        super().__init__()
        ops = backend.operations
        self.norm = ops.LayerNorm(config.dim, eps=config.eps, elementwise_affine=False)
        self.head = ops.Linear(config.dim, config.out_dim * math.prod(config.patch_size))
        self.modulation = nn.Parameter(torch.empty(1, 2, config.dim))

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """x (B, T*h*w, dim), modulation (B, 2, 1, dim)."""
        shift, scale = modulation.unbind(1)
        return self.head(torch.addcmul(shift, self.norm(x), scale))


class Generator(nn.Module):
    """The flow-matching velocity of noisy latents, at one timestep per sample, given audio."""

    def __init__(self, config: GeneratorConfig, backend: Backend = TORCH):
        super().__init__()
        self.config = config
        self.backend = backend
        ops, dim = backend.operations, config.dim
        self.patch_embedding = ops.Conv3d(
            config.in_dim, dim, kernel_size=config.patch_size, stride=config.patch_size
        )
        self.time_embedding = nn.Sequential(
            ops.Linear(config.freq_dim, dim), nn.SiLU(), ops.Linear(dim, dim)
        )
        self.time_projection = nn.Sequential(nn.SiLU(), ops.Linear(dim, 6 * dim))
        self.audio_proj = AudioProjection(config, backend)
        self.blocks = nn.ModuleList(Block(config, backend) for _ in range(config.num_layers))
        self.head = Head(config, backend)

    def _blocks(self) -> Iterable[Block]:
        return cast("Iterable[Block]", self.blocks)  # a ModuleList has no type of its elements

    def embed_timesteps(
        self, timesteps: Tensor, device: torch.device | None = None
    ) -> TimeCondition:
        """Modulations for timesteps (N,) in 0..1000 (DESIGN §1.2, step 2).

        They are made on the backend's device, or where that is None on `device` (None: where the
        timesteps are).
        """
        dtype = self.backend.dtype
        device = self.backend.device or device or timesteps.device
        timesteps = timesteps.float()
        # As when the weights were distilled: 937.5 becomes 936 (DESIGN §1.6).
        rounded = timesteps.to(dtype) if dtype == torch.bfloat16 else timesteps
        sinusoid = timestep_embedding(rounded, self.config.freq_dim).to(device, dtype)
        embedded = self.time_embedding(sinusoid)
        projected = self.time_projection(embedded).unflatten(1, (1, 6, -1))
        own = torch.cat([self.backend.cast(b.modulation, dtype, device) for b in self._blocks()])
        blocks = own + projected
        blocks[:, :, 1::3] += 1
        head = self.backend.cast(self.head.modulation, dtype, device) + embedded.unsqueeze(1)
        head[:, 1] += 1
        return TimeCondition(timesteps.to(device), blocks, head)

    def embed_audio(self, audio: Tensor) -> AudioCondition:
        """Cross-attention keys and values for audio context (B, frames, window, layers, channels).

        Raises `ValueError` unless there are 1 + n * stride frames.
        """
        context = self.audio_proj(self.backend.to(audio)).flatten(0, 1)
        return AudioCondition(tuple(b.cross_attn.keys_values(context) for b in self._blocks()))

    def rotary(self, shape: Sequence[int], device: torch.device | None = None) -> Tensor:
        """Rotary table for latents of `shape` (B, C, T, h, w): (2, tokens, head_dim // 2) float32.

        It is made on the backend's device, or where that is None on `device` (None: the CPU).
        """
        patch = self.config.patch_size
        t, h, w = (n // p for n, p in zip(shape[2:], patch, strict=True))
        device = self.backend.device or device or torch.device("cpu")
        return rotary_table((t, h, w), self.config.head_dim, device)

    def denoise(
        self,
        x: Tensor,
        reference: Tensor,
        time: TimeCondition,
        audio: AudioCondition,
        rotary: Tensor,
        options: Options | None = None,
    ) -> Tensor:
        """`forward` with its conditions and rotary table already computed."""
        to = self.backend.to
        x = self.patch_embedding(torch.cat([to(x), to(reference)], dim=1))
        _, _, t, h, w = x.shape
        x = rearrange(x, "b c t h w -> b (t h w) c")
        modulations = time.blocks.unsqueeze(3).unbind(1)
        conditions = zip(modulations, audio.keys_values, strict=True)
        for block, (modulation, keys_values) in zip(self.blocks, conditions, strict=True):
            x = block(x, modulation, keys_values, rotary, options or {})
        x = self.head(x, time.head.unsqueeze(2))
        pt, ph, pw = self.config.patch_size
        unpatch = "b (t h w) (pt ph pw c) -> b c (t pt) (h ph) (w pw)"
        return rearrange(x, unpatch, t=t, h=h, w=w, pt=pt, ph=ph, pw=pw)

    def forward(
        self,
        x: Tensor,
        timestep: Tensor | TimeCondition,
        audio: Tensor | AudioCondition,
        reference: Tensor,
        rotary: Tensor | None = None,
        options: Options | None = None,
    ) -> Tensor:
        """One velocity prediction. A sampler passes what it has computed beforehand.

        Args:
            x: noisy latents (B, C, T, h, w).
            timestep: (B,) or (1,) in 0..1000, or what `embed_timesteps` made of it.
            audio: audio context (B, frames, window, layers, channels), or what `embed_audio` made
                of it.
            reference: the portrait's latents (B, C, T, h, w).
            rotary: what `rotary` gives for the shape of x.
            options: keyword arguments for the backend's attention.

        Returns:
            Velocity (B, C, T, h, w), in the compute dtype.
        """
        if isinstance(timestep, Tensor):
            timestep = self.embed_timesteps(timestep.expand(x.shape[0]))
        if isinstance(audio, Tensor):
            audio = self.embed_audio(audio)
        if rotary is None:
            rotary = self.rotary(x.shape, x.device)
        return self.denoise(x, reference, timestep, audio, rotary, options)
