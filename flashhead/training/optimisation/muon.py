"""Muon: steps of equal size in every direction of a weight matrix (Jordan et al., 2024).

The momentum of a matrix is replaced by the nearest orthogonal one, found by Newton-Schulz
iterations. Convolutions count as matrices (out, in * kernel).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalized(matrix: Tensor, steps: int = 5) -> Tensor:
    """A (rows, columns) matrix with its singular values brought to about 1 (0.7 to 1.2)."""
    a, b, c = _COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Muon for weights of two or more dimensions.

    lr: an update's root mean square is 0.2 * lr, about that of Adam's, so that rates compare.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float = 1e-3,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update from the gradients; a closure is not supported."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                average = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                ahead = parameter.grad.lerp(average, group["momentum"])
                update = orthogonalized(ahead.flatten(1))
                scale = 0.2 * max(update.shape) ** 0.5
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update.view_as(parameter), alpha=-group["lr"] * scale)


def branch_weights(network: nn.Module) -> list[nn.Parameter]:
    """The convolutions in a VAE's residual blocks that want gradients: those that Muon trains.

    The convolutions that change the size, and those that read or write pixels and latents, are
    left to Adam: after a linear start they carry the picture, and Muon's steps of equal size in
    every direction would undo that.
    """
    return [
        parameter
        for name, parameter in network.named_parameters()
        if parameter.ndim > 1 and parameter.requires_grad and ".resnets." in name
    ]
