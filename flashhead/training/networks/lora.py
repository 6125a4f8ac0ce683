"""Low-rank adaptation of the generator, in a file that ComfyUI's LoRA loader takes.

ComfyUI names a model's matrices by their keys under `diffusion_model.`, and reads
`KEY.lora_A.weight` (rank, in), `KEY.lora_B.weight` (out, rank) and `KEY.alpha`: the matrix becomes
W + alpha / rank * B A.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from ...errors import CheckpointError
from ...models.generator import Generator

PREFIX = "diffusion_model."
TARGETS = ("self_attn", "cross_attn", "ffn")


class LoRALinear(nn.Module):
    """A linear layer, frozen, and a low-rank matrix beside it that starts at zero."""

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

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """The base layer with the low-rank matrix added to its weight, in place."""
        product = self.up.float() @ self.down.float() * self.scale
        weight = self.base.weight
        weight.data = (weight.float() + product.to(weight.device)).to(weight.dtype)
        return self.base


def _layers(generator: nn.Module, kind: type) -> Iterator[tuple[str, nn.Module]]:
    return ((name, m) for name, m in list(generator.named_modules()) if isinstance(m, kind))


def _replace(root: nn.Module, name: str, layer: nn.Module) -> None:
    owner, _, leaf = name.rpartition(".")
    setattr(root.get_submodule(owner), leaf, layer)


def add_lora(
    generator: Generator,
    rank: int,
    rng: torch.Generator,
    *,
    alpha: float | None = None,
    targets: tuple[str, ...] = TARGETS,
) -> Generator:
    """Freeze a generator and put low-rank matrices beside its blocks' linear layers.

    Args:
        rank: of the matrices, at least 1.
        alpha: their strength is alpha / rank; None means rank.
        targets: which of `TARGETS` in each block.

    Returns:
        The generator itself, changed; its only weights with gradients are the low-rank ones.
    """
    generator.requires_grad_(False)
    for name, layer in _layers(generator.blocks, nn.Linear):
        if any(f".{target}." in f".{name}." for target in targets):
            _replace(generator.blocks, name, LoRALinear(layer, rank, alpha or rank, rng))
    return generator


def merge_lora(generator: Generator) -> Generator:
    """Add every low-rank matrix to the weight beside it and remove it; the generator itself."""
    for name, layer in _layers(generator, LoRALinear):
        _replace(generator, name, layer.merged())
    return generator


def lora_state(generator: Generator, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """The low-rank matrices by ComfyUI's keys, copied to the CPU."""
    state = {}
    for name, layer in _layers(generator, LoRALinear):
        key = PREFIX + name
        state[f"{key}.lora_A.weight"] = layer.down.detach().to("cpu", dtype, copy=True)
        state[f"{key}.lora_B.weight"] = layer.up.detach().to("cpu", dtype, copy=True)
        state[f"{key}.alpha"] = torch.tensor(layer.alpha)
    return state


def save_lora(generator: Generator, path: str | Path, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write the low-rank matrices for ComfyUI's LoRA loader."""
    partial = Path(f"{path}.partial")
    save_file(lora_state(generator, dtype), partial, metadata={"format": "pt"})
    partial.replace(path)


@torch.no_grad()
def load_lora(generator: Generator, path: str | Path) -> Generator:
    """Fill the low-rank matrices that `add_lora` made from a file that `save_lora` wrote.

    Raises:
        CheckpointError: the file's keys or shapes are not those of the generator's matrices.
    """
    state = load_file(path)
    wanted = {key: tensor.shape for key, tensor in lora_state(generator).items()}
    found = {key: tensor.shape for key, tensor in state.items()}
    if wanted != found:
        key = next(k for k in {**wanted, **found} if wanted.get(k) != found.get(k))
        raise CheckpointError(
            f"{path}: the key '{key}' is {found.get(key, 'missing')}; expected "
            f"{wanted.get(key, 'no such key')}: the LoRA is of another rank or generator."
        )
    for name, layer in _layers(generator, LoRALinear):
        layer.down.copy_(state[f"{PREFIX}{name}.lora_A.weight"])
        layer.up.copy_(state[f"{PREFIX}{name}.lora_B.weight"])
        layer.alpha = state[f"{PREFIX}{name}.alpha"].item()
    return generator
