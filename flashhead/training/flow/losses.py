"""Stage 1's losses: diffusion, face region, temporal differences (DESIGN §1.8)."""

from __future__ import annotations

import torch
from torch import Tensor

from .matching import FlowPrediction


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Mean of `values` by `weight`, which broadcasts to it; 0 where all weights are 0."""
    weight = weight.expand_as(values)
    return (values * weight).sum() / weight.sum().clamp_min(torch.finfo(values.dtype).tiny)


def diffusion_loss(prediction: FlowPrediction) -> Tensor:
    """Mean squared error of the velocity over the frames to predict."""
    return weighted_mean(prediction.error.square(), prediction.new)


def face_loss(prediction: FlowPrediction, face: Tensor) -> Tensor:
    """Mean squared error of the velocity, weighted by `face` (B, 1, T, h, w) in [0, 1]."""
    return weighted_mean(prediction.error.square(), prediction.new * face)


def temporal_loss(prediction: FlowPrediction) -> Tensor:
    """Mean squared error of the velocity's differences between neighbouring latent frames.

    The step from the last motion frame to the first new one counts too: a motion frame has no
    error, so what jumps there is a seam. Zero for a single latent frame.
    """
    if prediction.error.shape[2] < 2:
        return prediction.error.sum() * 0
    return weighted_mean(prediction.error.diff(dim=2).square(), prediction.new[:, :, 1:])


def flow_losses(
    prediction: FlowPrediction,
    face: Tensor,
    *,
    face_weight: float = 1.0,
    temporal_weight: float = 0.5,
) -> dict[str, Tensor]:
    """The three losses by name, and their weighted sum as "loss"."""
    parts = {
        "diffusion": diffusion_loss(prediction),
        "face": face_loss(prediction, face),
        "temporal": temporal_loss(prediction),
    }
    total = parts["diffusion"] + face_weight * parts["face"] + temporal_weight * parts["temporal"]
    return {"loss": total, **parts}
