"""One optimizer step on some modules: accumulation, mixed precision, clipping, averaged weights."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..settings import Settings
from .loop import Schedule

Losses = dict[str, Tensor]
"""Scalars by name; "loss" is the one to minimise."""
Precision = Literal["float32", "bfloat16"]


class UpdateSettings(Settings):
    """How a network learns.

    decay: of the weights (AdamW). schedule: of the learning rate. clip: largest norm of the
    gradient. average: decay of the averaged weights per update, 0 for none. accumulate: batches to
    an update. precision: of activations and matrix products; weights and optimizer stay in
    float32.
    """

    learning_rate: float = 2e-4
    betas: tuple[float, float] = (0.9, 0.95)
    decay: float = 0.01
    schedule: Schedule = Schedule()
    clip: float = 1.0
    average: float = 0.999
    accumulate: int = 1
    precision: Precision = "float32"


def mixed_precision(device: torch.device, precision: Precision) -> AbstractContextManager[None]:
    """Autocast to `precision` on a device; in float32 it changes nothing."""
    dtype = getattr(torch, precision)
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def device_of(network: nn.Module) -> torch.device:
    """Where a network's weights are."""
    return next(network.parameters()).device


class Updater:
    """Updates those parameters of some modules that want gradients, and averages them.

    Averaged weights follow an exponential mean whose decay after n updates is at most
    (1 + n) / (10 + n), so that the first weights are soon forgotten.

    Args:
        settings: how the modules learn.
        modules: whose parameters are updated.
        updates: of the whole run, over which the learning rate follows its schedule; 0 is a
            constant rate after the warm-up.
        second: an optimizer that has taken some of the parameters, at its own rate; AdamW gets the
            others.
    """

    def __init__(
        self,
        settings: UpdateSettings,
        *modules: nn.Module,
        updates: int = 0,
        second: torch.optim.Optimizer | None = None,
    ):
        self.settings, self.updates = settings, updates
        self.named = {
            f"{index}.{name}": parameter
            for index, module in enumerate(modules)
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
        }
        groups = second.param_groups if second else []
        taken = {id(parameter) for group in groups for parameter in group["params"]}
        first = torch.optim.AdamW(
            [parameter for parameter in self.named.values() if id(parameter) not in taken],
            lr=settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.decay,
        )
        self.optimizers: list[torch.optim.Optimizer] = [first, second] if second else [first]
        self.full_rates = [optimizer.param_groups[0]["lr"] for optimizer in self.optimizers]
        self.count = 0
        self.averaged: dict[str, Tensor] = {}
        if settings.average:
            self.averaged = {key: p.detach().clone() for key, p in self.named.items()}

    def update(self, losses: Callable[[], Losses]) -> dict[str, float]:
        """One step of the optimizers on the "loss" of as many batches as the settings say.

        Returns:
            Mean losses by name, the gradient's norm before clipping, and AdamW's learning rate.

        Raises:
            FloatingPointError: the gradient is not finite; the weights are as they were.
        """
        settings, parameters = self.settings, list(self.named.values())
        totals: Losses = {}
        for _ in range(settings.accumulate):
            with mixed_precision(parameters[0].device, settings.precision):
                parts = losses()
            (parts["loss"] / settings.accumulate).backward()
            for name, value in parts.items():
                totals[name] = totals.get(name, 0) + value.detach() / settings.accumulate
        norm = nn.utils.clip_grad_norm_(parameters, settings.clip)
        if not bool(norm.isfinite()):
            self._zero_grad()
            raise FloatingPointError(f"The gradient became {float(norm)} at update {self.count}.")
        share = self._rate_share()
        self.count += 1
        for optimizer, full_rate in zip(self.optimizers, self.full_rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = full_rate * share
            optimizer.step()
        self._zero_grad()
        self._average()
        figures = {name: float(value) for name, value in totals.items()}
        return {**figures, "gradient": float(norm), "rate": self.full_rates[0] * share}

    def _zero_grad(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad()

    def _rate_share(self) -> float:
        schedule = self.settings.schedule
        if self.updates:
            return schedule.share(self.count, self.updates)
        return min(1.0, (self.count + 1) / (schedule.warmup + 1))

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
        """All that a resumed run of one optimizer needs, the weights included."""
        (optimizer,) = self.optimizers
        return {
            "weights": {key: p.detach() for key, p in self.named.items()},
            "averaged": self.averaged,
            "optimizer": optimizer.state_dict(),
            "count": self.count,
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state of the same settings and modules."""
        (optimizer,) = self.optimizers
        for key, parameter in self.named.items():
            parameter.copy_(state["weights"][key])
        for key, mean in self.averaged.items():
            mean.copy_(state["averaged"][key])
        optimizer.load_state_dict(state["optimizer"])
        self.count = state["count"]
