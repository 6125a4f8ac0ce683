"""Updates at the sizes of Lite and Pro, counted on the meta device, whose tensors have no numbers:
operations, bytes kept for the backward pass, and which weights get gradients.

A network of two blocks is compared with one of a single block, which gives the cost of a block.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from flashhead.geometry import CHUNK_FRAMES
from flashhead.models.backend import build
from flashhead.models.config import GeneratorConfig
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
from flashhead.training.networks.activation_memory import checkpoint_blocks, offload_blocks
from flashhead.training.networks.lora import add_lora

from .small import rng

SIZES = {"lite": PUBLISHED_LITE.generator, "pro": PUBLISHED_PRO.generator}
FLOAT = 4
"""Bytes of a float32."""
AUDIO_TOKENS = 32
SEED = 1
"""Of stage 2's draws, such as the step that gets the gradient."""


@pytest.fixture(params=SIZES)
def config(request) -> GeneratorConfig:
    return SIZES[request.param]


def generator(config: GeneratorConfig, blocks: int) -> Generator:
    network = build(lambda: Generator(replace(config, num_layers=blocks)))
    return network.train().requires_grad_(True)


def chunk(config: GeneratorConfig) -> ChunkBatch:
    """One at 512x512."""
    shape = (1, *config.geometry.latent_shape((512, 512)))

    def empty(*axes: int) -> torch.Tensor:
        return torch.empty(axes, device="meta")

    return ChunkBatch(
        latents=empty(*shape),
        reference=empty(*shape),
        context=empty(1, CHUNK_FRAMES, config.audio_window, 12, 768),
        face=empty(1, 1, *shape[2:]),
        mouth=empty(1, CHUNK_FRAMES, 2),
    )


def tokens(config: GeneratorConfig) -> tuple[int, int]:
    """Of a chunk: video tokens, and audio tokens of all latent frames."""
    _, frames, height, width = config.geometry.latent_shape((512, 512))
    patches = (height // config.patch_size[1]) * (width // config.patch_size[2])
    return frames * patches, frames * AUDIO_TOKENS


def stage1(network: Generator, batch: ChunkBatch) -> torch.Tensor:
    draws = FlowDraws.draw(batch.latents.shape, rng())
    return flow_losses(predict_flow(network, batch, draws), batch.face)["loss"]


def stage2(network: Generator, batch: ChunkBatch) -> torch.Tensor:
    blocks = len(network.blocks)
    real, fake = (generator(network.config, blocks).requires_grad_(False) for _ in range(2))
    motion = batch.latents[:, :, :2]
    start = StudentStart(batch, motion, motion)
    return student_losses(network, real, fake, start, DistillationSettings(), rng(SEED))["loss"]


Cost = tuple[int, int, int]
"""Operations forward, operations backward, bytes kept between the two."""


def cost(network: Generator, batch: ChunkBatch, stage: Callable[..., torch.Tensor]) -> Cost:
    weights = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    with FlopCounterMode(display=False) as forward, saved_tensors_hooks(keep, lambda x: x):
        loss = stage(network, batch)
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    stored = sum(storage.nbytes() for key, storage in kept.items() if key not in weights)
    return forward.get_total_flops(), backward.get_total_flops(), stored


@lru_cache
def block_cost(
    config: GeneratorConfig,
    stage: Callable[..., torch.Tensor] = stage1,
    adapt: Callable[[Generator], Generator] = lambda network: network,
) -> Cost:
    one, two = (cost(adapt(generator(config, n)), chunk(config), stage) for n in (1, 2))
    forward, backward, stored = (b - a for a, b in zip(one, two, strict=True))
    return forward, backward, stored


def test_the_whole_generator_takes_the_operations_that_design_counts():
    """DESIGN §1.7, in TFLOP a step."""
    for name, expected in (("lite", 3.56), ("pro", 38.8)):
        config = SIZES[name]
        whole = cost(generator(config, 1), chunk(config), stage1)[0]
        whole += (config.num_layers - 1) * block_cost(config)[0]
        assert whole / 1e12 == pytest.approx(expected, rel=2e-3)


def test_checkpointing_keeps_a_blocks_inputs_for_one_more_forward_pass(config):
    forward, backward, stored = block_cost(config)
    again, with_recomputing, kept = block_cost(config, adapt=checkpoint_blocks)
    assert again == forward and backward == 2 * forward
    video, audio = tokens(config)
    # All but the keys and values of the audio, which are computed outside the blocks.
    outside = 2 * 2 * audio * config.dim**2
    assert with_recomputing == 3 * forward - outside
    # The block's tokens, keys and values of its audio, and its modulation; beside them what the
    # keys' norm and the sum of modulations need.
    inputs = FLOAT * config.dim * (video + 2 * audio + 6)
    assert inputs <= kept <= inputs + FLOAT * config.dim
    assert stored > 30 * FLOAT * video * config.dim


def test_a_students_update_keeps_one_step_of_its_sampler(config):
    """Steps before the random one, and both scores, cost their forward passes and no memory."""
    forward, backward, stored = block_cost(config)
    of_stage2 = block_cost(config, stage2)
    steps = 1 + int(torch.randint(DistillationSettings().steps, (), generator=rng(SEED)))
    assert steps > 1  # or the test would show nothing
    scores = 3  # the real one with and without audio, and the fake one
    assert of_stage2 == ((steps + scores) * forward, backward, stored)


def test_full_training_reaches_every_weight(config):
    network = checkpoint_blocks(generator(config, 2))
    stage2(network, chunk(config)).backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in network.parameters())
    torch.optim.AdamW(network.parameters(), lr=2e-4, foreach=False).step()


def test_lora_training_reaches_the_low_rank_matrices_alone(config):
    """And with offloading, the frozen weights are not kept for the backward pass."""
    rank = 16

    def offloaded(network: Generator) -> Generator:
        return offload_blocks(add_lora(network, rank, rng()), "meta")

    network = offloaded(generator(config, 2))
    stage2(network, chunk(config)).backward()
    learning = {name for name, p in network.named_parameters() if p.grad is not None}
    assert learning == {
        f"blocks.{block}.{layer}.{matrix}"
        for block in range(2)
        for layer in (
            *(f"{attention}.{x}" for attention in ("self_attn", "cross_attn") for x in "qkvo"),
            *("ffn.0", "ffn.2"),
        )
        for matrix in ("up", "down")
    }
    video, audio = tokens(config)
    kept = block_cost(config, adapt=offloaded)[2]
    assert kept < FLOAT * config.dim * (video + 4 * audio + 100)
