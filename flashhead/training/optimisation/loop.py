"""The training loop: drives a stage, saves its state, logs, and resumes.

A run lives in one folder: `state.pt` (everything a resumed run needs), `log.jsonl` (one line per
report). A run that is stopped at any moment and resumed ends with the same weights as one that is
not stopped.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from ...files import replacing
from ..settings import Settings

STATE = "state.pt"
LOG = "log.jsonl"


class Stage(Protocol):
    """What can be trained: the `stage` modules of vae, audio, flow and distillation."""

    def step(self, rng: torch.Generator) -> dict[str, float]:
        """One update; figures by name. All randomness comes from `rng`, on the CPU."""

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs."""

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class LoopSettings:
    """steps: updates in all. report_every, save_every, measure_every: updates (0: never).

    seed: of everything random in the run.
    """

    steps: int = 10_000
    report_every: int = 50
    save_every: int = 500
    measure_every: int = 0
    seed: int = 0


class Schedule(Settings):
    """A learning rate over a run: linear warm-up, a plateau, a cosine down to `end`.

    warmup: updates. decay: the share of the run that the cosine takes, 1 for all after warm-up.
    end: the last rate, as a share of the full one.
    """

    warmup: int = 100
    decay: float = 1.0
    end: float = 0.02

    def share(self, step: int, steps: int) -> float:
        """The rate of update `step` (from 0) of `steps`, as a share of the full one, in [0, 1]."""
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        start = max(self.warmup, round(steps * (1 - self.decay)))
        if step < start:
            return 1.0
        progress = min(1.0, (step - start) / max(1, steps - start))
        return self.end + (1 - self.end) * 0.5 * (1 + math.cos(math.pi * progress))


OnReport = Callable[[dict[str, Any]], None]


def train(
    stage: Stage,
    folder: str | Path,
    settings: LoopSettings,
    *,
    measure: Callable[[], dict[str, float]] | None = None,
    on_report: OnReport | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> int:
    """Run a stage to its last step, from where the folder's state left off.

    `measure` gives figures of the current weights; `on_report` gets every line of the log.
    `should_stop` is asked after each update; stopping saves first.

    Returns:
        The updates made in all.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rng = torch.Generator().manual_seed(settings.seed)
    step, seconds = _resume(stage, folder / STATE, rng)
    begun = time.monotonic() - seconds
    sums: dict[str, float] = {}
    count = 0

    def report(figures: dict[str, Any]) -> None:
        line = {"step": step, "seconds": round(time.monotonic() - begun, 1), **figures}
        with (folder / LOG).open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
        if on_report is not None:
            on_report(line)

    def due(every: int) -> bool:
        return bool(every) and (step % every == 0 or step == settings.steps)

    while step < settings.steps:
        for name, value in stage.step(rng).items():
            sums[name] = sums.get(name, 0.0) + value
        step, count = step + 1, count + 1
        if due(settings.report_every):
            report({name: round(value / count, 6) for name, value in sums.items()})
            sums, count = {}, 0
        if measure is not None and due(settings.measure_every):
            report({"measured": measure()})
        stopping = should_stop()
        if due(settings.save_every) or step == settings.steps or stopping:
            _save(stage, folder / STATE, rng, step, time.monotonic() - begun)
        if stopping:
            break
    return step


def _save(stage: Stage, path: Path, rng: torch.Generator, step: int, seconds: float) -> None:
    state = {"stage": stage.state_dict(), "rng": rng.get_state(), "step": step, "seconds": seconds}
    with replacing(path) as file:
        torch.save(state, file)


def _resume(stage: Stage, path: Path, rng: torch.Generator) -> tuple[int, float]:
    """Updates and seconds that a saved run had; 0 of each without one."""
    if not path.is_file():
        return 0, 0.0
    state = torch.load(path, map_location="cpu", weights_only=True)
    stage.load_state_dict(state["stage"])
    rng.set_state(state["rng"])
    return state["step"], state["seconds"]
