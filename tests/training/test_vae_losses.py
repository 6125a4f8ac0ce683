import math

import pytest
import torch

from flashhead.training.vae.losses import (
    LatentProbe,
    detail_loss,
    kl_divergence,
    probe_loss,
    reconstruction_loss,
    region_weight,
    temporal_loss,
)


def video(*values: float) -> torch.Tensor:
    """(1, 1, T, 1, 1)."""
    return torch.tensor(values).view(1, 1, -1, 1, 1)


def test_reconstruction_by_hand():
    weight = video(1.0, 3.0)
    # 1 * (0.5 + 4 * 0.25) and 3 * (1 + 4), halved.
    loss = reconstruction_loss(video(0.5, -1.0), video(0.0, 0.0), weight, 4.0)
    assert loss == pytest.approx((1.5 + 15.0) / 2)


def test_temporal_counts_changes_and_not_offsets():
    weight = video(1.0, 1.0, 2.0)
    assert temporal_loss(video(1.0, 2.0, 3.0), video(0.0, 1.0, 2.0), weight) == 0
    # Changes 1, -1 against 0, 0, the second with the larger weight of its two frames.
    loss = temporal_loss(video(0.0, 1.0, 0.0), video(0.0, 0.0, 0.0), weight)
    assert loss == pytest.approx((1 * 1 + 2 * 1) / 2)


def test_detail_counts_edges_and_not_offsets():
    flat = torch.zeros(1, 1, 1, 2, 2)
    assert detail_loss(flat + 0.7, flat, torch.ones_like(flat)) == 0
    edge = torch.tensor([[0.0, 1.0], [0.0, 1.0]]).view(1, 1, 1, 2, 2)
    assert detail_loss(edge, flat, torch.ones_like(flat)) == pytest.approx(0.5)


def test_kl_by_hand():
    assert kl_divergence(torch.zeros(2, 3), torch.zeros(2, 1)) == 0
    # Mean 1, variance 1: 1/2 nat. Mean 0, variance e^2: (e^2 - 3) / 2.
    assert kl_divergence(torch.ones(1, 4), torch.zeros(1, 1)) == pytest.approx(0.5)
    wide = kl_divergence(torch.zeros(1, 4), torch.full((1, 1), 2.0))
    assert wide == pytest.approx((math.exp(2) - 3) / 2)


def test_region_weights_have_mean_one_and_the_ratios_asked():
    mouth, eyes, face = (torch.zeros(2, 1, 2, 2) for _ in range(3))
    face[..., 0, :] = 1
    mouth[..., 0, 0] = 1
    eyes[0, ..., 0, 1] = 1
    weight = region_weight(mouth, eyes, face, mouth_weight=10.0, eyes_weight=4.0)
    assert weight.shape == (2, 1, 1, 2, 2)
    assert torch.allclose(weight.mean(dim=(1, 2, 3, 4)), torch.ones(2))
    first = weight[0, 0, 0] / weight[0, 0, 0, 1, 1]
    assert torch.allclose(first, torch.tensor([[12.0, 6.0], [1.0, 1.0]]))


def test_the_probe_gives_each_frame_its_own_latent_frame():
    probe = LatentProbe(2, 4, (1, 1))
    with torch.no_grad():
        probe.read.weight.zero_()
        # Openness in the order of a latent frame's frames: 1, 2, 3, 4 times channel 0.
        probe.read.weight[0::2, 0] = torch.tensor([1.0, 2.0, 3.0, 4.0])
        probe.read.bias.zero_()
    latents = torch.tensor([[10.0, 20.0, 30.0], [0.0, 0.0, 0.0]]).view(1, 2, 3, 1, 1)
    read = probe(latents)
    assert read.shape == (1, 9, 2)
    assert read[0, :, 0].tolist() == [40, 20, 40, 60, 80, 30, 60, 90, 120]
    zero = torch.zeros(1, 9)
    assert probe_loss(read, read[..., 0], zero) == 0
