"""Stage 1's losses against cases worked out by hand."""

import pytest
import torch

from flashhead.training.data.latent_regions import pool_region
from flashhead.training.flow.losses import (
    diffusion_loss,
    face_loss,
    flow_losses,
    temporal_loss,
    weighted_mean,
)
from flashhead.training.flow.matching import FlowPrediction, new_frames
from flashhead.training.flow.mouth_head import MouthHead, mouth_losses


def prediction(velocity, target, motion: int) -> FlowPrediction:
    """One latent a frame, one channel."""
    velocity, target = (torch.tensor(v, dtype=torch.float32) for v in (velocity, target))
    velocity, target = (v.view(1, 1, -1, 1, 1) for v in (velocity, target))
    new = new_frames(torch.tensor([motion]), velocity)
    return FlowPrediction(velocity, target, torch.zeros_like(velocity), torch.ones(1), new)


def test_by_hand():
    # Errors 0 (a motion frame, whatever it says), 1 and 2.
    case = prediction([5, 1, 3], [0, 0, 1], motion=1)
    face = torch.tensor([1, 0.5, 1]).view(1, 1, 3, 1, 1)
    assert diffusion_loss(case).item() == pytest.approx((1 + 4) / 2)
    assert face_loss(case, face).item() == pytest.approx((0.5 * 1 + 1 * 4) / 1.5)
    assert temporal_loss(case).item() == pytest.approx(((1 - 0) ** 2 + (2 - 1) ** 2) / 2)
    losses = flow_losses(case, face, face_weight=2.0, temporal_weight=3.0)
    assert losses["loss"].item() == pytest.approx(2.5 + 2 * 3 + 3 * 1)


def test_a_constant_error_has_no_temporal_loss_but_at_the_seam():
    assert temporal_loss(prediction([9, 9, 2, 2], [0, 0, 1, 1], motion=2)).item() == 0.5
    assert temporal_loss(prediction([1, 1, 1], [0, 0, 0], motion=0)).item() == 0


def test_no_face_is_no_loss():
    case = prediction([1, 1], [0, 0], motion=1)
    assert face_loss(case, torch.zeros(1, 1, 2, 1, 1)).item() == 0


def test_a_weight_counts_every_element_that_it_is_spread_over():
    values = torch.tensor([[1.0, 3.0], [5.0, 7.0]])
    assert weighted_mean(values, torch.tensor([[1.0], [0.0]])).item() == 2


def test_regions_are_averaged_over_what_a_latent_codes():
    mask = torch.zeros(1, 1, 5, 2, 4)
    mask[0, 0, 0, :, :2] = 1  # the first frame alone, one of two latents
    mask[0, 0, 2, 0, 3] = 1  # one pixel of the 4 * 2 * 2 of the other latent
    pooled = pool_region(mask, (4, 2, 2))
    assert pooled.flatten().tolist() == [1, 0, 0, 1 / 16]
    with pytest.raises(ValueError, match="does not fit"):
        pool_region(mask, (3, 2, 2))


def test_the_mouth_head_and_the_generator_are_trained_apart():
    head = MouthHead(4, 2, (2, 2), hidden=8)
    clean = torch.randn(1, 4, 3, 2, 2)
    predicted = torch.randn(1, 4, 3, 2, 2, requires_grad=True)
    mouth = torch.rand(1, 5, 2)
    new = new_frames(torch.tensor([1]), clean)
    assert head(clean).shape == (1, 5, 2)
    losses = mouth_losses(head, clean, predicted, mouth, new)
    losses["mouth"].backward()
    assert predicted.grad[:, :, 1:].any() and not predicted.grad[:, :, :1].any()
    assert all(p.grad is None for p in head.parameters())
    by_hand = (head(predicted) - mouth)[:, 1:].square().mean()  # the first latent is one frame
    torch.testing.assert_close(losses["mouth"], by_hand)
    predicted.grad = None
    losses["mouth_head"].backward()
    assert predicted.grad is None
    assert all(p.grad is not None for p in head.parameters())
