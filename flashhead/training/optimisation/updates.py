"""One network's updates: accumulation, mixed precision, clipping, warm-up, averaged weights."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .loop import Schedule

Losses = dict[str, Tensor]
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class UpdateSettings:
    """How a network learns.

    schedule: of the rate, over `updates` in all; 0 is a constant rate after the warm-up. decay: of
    the weights (AdamW). clip: largest norm of the gradient. average: decay of the averaged weights
    per update, 0 for none. accumulate: batches to an update. precision: of activations and matrix
    products; weights and optimizer stay in float32.
    """

    learning_rate: float = 2e-4
    betas: tuple[float, float] = (0.9, 0.95)
    decay: float = 0.01
    schedule: Schedule = field(default_factory=Schedule)
    updates: int = 0
    clip: float = 1.0
    average: float = 0.999
    accumulate: int = 1
    precision: str = "float32"


def mixed_precision(device: torch.device | str, precision: str) -> AbstractContextManager:
    """Autocast to `precision` on a device; in float32 it changes nothing.

    Raises:
        ValueError: a precision that is not in `PRECISIONS`.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"Unknown precision '{precision}'; expected one of {tuple(PRECISIONS)}.")
    dtype = PRECISIONS[precision]
    return torch.autocast(torch.device(device).type, dtype, enabled=dtype != torch.float32)


def device_of(network: nn.Module) -> torch.device:
    """Where a network's weights are."""
    return next(network.parameters()).device


class Updater:
    """Updates the parameters of some modules that want gradients, and averages them.

    Averaged weights follow an exponential mean that is corrected at the start: after n updates the
    decay is at most (1 + n) / (10 + n).
    """

    def __init__(self, settings: UpdateSettings, *modules: nn.Module):
        self.settings = settings
        self.named = {
            f"{index}.{name}": parameter
            for index, module in enumerate(modules)
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
        }
        self.optimizer = torch.optim.AdamW(
            list(self.named.values()),
            lr=settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.decay,
        )
        self.count = 0
        self.averaged = {}
        if settings.average:
            self.averaged = {key: p.detach().clone() for key, p in self.named.items()}

    def update(self, losses: Callable[[], Losses]) -> dict[str, float]:
        """One optimizer step on the "loss" of as many batches as settings say.

        Returns:
            Mean losses by name, the gradient's norm before clipping, and the learning rate.

        Raises:
            FloatingPointError: the gradient is not finite; the weights are as they were.
        """
        device = next(iter(self.named.values())).device
        totals: Losses = {}
        for _ in range(self.settings.accumulate):
            with mixed_precision(device, self.settings.precision):
                parts = losses()
            (parts["loss"] / self.settings.accumulate).backward()
            for name, value in parts.items():
                totals[name] = totals.get(name, 0) + value.detach() / self.settings.accumulate
        norm = nn.utils.clip_grad_norm_(list(self.named.values()), self.settings.clip)
        if not bool(norm.isfinite()):
            self.optimizer.zero_grad()
            raise FloatingPointError(f"The gradient became {float(norm)} at update {self.count}.")
        rate = self._rate()
        self.count += 1
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._average()
        return {**{k: float(v) for k, v in totals.items()}, "gradient": float(norm), "rate": rate}

    def _rate(self) -> float:
        settings = self.settings
        if settings.updates:
            share = settings.schedule.share(self.count, settings.updates)
        else:
            share = min(1.0, (self.count + 1) / (settings.schedule.warmup + 1))
        return settings.learning_rate * share

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.settings.average, (1 + self.count) / (10 + self.count))
        for key, mean in self.averaged.items():
            mean.lerp_(self.named[key].detach(), 1 - decay)

    @torch.no_grad()
    def use_averaged(self) -> None:
        """Put the averaged weights into the modules, for good."""
        for key, mean in self.averaged.items():
            self.named[key].copy_(mean)

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs, the weights included."""
        return {
            "weights": {key: p.detach() for key, p in self.named.items()},
            "averaged": self.averaged,
            "optimizer": self.optimizer.state_dict(),
            "count": self.count,
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state of the same settings and modules."""
        for key, parameter in self.named.items():
            parameter.copy_(state["weights"][key])
        for key, mean in self.averaged.items():
            mean.copy_(state["averaged"][key])
        self.optimizer.load_state_dict(state["optimizer"])
        self.count = state["count"]
