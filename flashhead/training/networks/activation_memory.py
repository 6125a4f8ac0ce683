"""Training a generator in less memory: activation checkpointing, and offloaded frozen weights.

Without it a step keeps the activations of every block, some 30 tensors of (tokens, dim) each.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from ...models.generator import Block, Generator


class CheckpointedBlock(Block):
    """A block that stores its inputs alone, and runs again in the backward pass."""

    def forward(self, *inputs: Any, **options: Any) -> Tensor:
        if not torch.is_grad_enabled():
            return self.compute(*inputs, **options)
        # Nothing in a block is random, so no random state needs keeping.
        return checkpoint(
            self.compute, *inputs, use_reentrant=False, preserve_rng_state=False, **options
        )

    def compute(self, *inputs: Any, **options: Any) -> Tensor:
        """The block's own forward pass."""
        return super().forward(*inputs, **options)


class OffloadedBlock(CheckpointedBlock):
    """A checkpointed block whose frozen weights are copied to the computing device while it runs.

    The copies do not stay for the backward pass, which makes them again.
    """

    def compute(self, *inputs: Any, **options: Any) -> Tensor:
        device = inputs[0].device
        copies = {
            name: weight.to(device, non_blocking=True)
            for name, weight in self.named_parameters()
            if not weight.requires_grad
        }
        named = {f"block.{name}": copy for name, copy in copies.items()}
        return functional_call(_Plain(self), named, inputs, options)


class _Plain(nn.Module):
    """A block's own forward pass as a module's, for `functional_call`."""

    def __init__(self, block: Block):
        super().__init__()
        self.block = block

    def forward(self, *inputs: Any, **options: Any) -> Tensor:
        return Block.forward(self.block, *inputs, **options)


def checkpoint_blocks(generator: Generator) -> Generator:
    """Make every block of a generator recompute its activations; weights and keys do not change."""
    for block in generator.blocks:
        block.__class__ = CheckpointedBlock
    return generator


def offload_blocks(generator: Generator, home: torch.device | str = "cpu") -> Generator:
    """Keep the blocks' frozen weights on another device, and copy them block by block when needed.

    For LoRA training, whose own weights stay on the computing device. The weights that
    `Generator.embed_audio` reads outside a block's forward pass stay there too.

    Args:
        generator: changed in place, on the computing device.
        home: the device that keeps the weights.
    """
    outside = tuple(f"cross_attn.{layer}." for layer in ("k", "v", "norm_k"))
    for block in generator.blocks:
        for name, weight in list(block.named_parameters()):
            if weight.requires_grad or name.startswith(outside):
                continue
            owner, _, leaf = name.rpartition(".")
            moved = nn.Parameter(weight.detach().to(home), requires_grad=False)
            setattr(block.get_submodule(owner), leaf, moved)
        block.__class__ = OffloadedBlock
    return generator
