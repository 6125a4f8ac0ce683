"""The losses of a VAE: weighted reconstruction, temporal differences, edges, a small KL.

Videos are (B, 3, T, H, W) in [-1, 1], weights (B, 1, T, H, W).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def region_weight(
    mouth: Tensor, eyes: Tensor, face: Tensor, *, mouth_weight: float, eyes_weight: float
) -> Tensor:
    """The weight of each pixel, (B, 1, T, H, W): 1, plus 1 in the face, `mouth_weight` in the
    mouth and `eyes_weight` in the eyes; then scaled so that each sample's mean is 1.

    mouth, eyes, face: masks (B, T, H, W) in [0, 1].
    """
    weight = 1 + face + mouth_weight * mouth + eyes_weight * eyes
    return (weight / weight.mean(dim=(1, 2, 3), keepdim=True)).unsqueeze(1)


def reconstruction_loss(made: Tensor, video: Tensor, weight: Tensor, square: float) -> Tensor:
    """Mean of weight * (|d| + square * d^2).

    The absolute difference alone is least at the median, which is a mouth that never opens.
    """
    error = (made - video).abs()
    return (weight * (error + square * error.square())).mean()


def temporal_loss(made: Tensor, video: Tensor, weight: Tensor) -> Tensor:
    """Mean weighted absolute difference of the frame-to-frame differences."""
    change = (made.diff(dim=2) - video.diff(dim=2)).abs()
    return (torch.maximum(weight[:, :, 1:], weight[:, :, :-1]) * change).mean()


def detail_loss(made: Tensor, video: Tensor, weight: Tensor) -> Tensor:
    """Mean weighted absolute difference of the differences between neighbouring pixels: edges."""
    error = made - video
    across = (weight[..., 1:] * error.diff(dim=4).abs()).mean()
    down = (weight[..., 1:, :] * error.diff(dim=3).abs()).mean()
    return (across + down) / 2


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Mean over elements of KL(N(mean, variance) || N(0, 1)), in nats.

    log_variance broadcasts: LTX has one for all channels of a latent.
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()


class LatentProbe(nn.Module):
    """A linear prediction of openness and width from latents: (B, C, t, h, w) -> (B, T, 2).

    Each latent frame predicts those of the frames that it codes; the first codes one frame alone.
    Its loss makes the encoder keep the mouth long before the loss of the pixels does.
    """

    def __init__(self, channels: int, frames: int, size: tuple[int, int]):
        super().__init__()
        self.frames = frames
        self.read = nn.Linear(channels * size[0] * size[1], 2 * frames)

    def start(self) -> None:
        """Predict 0.5 at first: random weights would give the encoder random gradients."""
        nn.init.zeros_(self.read.weight)
        nn.init.constant_(self.read.bias, 0.5)

    def forward(self, latents: Tensor) -> Tensor:
        flat = latents.permute(0, 2, 1, 3, 4).flatten(2)
        read = self.read(flat).unflatten(2, (self.frames, 2)).flatten(1, 2)
        return read[:, self.frames - 1 :]


def probe_loss(read: Tensor, openness: Tensor, width: Tensor) -> Tensor:
    """Mean squared error of (B, T, 2) against (B, T) each."""
    return functional.mse_loss(read, torch.stack([openness, width], dim=2))
