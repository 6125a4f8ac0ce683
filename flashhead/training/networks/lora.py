"""Low-rank adaptation of the generator, in a file that ComfyUI's LoRA loader takes.

ComfyUI names a model's matrices by their keys under `diffusion_model.`, and reads
`KEY.lora_A.weight` (rank, in), `KEY.lora_B.weight` (out, rank) and `KEY.alpha`: the matrix becomes
W + alpha / rank * B A.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...checkpoint.adapters import LORA_PREFIXES
from ...models.generator import Generator
from ..files import save_tensors

TARGETS = ("self_attn", "cross_attn", "ffn")


class LoRALinear(nn.Module):
    """A frozen linear layer plus a low-rank matrix, which is zero at first."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float, rng: torch.Generator):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.alpha = float(alpha)
        device = base.weight.device
        down = torch.empty(rank, base.in_features)
        nn.init.kaiming_uniform_(down, a=math.sqrt(5), generator=rng)
        self.down = nn.Parameter(down.to(device))
        self.up = nn.Parameter(torch.zeros(base.out_features, rank, device=device))

    @property
    def scale(self) -> float:
        return self.alpha / self.down.shape[0]

    def forward(self, x: Tensor) -> Tensor:
        low = functional.linear(functional.linear(x.to(self.down.dtype), self.down), self.up)
        return self.base(x) + (low * self.scale).to(x.dtype)


def add_lora(
    generator: Generator,
    rank: int,
    rng: torch.Generator,
    *,
    alpha: float | None = None,
    targets: tuple[str, ...] = TARGETS,
) -> Generator:
    """Freeze a generator and add low-rank matrices to its blocks' linear layers.

    Args:
        generator: changed in place.
        rank: of the matrices, at least 1.
        rng: of their first weights.
        alpha: their strength is alpha / rank; None means rank.
        targets: which of `TARGETS` in each block.

    Returns:
        The same generator; its only weights with gradients are the low-rank ones.
    """
    generator.requires_grad_(False)
    for name, layer in list(generator.blocks.named_modules()):
        if isinstance(layer, nn.Linear) and any(f".{t}." in f".{name}." for t in targets):
            owner, _, leaf = name.rpartition(".")
            adapted = LoRALinear(layer, rank, alpha or rank, rng)
            setattr(generator.blocks.get_submodule(owner), leaf, adapted)
    return generator


def lora_state(generator: Generator, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """The low-rank matrices by ComfyUI's keys, copied to the CPU."""
    state = {}
    for name, layer in generator.named_modules():
        if isinstance(layer, LoRALinear):
            key = LORA_PREFIXES[0] + name
            state[f"{key}.lora_A.weight"] = layer.down.detach().to("cpu", dtype, copy=True)
            state[f"{key}.lora_B.weight"] = layer.up.detach().to("cpu", dtype, copy=True)
            state[f"{key}.alpha"] = torch.tensor(layer.alpha)
    return state


def save_lora(generator: Generator, path: str | Path, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write the low-rank matrices for ComfyUI's LoRA loader."""
    save_tensors(Path(path), lora_state(generator, dtype), {"format": "pt"})
