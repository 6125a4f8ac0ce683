"""One training step at the sizes of Lite and Pro, two blocks of thirty, shapes only: on the meta
device, whose tensors have no numbers. Nothing here says how long a step takes or what memory."""

from dataclasses import replace

import pytest
import torch

from flashhead.geometry import CHUNK_FRAMES
from flashhead.models.backend import build
from flashhead.models.generator import Generator
from flashhead.testing import PUBLISHED_LITE, PUBLISHED_PRO
from flashhead.training.data.chunk_batch import ChunkBatch
from flashhead.training.distillation.losses import (
    DistillationSettings,
    StudentStart,
    student_losses,
)
from flashhead.training.flow.losses import flow_losses
from flashhead.training.flow.matching import FlowDraws, predict_flow
from flashhead.training.networks.activation_memory import checkpoint_blocks
from flashhead.training.networks.lora import add_lora

from .small import rng

BLOCKS = 2
SIZES = {
    name: replace(sizes.generator, num_layers=BLOCKS)
    for name, sizes in (("lite", PUBLISHED_LITE), ("pro", PUBLISHED_PRO))
}


@pytest.fixture(params=SIZES)
def config(request):
    return SIZES[request.param]


def on_meta(config) -> tuple[Generator, ChunkBatch]:
    shape = (1, *config.geometry.latent_shape((512, 512)))
    layers, channels = 12, 768

    def empty(*axes: int) -> torch.Tensor:
        return torch.empty(axes, device="meta")

    batch = ChunkBatch(
        latents=empty(*shape),
        reference=empty(*shape),
        context=empty(1, CHUNK_FRAMES, config.audio_window, layers, channels),
        face=empty(1, 1, *shape[2:]),
        mouth=empty(1, CHUNK_FRAMES, 2),
    )
    return build(lambda: Generator(config)), batch


def test_full_training(config):
    network, batch = on_meta(config)
    checkpoint_blocks(network).train().requires_grad_(True)
    draws = FlowDraws.draw(batch.latents.shape, rng())
    flow_losses(predict_flow(network, batch, draws), batch.face)["loss"].backward()
    assert all(p.grad.shape == p.shape for p in network.parameters())
    torch.optim.AdamW(network.parameters(), lr=2e-4, foreach=False).step()


def test_lora_training_and_distillation(config):
    network, batch = on_meta(config)
    scores = build(lambda: Generator(config))
    checkpoint_blocks(add_lora(network, 16, rng()))
    motion = batch.latents[:, :, :2]
    losses = student_losses(
        network,
        scores,
        scores,
        StudentStart(batch, motion, motion),
        DistillationSettings(steps=2),
        rng(),
    )
    losses["loss"].backward()
    adapted = [p for p in network.parameters() if p.grad is not None]
    assert len(adapted) == BLOCKS * 10 * 2
    assert sum(p.numel() for p in adapted) == sum(
        p.numel() for p in network.parameters() if p.requires_grad
    )
