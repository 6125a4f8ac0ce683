"""Muon: steps of equal size in every direction of a weight matrix (Jordan et al., 2024).

The momentum of a matrix is replaced by the nearest orthogonal one, found by Newton-Schulz
iterations. Convolutions count as matrices (out, in * kernel).
"""

from __future__ import annotations

from collections.abc import Iterable

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
    """For the inner weights of a network; the others keep Adam.

    lr: of an update whose root mean square is 0.2, as Adam's is at most, so that rates compare.
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
    def step(self, closure: None = None) -> None:
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
    """The convolutions of residual blocks that are trained.

    Not those that change the size or meet pixels or latents: after a linear start they carry the
    picture, and steps of equal size in every direction would undo that.
    """
    return [
        parameter
        for name, parameter in network.named_parameters()
        if parameter.ndim > 1 and parameter.requires_grad and ".resnets." in name
    ]
