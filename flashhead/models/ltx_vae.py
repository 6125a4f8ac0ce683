"""The LTX-Video 0.9.0 VAE, causal encoder and non-causal decoder (DESIGN §1.4).

Modules carry the names of diffusers' `AutoencoderKLLTXVideo`.
"""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from .backend import TORCH, Backend, convolved_frames, named
from .config import LTXVAEConfig
from .tiles import in_tiles
from .vae import VideoAutoencoder, channel_energy


def pixel_norm(x: Tensor, eps: float = 1e-8) -> Tensor:
    """Each position's channels divided by their root mean square, summed in float32."""
    return x * torch.rsqrt(channel_energy(x) / x.shape[1] + eps).to(x.dtype)


class TimePaddedConv3d(nn.Module):
    """A 3-D convolution that repeats end frames in time: in front only, or at both ends."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        backend: Backend,
        *,
        causal: bool,
        kernel: int = 3,
        stride: int = 1,
    ):
        super().__init__()
        self.front, self.back = (kernel - 1, 0) if causal else (kernel // 2, kernel // 2)
        self.conv = backend.operations.Conv3d(
            in_channels, out_channels, kernel, stride=stride, padding=(0, kernel // 2, kernel // 2)
        )

    def forward(self, x: Tensor) -> Tensor:
        front = x[:, :, :1].expand(-1, -1, self.front, -1, -1)
        back = x[:, :, -1:].expand(-1, -1, self.back, -1, -1)
        return self.conv(convolved_frames(front, x, back))


def _reach(layers: nn.Module) -> int:
    """How far layers see, if all were at the resolution of their input: no less than they do."""
    convs = (layer for layer in layers.modules() if isinstance(layer, TimePaddedConv3d))
    return sum((conv.front + conv.back) // 2 for conv in convs)


class ResnetBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, backend: Backend, *, causal: bool):
        super().__init__()
        self.conv1 = TimePaddedConv3d(in_channels, out_channels, backend, causal=causal)
        self.conv2 = TimePaddedConv3d(out_channels, out_channels, backend, causal=causal)
        self.norm3: nn.Module | None = None
        if in_channels != out_channels:
            self.norm3 = backend.operations.LayerNorm(in_channels, eps=1e-6)
            self.conv_shortcut = TimePaddedConv3d(
                in_channels, out_channels, backend, causal=causal, kernel=1
            )

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv1(functional.silu(pixel_norm(x)))
        hidden = self.conv2(functional.silu(pixel_norm(hidden)))
        if self.norm3 is not None:
            x = self.conv_shortcut(self.norm3(x.movedim(1, -1)).movedim(-1, 1))
        return x + hidden


def _resnets(channels: int, layers: int, backend: Backend, *, causal: bool) -> nn.Sequential:
    blocks = (ResnetBlock(channels, channels, backend, causal=causal) for _ in range(layers))
    return nn.Sequential(*blocks)


def down_block(
    width: int, wider: int, layers: int, scale: bool, backend: Backend, *, causal: bool
) -> nn.Sequential:
    """Resnets, then (with `scale`) time, height and width halved, then more channels."""
    block = named(resnets=_resnets(width, layers, backend, causal=causal))
    if scale:
        halve = TimePaddedConv3d(width, width, backend, causal=causal, stride=2)
        block.add_module("downsamplers", nn.Sequential(halve))
    if width != wider:
        block.add_module("conv_out", ResnetBlock(width, wider, backend, causal=causal))
    return block


class Upsampler(nn.Module):
    """Time, height and width doubled by unfolding channels; the first frame is dropped."""

    def __init__(self, channels: int, backend: Backend, *, causal: bool):
        super().__init__()
        self.conv = TimePaddedConv3d(channels, 8 * channels, backend, causal=causal)

    def forward(self, x: Tensor) -> Tensor:
        unfold = "b (c pt ph pw) t h w -> b c (t pt) (h ph) (w pw)"
        return rearrange(self.conv(x), unfold, pt=2, ph=2, pw=2)[:, :, 1:]


class UpBlock(nn.Module):
    """Fewer channels, then (with `scale`) time, height and width doubled, then resnets."""

    def __init__(
        self, width: int, narrower: int, layers: int, scale: bool, backend: Backend, *, causal: bool
    ):
        super().__init__()
        # First, although they run last: saved optimisers know parameters by their order.
        self.resnets = _resnets(narrower, layers, backend, causal=causal)
        self.conv_in: nn.Module = nn.Identity()
        if width != narrower:
            self.conv_in = ResnetBlock(width, narrower, backend, causal=causal)
        self.upsamplers = nn.Sequential()
        if scale:
            self.upsamplers.append(Upsampler(narrower, backend, causal=causal))

    def forward(self, x: Tensor) -> Tensor:
        return self.resnets(self.upsamplers(self.conv_in(x)))


class Encoder(nn.Module):
    def __init__(self, config: LTXVAEConfig, backend: Backend):
        super().__init__()
        widths, causal = config.block_out_channels, config.encoder_causal
        *layers, middle = config.layers_per_block
        self.conv_in = TimePaddedConv3d(
            config.in_channels * config.patch_size**2, widths[0], backend, causal=causal
        )
        scaling = config.spatio_temporal_scaling
        levels = zip(widths, (*widths[1:], widths[-1]), layers, scaling, strict=True)
        self.down_blocks = nn.Sequential(
            *(down_block(*level, backend, causal=causal) for level in levels)
        )
        self.mid_block = named(resnets=_resnets(widths[-1], middle, backend, causal=causal))
        # The last channel is the log-variance of all others, which the posterior's mean needs not.
        self.conv_out = TimePaddedConv3d(
            widths[-1], config.latent_channels + 1, backend, causal=causal
        )

    def forward(self, x: Tensor, tiles: int = 1) -> Tensor:
        finest, *coarser = self.down_blocks.children()
        shrink = 2 if hasattr(finest, "downsamplers") else 1
        after = sum(_reach(layer) for name, layer in finest.named_children() if name == "conv_out")
        reach = _reach(self.conv_in) + _reach(finest) + (shrink - 1) * after
        x = in_tiles(lambda x: finest(self.conv_in(x)), x, tiles, reach, shrink=shrink)
        for block in (*coarser, self.mid_block):
            x = block(x)
        return self.conv_out(functional.silu(pixel_norm(x)))


class Decoder(nn.Module):
    def __init__(self, config: LTXVAEConfig, backend: Backend):
        super().__init__()
        widths, causal = config.block_out_channels[::-1], config.decoder_causal
        middle, *layers = (config.decoder_layers_per_block or config.layers_per_block)[::-1]
        scaling = config.spatio_temporal_scaling[::-1]
        self.conv_in = TimePaddedConv3d(config.latent_channels, widths[0], backend, causal=causal)
        self.mid_block = named(resnets=_resnets(widths[0], middle, backend, causal=causal))
        levels = zip((widths[0], *widths[:-1]), widths, layers, scaling, strict=True)
        self.up_blocks = nn.Sequential(
            *(UpBlock(*level, backend, causal=causal) for level in levels)
        )
        self.conv_out = TimePaddedConv3d(
            widths[-1], config.out_channels * config.patch_size**2, backend, causal=causal
        )

    def forward(self, x: Tensor, tiles: int = 1) -> Tensor:
        *coarser, finest = self.up_blocks.children()
        for block in (self.conv_in, self.mid_block, *coarser):
            x = block(x)
        grow = 2 if finest.upsamplers else 1
        reach = _reach(finest) + _reach(self.conv_out)
        return in_tiles(lambda x: self._finish(finest, x), x, tiles, reach, grow=grow)

    def _finish(self, finest: nn.Module, x: Tensor) -> Tensor:
        return self.conv_out(functional.silu(pixel_norm(finest(x))))


class LTXVAE(VideoAutoencoder):
    """Video <-> normalised latents."""

    def __init__(self, config: LTXVAEConfig, backend: Backend = TORCH):
        super().__init__(config.latent_channels, config.stride, backend)
        self.config = config
        self.encoder = Encoder(config, backend)
        self.decoder = Decoder(config, backend)
        self.register_buffer("latents_mean", torch.empty(config.latent_channels))
        self.register_buffer("latents_std", torch.empty(config.latent_channels))

    def normalize(self, latents: Tensor) -> Tensor:
        """The latents that ComfyUI's LTX nodes exchange, which are normalised already."""
        return latents

    denormalize = normalize

    def patches(self, video: Tensor) -> Tensor:
        """Video (B, 3, T, H, W) -> the encoder's input (B, 3 * p * p, T, H/p, W/p)."""
        p = self.config.patch_size
        return rearrange(video, "b c t (h ph) (w pw) -> b (c pw ph) t h w", ph=p, pw=p)

    def from_patches(self, patches: Tensor) -> Tensor:
        """The decoder's output (B, 3 * p * p, T, H/p, W/p) -> video (B, 3, T, H, W)."""
        p = self.config.patch_size
        return rearrange(patches, "b (c pw ph) t h w -> b c t (h ph) (w pw)", ph=p, pw=p)

    def moments(self, video: Tensor, tiles: int = 1) -> Tensor:
        return self.encoder(self.patches(self.backend.to(video)), tiles)

    def decode(self, latents: Tensor, tiles: int = 1) -> Tensor:
        """Normalised latents (B, C, t, h, w) -> video (B, 3, 1 + (t-1)*stride, H, W).

        The video is nominally in [-1, 1], not clamped, in the compute dtype.
        """
        latents = self.unstandardize(self.backend.to(latents, torch.float32))
        return self.from_patches(self.decoder(latents.to(self.backend.dtype), tiles))
