"""First weights of a VAE: the best linear codec of its shape, fitted level by level.

From random weights an LTX VAE needs most of a small number of updates to learn that pictures are
mostly low frequencies. So principal components are fitted first: of patches, then of 2x2x2 blocks
of their coefficients, at every level. Residual branches begin at zero, so that they add nothing.
Encoder and decoder each end with a norm, a SiLU and a convolution, which together cannot be linear.
There the channels are scaled to vary little around 1, where a SiLU is nearly linear, and the
convolution is fitted by least squares.

All levels must have the same width, so that no residual block has a norm on its skip connection.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional

from ...errors import FlashHeadError
from ...models.ltx_vae import LTXVAE, TimePaddedConv3d, Upsampler, pixel_norm

SWING = 0.3
"""Standard deviation of a channel around 1 before the last norm."""


@dataclass(frozen=True)
class Basis:
    """Principal components: mean (n,), rows (k, n), deviation (k,) of each coefficient."""

    mean: Tensor
    rows: Tensor
    deviation: Tensor


def principal_components(samples: Tensor, weight: Tensor, count: int) -> Basis:
    """The first `count` of samples (N, n) with weights (N,); if n < count, the other rows are 0."""
    samples, weight = samples.double(), weight.double() / weight.double().sum()
    mean = weight @ samples
    centred = samples - mean
    values, vectors = torch.linalg.eigh(centred.T @ (centred * weight[:, None]))
    order = values.argsort(descending=True)[:count]
    rows, deviation = vectors[:, order].T, values[order].clamp_min(0).sqrt()
    missing = count - len(rows)
    rows = functional.pad(rows, (0, 0, 0, missing))
    deviation = functional.pad(deviation, (0, missing)).clamp_min(1e-4 * float(deviation[0]))
    return Basis(mean.float(), rows.float(), deviation.float())


def _centre(conv: TimePaddedConv3d, weight: Tensor, bias: Tensor) -> None:
    """Make a convolution of kernel 3 one of kernel 1, with the weight (out, in)."""
    conv.conv.weight.data.zero_()
    conv.conv.weight.data[:, :, conv.front, 1, 1] = weight
    conv.conv.bias.data.copy_(bias)


def _blocks(x: Tensor) -> Tensor:
    """(B, C, 1 + 2n, 2h, 2w) -> (B, 8C, 1 + n, h, w); the first frame is a pair with itself."""
    x = torch.cat([x[:, :, :1], x], dim=2)
    return rearrange(x, "b c (t pt) (h ph) (w pw) -> b (c pt ph pw) t h w", pt=2, ph=2, pw=2)


def _rows(x: Tensor) -> Tensor:
    return rearrange(x, "b c t h w -> (b t h w) c")


def _apply(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.einsum("bcthw,kc->bkthw", x, weight) + bias.view(1, -1, 1, 1, 1)


def _fit(features: Tensor, targets: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Ridge regression of targets (N, out) on features (N, in): matrix (out, in), bias (out,)."""
    x, y, w = features.double(), targets.double(), weight.double() / weight.double().sum()
    mean_x, mean_y = w @ x, w @ y
    x, y = x - mean_x, y - mean_y
    gram = x.T @ (x * w[:, None])
    gram += 1e-6 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    matrix = torch.linalg.solve(gram, x.T @ (y * w[:, None])).T
    return matrix.float(), (mean_y - matrix @ mean_x).float()


@torch.no_grad()
def linear_start(vae: LTXVAE, video: Tensor, weight: Tensor) -> None:
    """Fit a VAE whose residual branches are zero to videos (B, 3, T, H, W) in [-1, 1].

    weight: (B, 1, T, H, W), how much each pixel counts. On the CPU, in float32.

    Raises:
        FlashHeadError: a VAE whose widths or scalings differ between levels.
    """
    config = vae.config
    width = config.block_out_channels[0]
    if set(config.block_out_channels) != {width} or not all(config.spatio_temporal_scaling):
        raise FlashHeadError("A linear start needs equal widths, and scaling at every level.")
    if config.latent_channels > width:
        raise FlashHeadError(f"{config.latent_channels} latent channels out of {width}.")

    x = vae.patches(video)
    w = vae.patches(weight.expand(-1, 3, -1, -1, -1)).mean(dim=1, keepdim=True)
    patches, patch_weight = x, w
    bases = [principal_components(_rows(x), _rows(w)[:, 0], width)]
    scale = bases[0].deviation.square().mean().sqrt()
    matrix = bases[0].rows / scale
    _centre(vae.encoder.conv_in, matrix, -matrix @ bases[0].mean)
    x = _apply(x, matrix, -matrix @ bases[0].mean)

    levels = len(vae.encoder.down_blocks)
    for level, block in enumerate(vae.encoder.down_blocks):
        x, w = _blocks(x), _blocks(w).mean(dim=1, keepdim=True)
        last = level == levels - 1
        basis = principal_components(_rows(x), _rows(w)[:, 0], width)
        bases.append(basis)
        matrix = basis.rows * (SWING / basis.deviation[:, None] if last else 1.0)
        bias = float(last) - matrix @ basis.mean
        down, down_bias = (
            block.get_parameter(f"downsamplers.0.conv.{leaf}").data for leaf in ("weight", "bias")
        )
        down.zero_()
        down[:, :, 1:, 1:, 1:] = matrix.view(width, width, 2, 2, 2)
        down_bias.copy_(bias)
        x = _apply(x, matrix, bias)

    channels = config.latent_channels
    whitened = (x - 1)[:, :channels] / SWING
    features = _rows(functional.silu(pixel_norm(x)))
    matrix, bias = _fit(features, _rows(whitened), _rows(w)[:, 0])
    out = vae.encoder.conv_out.conv
    log_variance = float(out.bias.data[-1])
    _centre(
        vae.encoder.conv_out,
        functional.pad(matrix, (0, 0, 0, 1)),
        functional.pad(bias, (0, 1), value=log_variance),
    )
    latents = _apply(functional.silu(pixel_norm(x)), matrix, bias)
    _start_decoder(vae, bases, latents, patches, patch_weight)


def _start_decoder(
    vae: LTXVAE, bases: list[Basis], latents: Tensor, patches: Tensor, weight: Tensor
) -> None:
    width, channels = vae.config.block_out_channels[0], latents.shape[1]
    top = bases[-1]
    unwhiten = torch.zeros(width, channels)
    unwhiten[:channels] = torch.diag(top.deviation[:channels])
    _centre(vae.decoder.conv_in, unwhiten, torch.zeros(width))
    x = _apply(latents, unwhiten, torch.zeros(width))
    scale = bases[0].deviation.square().mean().sqrt()
    for level, block in enumerate(vae.decoder.up_blocks):
        basis = bases[-1 - level]
        matrix, bias = basis.rows.T, basis.mean
        if level == len(vae.decoder.up_blocks) - 1:
            factor = (SWING * scale / bases[0].deviation).repeat_interleave(8)
            matrix, bias = factor[:, None] * matrix, factor * bias + 1
        upsampler = block.get_submodule("upsamplers.0")
        assert isinstance(upsampler, Upsampler)
        _centre(upsampler.conv, matrix, bias)
        x = upsampler(x)
    features = functional.silu(pixel_norm(x))
    matrix, bias = _fit(_rows(features), _rows(patches), _rows(weight)[:, 0])
    _centre(vae.decoder.conv_out, matrix, bias)
