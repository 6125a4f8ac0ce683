"""The Wan 2.1 VAE: causal in time, frame groups in and frame groups out (DESIGN §1.4).

Modules carry the names of Wan-AI's published file. A video is encoded in groups of frames (one,
then four by four) and decoded one latent frame at a time. What a convolution needs of the groups
before is kept in a `FeatureCache`, a new one for every call. Tensors are (B, C, T, H, W) with the
channels last in memory: tensor cores want that, and frames become a batch of images without a copy.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain, zip_longest

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from .backend import TORCH, Backend
from .config import WanVAEConfig
from .tiles import in_tiles
from .vae import VideoAutoencoder, channel_energy

LATENTS_MEAN = (
    *(-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508),
    *(0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921),
)
LATENTS_STD = (
    *(2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743),
    *(3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160),
)

FeatureCache = dict[nn.Module, Tensor]
"""Each causal convolution's last input frames (B, C, n, H, W)."""


class RMSNorm(nn.Module):
    """Each position's channels over their root mean square, times `gamma`; summed in float32."""

    def __init__(self, channels: int, backend: Backend, *, axes: int = 3):
        super().__init__()
        self.backend = backend
        self.gamma = nn.Parameter(torch.ones(channels, *(1,) * axes))

    def forward(self, x: Tensor, front: Tensor | None = None) -> Tensor:
        """Normalised x. With the frames `front` before it: those and SiLU of it, as one tensor.

        Run eagerly, that is written in place where a convolution reads it: passes over memory like
        these are a third of the time of a decode.
        """
        scale = (x.shape[1] / channel_energy(x).clamp_min(1e-24)).sqrt()
        scale = scale.clamp_max(torch.finfo(x.dtype).max).to(x.dtype)
        gamma = self.backend.cast(self.gamma, x.dtype, x.device)
        if front is None:
            return x * scale * gamma
        if x.requires_grad or torch.compiler.is_compiling():
            return torch.cat([front, functional.silu(x * scale * gamma)], dim=2)
        (b, c, t, h, w), n = x.shape, front.shape[2]
        frames = x.new_empty((b, n + t, h, w, c)).movedim(-1, 1)
        frames[:, :, :n] = front
        body = torch.mul(x, scale, out=frames[:, :, n:])
        functional.silu(body.mul_(gamma), inplace=True)
        return frames


def causal_conv(
    conv: nn.Module, x: Tensor, cache: FeatureCache, norm: nn.Module | None = None
) -> Tensor:
    """A convolution over a frame and the two before it: as many frames out as x has.

    Those before x come from the cache, zeros at the first call. With an `RMSNorm` x is first
    normalised and activated by SiLU.
    """
    front = cache.get(conv)
    if front is None:
        b, c, _, h, w = x.shape
        front = x.new_zeros((b, 2, h, w, c)).movedim(-1, 1)
    frames = torch.cat([front, x], dim=2) if norm is None else norm(x, front)
    cache[conv] = frames[:, :, -2:].clone(memory_format=torch.channels_last_3d)
    return conv(frames)


def _conv(in_channels: int, out_channels: int, backend: Backend) -> nn.Module:
    """3x3x3, padded in height and width; `causal_conv` pads it in time."""
    return backend.operations.Conv3d(in_channels, out_channels, 3, padding=(0, 1, 1))


