"""The audio encoder's pre-training: its inputs, its targets, and that it learns."""

import pytest
import torch

from flashhead.training.audio.readout import (
    MouthReadout,
    cached_mouth,
    draw_speech,
    read_mouth,
    readout_losses,
)

from .small import audio_encoder, gradients, rng


def test_the_mouth_beside_the_cache_by_hand():
    mouth = torch.tensor([[0.5, 0.1], [0.6, 0.2], [0.7, 0.3]])
    expected = torch.tensor([[0, 0.1], [0, 0.1], [0.5, 0.1], [0.6, 0.2]])
    torch.testing.assert_close(cached_mouth(mouth, 2, 4 / 25), expected)
    torch.testing.assert_close(cached_mouth(mouth, 3, 2 / 25), mouth[1:])


def test_losses_by_hand():
    predicted, mouth = torch.zeros(1, 34, 2), torch.zeros(1, 34, 2)
    predicted[0, 0] = 2  # outside the last 33 frames
    losses = readout_losses(predicted, mouth, tail_weight=10, temporal_weight=100)
    assert losses["mouth"].item() == pytest.approx(4 / 34)
    assert losses["tail"].item() == 0
    assert losses["temporal"].item() == pytest.approx(4 / 33)
    assert losses["loss"].item() == pytest.approx(4 / 34 + 400 / 33)


def test_batches_line_up_and_repeat_with_the_seed():
    """A clip whose waveform spells its frame numbers shows where each frame went."""
    numbers = torch.arange(1.0, 51.0)
    clip = (numbers.repeat_interleave(640), torch.stack([numbers, numbers], dim=1))
    batch = draw_speech([clip] * 4, rng(), noise=0.0, cache_seconds=2.0)
    frames = batch.waveform.view(4, 50, 640)[..., 0]
    assert torch.equal(frames, batch.mouth[..., 0])
    assert len({int(row[-1]) for row in frames}) > 1  # they end at different moments
    again = draw_speech([clip] * 4, rng(), noise=0.0, cache_seconds=2.0)
    assert torch.equal(again.waveform, batch.waveform)


def test_every_layer_learns_to_carry_the_mouth():
    """A tone that comes and goes, and a mouth that opens with it."""
    encoder = audio_encoder()
    readout = MouthReadout(2, 32)
    torch.manual_seed(0)
    mouth = torch.zeros(50, 2)
    mouth[10:20], mouth[30:45] = 1, 1
    tone = torch.sin(torch.arange(50 * 640) * 0.2) * mouth[:, 0].repeat_interleave(640)
    optimizer = torch.optim.Adam([*encoder.parameters(), *readout.parameters()], lr=3e-3)
    losses = []
    for _ in range(25):
        loss = readout_losses(read_mouth(encoder, readout, tone[None]), mouth[None])["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert len(gradients(readout)) == 4
    features = encoder.encode(tone[None], 50)
    assert readout(features).shape == (1, 50, 2)
