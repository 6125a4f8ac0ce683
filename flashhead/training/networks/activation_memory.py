"""Training a generator that does not fit: recomputed activations, weights brought in by the block.

Without this a step keeps every block's activations: some 30 tensors of (tokens, dim) each.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from ...models.generator import Block, Generator


class CheckpointedBlock(Block):
    """A block that keeps its inputs only, and runs again for the backward pass."""

    def forward(self, *inputs) -> Tensor:
        if not torch.is_grad_enabled():
            return self.compute(*inputs)
        # Nothing in a block is random, so no random state needs keeping.
        return checkpoint(self.compute, *inputs, use_reentrant=False, preserve_rng_state=False)

    def compute(self, *inputs) -> Tensor:
        return super().forward(*inputs)


class VisitingBlock(CheckpointedBlock):
    """One whose frozen weights live elsewhere and visit the computing device while it runs.

    Between forward and backward nothing of them stays: the backward pass fetches them again.
    """

    def compute(self, *inputs) -> Tensor:
        device = inputs[0].device
        visiting = {
            name: weight.to(device, non_blocking=True)
            for name, weight in self.named_parameters()
            if not weight.requires_grad
        }
        return functional_call(_Plain(self), {f"block.{k}": v for k, v in visiting.items()}, inputs)


class _Plain(nn.Module):
    """A block's own forward pass as a module's, for `functional_call`."""

    def __init__(self, block: Block):
        super().__init__()
        self.block = block

    def forward(self, *inputs) -> Tensor:
        return Block.forward(self.block, *inputs)


def checkpoint_blocks(generator: Generator) -> Generator:
    """Make every block of a generator recompute its activations; weights and keys stay."""
    for block in generator.blocks:
        block.__class__ = CheckpointedBlock
    return generator


def offload_blocks(generator: Generator, home: torch.device | str = "cpu") -> Generator:
    """Keep the blocks' frozen weights at `home` and bring them in block by block.

    For LoRA training, whose own weights stay on the computing device; put the generator there
    first. What `embed_audio` reads of a block outside its forward pass stays there too.
    """
    outside = tuple(f"cross_attn.{layer}." for layer in ("k", "v", "norm_k"))
    for block in generator.blocks:
        for name, weight in list(block.named_parameters()):
            if weight.requires_grad or name.startswith(outside):
                continue
            owner, _, leaf = name.rpartition(".")
            moved = nn.Parameter(weight.detach().to(home), requires_grad=False)
            setattr(block.get_submodule(owner), leaf, moved)
        block.__class__ = VisitingBlock
    return generator
