"""The tiny autoencoder of Wan's latents (TAEHV's taew2_1): fast, and less sharp than Wan's own.

Modules carry the numbers of the published file. Layers see single frames, and a `MemoryBlock` the
frame before as well. So a video is coded in groups of four frames or one latent frame, and what is
needed of the group before is kept in a `Memory`, a new one for every call. Tensors are
(T * B, C, H, W), frame by frame.
"""

from dataclasses import dataclass, field

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from .backend import TORCH, Backend
from .config import TinyVAEConfig
from .tiles import in_tiles
from .vae import VideoAutoencoder
from .wan_vae import register_statistics

_STRIDES = (1, 2, 2)
"""Frames of one, at each resolution of the decoder."""
# How far the encoder sees around a latent, and the decoder around a pixel.
_PIXELS_SEEN, _LATENTS_SEEN = 142, 18


@dataclass
class Memory:
    """batch: videos side by side. frames: each block's last input frame (B, C, H, W)."""

    batch: int
    frames: dict[nn.Module, Tensor] = field(default_factory=dict)


class TimeLayer(nn.Module):
    """A layer that sees more than one frame."""

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        raise NotImplementedError


class MemoryBlock(TimeLayer):
    """Three convolutions on a frame and the one before it (zeros before the first), residual."""

    def __init__(self, width: int, backend: Backend):
        super().__init__()
        conv = backend.operations.Conv2d
        first, second, third = (conv(n * width, width, 3, padding=1) for n in (2, 1, 1))
        self.conv = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        last = memory.frames.get(self)
        if last is None:
            last = torch.zeros_like(x[: memory.batch])
        memory.frames[self] = x[-memory.batch :].clone()
        before = torch.cat([last, x[: -memory.batch]])
        return functional.relu(self.conv(torch.cat([x, before], dim=1)) + x)


class Pool(TimeLayer):
    """`stride` frames to one."""

    def __init__(self, width: int, stride: int, backend: Backend):
        super().__init__()
        self.stride = stride
        self.conv = backend.operations.Conv2d(stride * width, width, 1, bias=False)

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        together = "(t s b) c h w -> (t b) (s c) h w"
        return self.conv(rearrange(x, together, s=self.stride, b=memory.batch))


class Grow(TimeLayer):
    """A frame to `stride`."""

    def __init__(self, width: int, stride: int, backend: Backend):
        super().__init__()
        self.stride = stride
        self.conv = backend.operations.Conv2d(width, stride * width, 1, bias=False)

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        apart = "(t b) (s c) h w -> (t s b) c h w"
        return rearrange(self.conv(x), apart, s=self.stride, b=memory.batch)


class SoftClamp(nn.Module):
    """Keeps latents within ±3."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


class Coder(nn.ModuleList):
    """Layers one after the other, on (T * B, C, H, W)."""

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        for layer in self:
            x = layer(x, memory) if isinstance(layer, TimeLayer) else layer(x)
        return x


def _encoder(config: TinyVAEConfig, backend: Backend) -> Coder:
    conv, width = backend.operations.Conv2d, config.encoder_width
    layers: list[nn.Module] = [conv(3, width, 3, padding=1), nn.ReLU()]
    for stride in _STRIDES[::-1]:
        layers.append(Pool(width, stride, backend))
        layers.append(conv(width, width, 3, stride=2, padding=1, bias=False))
        layers += (MemoryBlock(width, backend) for _ in range(3))
    return Coder([*layers, conv(width, config.latent_channels, 3, padding=1)])


def _decoder(config: TinyVAEConfig, backend: Backend) -> Coder:
    conv, widths = backend.operations.Conv2d, config.widths
    first = conv(config.latent_channels, widths[0], 3, padding=1)
    layers: list[nn.Module] = [SoftClamp(), first, nn.ReLU()]
    for width, narrower, stride in zip(widths[:-1], widths[1:], _STRIDES, strict=True):
        layers += (MemoryBlock(width, backend) for _ in range(3))
        layers += [nn.Upsample(scale_factor=2), Grow(width, stride, backend)]
        layers.append(conv(width, narrower, 3, padding=1, bias=False))
    return Coder([*layers, nn.ReLU(), conv(widths[-1], 3, 3, padding=1)])


class TinyVAE(VideoAutoencoder):
    """Video <-> normalised latents."""

    def __init__(self, config: TinyVAEConfig, backend: Backend = TORCH):
        super().__init__(config.latent_channels, config.stride, backend)
        self.config = config
        self.encoder, self.decoder = _encoder(config, backend), _decoder(config, backend)
        register_statistics(self)

    # Its own latents are normalised; ComfyUI's Wan nodes exchange them before normalisation.
    normalize = VideoAutoencoder.standardize
    denormalize = VideoAutoencoder.unstandardize

    def encode(self, video: Tensor, tiles: int = 1) -> Tensor:
        self.check_video(video)
        return in_tiles(self._encode, video, tiles, _PIXELS_SEEN, shrink=self.stride[1]).float()

    def _encode(self, video: Tensor) -> Tensor:
        memory, latents = Memory(video.shape[0]), []
        for group in video.split(self.stride[0], dim=2):
            missing = self.stride[0] - group.shape[2]  # of the last group: its frame is repeated
            frames = torch.cat([group, *[group[:, :, -1:]] * missing], dim=2)
            latents.append(self.encoder(self._enter((frames + 1) / 2), memory))
        return torch.stack(latents, dim=2)

    def decode(self, latents: Tensor, tiles: int = 1) -> Tensor:
        """Normalised latents (B, C, t, h, w) -> video (B, 3, 1 + (t-1)*stride, H, W).

        The video is within [-1, 1], in the compute dtype.
        """
        self.check_latents(latents)
        return in_tiles(self._decode, latents, tiles, _LATENTS_SEEN, grow=self.stride[1])

    def _decode(self, latents: Tensor) -> Tensor:
        memory = Memory(latents.shape[0])
        frames = [self.decoder(self._enter(x), memory) for x in latents.split(1, dim=2)]
        video = rearrange(torch.cat(frames), "(t b) c h w -> b c t h w", b=memory.batch)
        return video[:, :, self.stride[0] - 1 :].clamp(0, 1).mul(2).sub(1)

    def _enter(self, x: Tensor) -> Tensor:
        frames = rearrange(self.backend.to(x), "b c t h w -> (t b) c h w")
        return frames.contiguous(memory_format=torch.channels_last)