def per_frame(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A layer for images on every frame of x (B, C, T, H, W)."""
    images = layer(rearrange(x, "b c t h w -> (b t) c h w"))
    return rearrange(images, "(b t) c h w -> b c t h w", b=x.shape[0])


class ResidualBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, backend: Backend):
        super().__init__()
        self.residual = nn.ModuleDict(
            {
                "0": RMSNorm(in_channels, backend),
                "2": _conv(in_channels, out_channels, backend),
                "3": RMSNorm(out_channels, backend),
                "6": _conv(out_channels, out_channels, backend),
            }
        )
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.shortcut = backend.operations.Conv3d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, cache: FeatureCache) -> Tensor:
        norm1, conv1, norm2, conv2 = self.residual.values()
        hidden = causal_conv(conv1, x, cache, norm1)
        hidden = causal_conv(conv2, hidden, cache, norm2)
        return hidden.add_(self.shortcut(x))


class AttentionBlock(nn.Module):
    """Self-attention of one head among the positions of each frame."""

    def __init__(self, channels: int, backend: Backend):
        super().__init__()
        self.attention = backend.attention
        self.norm = RMSNorm(channels, backend, axes=2)
        self.to_qkv = backend.operations.Conv2d(channels, 3 * channels, 1)
        self.proj = backend.operations.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, cache: FeatureCache) -> Tensor:
        return x + per_frame(self._attend, x)

    def _attend(self, images: Tensor) -> Tensor:
        qkv = self.to_qkv(self.norm(images))
        q, k, v = rearrange(qkv, "n (qkv c) h w -> qkv n (h w) c", qkv=3)
        out = self.attention(q, k, v, 1)
        return self.proj(rearrange(out, "n (h w) c -> n c h w", h=images.shape[2]))


class Downsample(nn.Module):
    """Height and width halved; with `temporal`, the number of frames after the first too."""

    def __init__(self, channels: int, backend: Backend, *, temporal: bool):
        super().__init__()
        ops = backend.operations
        self.resample = nn.Sequential(
            nn.ZeroPad2d((0, 1, 0, 1)), ops.Conv2d(channels, channels, 3, stride=2)
        )
        self.time_conv = None
        if temporal:
            self.time_conv = ops.Conv3d(channels, channels, (3, 1, 1), stride=(2, 1, 1))

    def forward(self, x: Tensor, cache: FeatureCache) -> Tensor:
        x = per_frame(self.resample, x)
        if self.time_conv is None:
            return x
        front = cache.get(self.time_conv)
        cache[self.time_conv] = x[:, :, -1:].clone()
        return x if front is None else self.time_conv(torch.cat([front, x], dim=2))


class Upsample(nn.Module):
    """Height and width doubled, channels halved; with `temporal`, twice the frames of all latent
    frames but the first."""

    def __init__(self, channels: int, backend: Backend, *, temporal: bool):
        super().__init__()
        ops = backend.operations
        self.resample = nn.Sequential(
            nn.Upsample(scale_factor=2.0, mode="nearest-exact"),
            ops.Conv2d(channels, channels // 2, 3, padding=1),
        )
        self.time_conv = ops.Conv3d(channels, 2 * channels, (3, 1, 1)) if temporal else None

    def forward(self, x: Tensor, cache: FeatureCache) -> Tensor:
        if self.time_conv is not None:
            if self.time_conv in cache:
                x = causal_conv(self.time_conv, x, cache)
                x = rearrange(x, "b (twice c) t h w -> b c (t twice) h w", twice=2)
            else:  # the first latent frame stays one frame, and is no input of the convolution
                cache[self.time_conv] = torch.zeros_like(x).repeat(1, 1, 2, 1, 1)
        return per_frame(self.resample, x)


def _middle(width: int, backend: Backend) -> nn.ModuleList:
    first, last = (ResidualBlock(width, width, backend) for _ in range(2))
    return nn.ModuleList([first, AttentionBlock(width, backend), last])


def _head(in_channels: int, out_channels: int, backend: Backend) -> nn.ModuleDict:
    norm, conv = RMSNorm(in_channels, backend), _conv(in_channels, out_channels, backend)
    return nn.ModuleDict({"0": norm, "2": conv})


Layer = Callable[[Tensor, FeatureCache], Tensor]


def run(layers: Iterable[Layer], x: Tensor, cache: FeatureCache) -> Tensor:
    """Layers one after the other."""
    for layer in layers:
        x = layer(x, cache)
    return x


class Coder(nn.Module):
    """Runs its children in order: a convolution, two lists of blocks, a norm and a convolution.

    fine: how many layers there are from the pixels to the second change of size, which take most of
    the memory. step: pixels to a position behind them. reach: pixels that they see around one.
    """

    def __init__(self, config: WanVAEConfig, blocks: int):
        super().__init__()
        changes = min(2, len(config.temporal))
        self.fine, self.step = 1 + changes * (blocks + 1), 2**changes
        self.reach = 1 + sum(2**n * (2 * blocks + 2) for n in range(changes))

    def layers(self) -> list[Layer]:
        conv1, *parts, head = self.children()
        norm, conv = head.children()
        blocks = chain.from_iterable(part.children() for part in parts)
        return [partial(causal_conv, conv1), *blocks, partial(causal_conv, conv, norm=norm)]

    def forward(self, x: Tensor, cache: FeatureCache) -> Tensor:
        return run(self.layers(), x, cache)


class Encoder(Coder):
    """A group of frames (B, 3, T, H, W) -> moments (B, 2 * latent_channels, t, h, w)."""

    def __init__(self, config: WanVAEConfig, backend: Backend):
        super().__init__(config, config.residual_blocks)
        width = config.base_width
        self.conv1 = _conv(3, width, backend)
        self.downsamples = nn.ModuleList()
        for wider, temporal in zip_longest(config.widths, config.temporal):
            for _ in range(config.residual_blocks):
                self.downsamples.append(ResidualBlock(width, wider, backend))
                width = wider
            if temporal is not None:
                self.downsamples.append(Downsample(width, backend, temporal=temporal))
        self.middle = _middle(width, backend)
        self.head = _head(width, 2 * config.latent_channels, backend)


class Decoder(Coder):
    """A latent frame (B, latent_channels, 1, h, w) -> its frames (B, 3, T, H, W)."""

    def __init__(self, config: WanVAEConfig, backend: Backend):
        super().__init__(config, config.residual_blocks + 1)
        width = config.widths[-1]
        self.conv1 = _conv(config.latent_channels, width, backend)
        self.middle = _middle(width, backend)
        self.upsamples = nn.ModuleList()
        for narrower, temporal in zip_longest(config.widths[::-1], config.temporal[::-1]):
            for _ in range(config.residual_blocks + 1):
                self.upsamples.append(ResidualBlock(width, narrower, backend))
                width = narrower
            if temporal is not None:
                self.upsamples.append(Upsample(width, backend, temporal=temporal))
                width //= 2
        self.head = _head(width, 3, backend)


def register_statistics(vae: VideoAutoencoder) -> None:
    """Mean and deviation of Wan's latents as buffers: constants, not in the weight file; they have
    values even when built on the meta device."""
    for name, values in (("latents_mean", LATENTS_MEAN), ("latents_std", LATENTS_STD)):
        vae.register_buffer(name, torch.tensor(values, device="cpu"), persistent=False)


class WanVAE(VideoAutoencoder):
    """Video <-> normalised latents."""

    def __init__(self, config: WanVAEConfig, backend: Backend = TORCH):
        super().__init__(config.latent_channels, config.stride, backend)
        self.config = config
        conv, channels = backend.operations.Conv3d, config.latent_channels
        self.encoder = Encoder(config, backend)
        self.conv1 = conv(2 * channels, 2 * channels, 1)
        self.conv2 = conv(channels, channels, 1)
        self.decoder = Decoder(config, backend)
        register_statistics(self)

    # ComfyUI's Wan nodes exchange latents before normalisation.
    normalize = VideoAutoencoder.standardize
    denormalize = VideoAutoencoder.unstandardize

    def _enter(self, x: Tensor) -> Tensor:
        return self.backend.to(x).contiguous(memory_format=torch.channels_last_3d)

    def _in_tiles(
        self,
        layers: Iterable[Layer],
        groups: Sequence[Tensor],
        tiles: int,
        reach: int,
        **scale: int,
    ) -> Sequence[Tensor]:
        """Layers on groups of frames: of each tile all of them, before the next tile."""
        before, after = [group.shape[2] for group in groups], list[int]()

        def code(x: Tensor) -> Tensor:
            cache: FeatureCache = {}
            coded = [run(layers, self._enter(part), cache) for part in x.split(before, dim=2)]
            after[:] = [part.shape[2] for part in coded]
            return torch.cat(coded, dim=2)

        return in_tiles(code, torch.cat([*groups], dim=2), tiles, reach, **scale).split(
            after, dim=2
        )

    def moments(self, video: Tensor, tiles: int = 1) -> Tensor:
        coder, cache = self.encoder, FeatureCache()
        layers = coder.layers()
        groups = video.split([1] + [self.stride[0]] * (video.shape[2] // self.stride[0]), dim=2)
        if tiles > 1:
            fine, layers = layers[: coder.fine], layers[coder.fine :]
            groups = self._in_tiles(fine, groups, tiles, coder.reach, shrink=coder.step)
        moments = [self.conv1(run(layers, self._enter(group), cache)) for group in groups]
        return torch.cat(moments, dim=2)

    def decode(self, latents: Tensor, tiles: int = 1) -> Tensor:
        """Normalised latents (B, C, t, h, w) -> video (B, 3, 1 + (t-1)*stride, H, W).

        The video is clamped to [-1, 1], in the compute dtype.
        """
        self.check_latents(latents)
        cache: FeatureCache = {}
        latents = self.denormalize(self.backend.to(latents, torch.float32))
        frames = (self.conv2(self._enter(frame)) for frame in latents.split(1, dim=2))
        coder, layers = self.decoder, self.decoder.layers()
        if tiles == 1:
            decoded: Iterable[Tensor] = (run(layers, x, cache) for x in frames)
        else:
            coarse, fine = layers[: -coder.fine], layers[-coder.fine :]
            features = [run(coarse, x, cache) for x in frames]
            cache.clear()
            reach = -(-coder.reach // coder.step)
            decoded = self._in_tiles(fine, features, tiles, reach, grow=coder.step)
        return torch.cat([x.clamp_(-1, 1) for x in decoded], dim=2)
