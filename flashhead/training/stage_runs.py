"""Running a stage: resumed where it stopped, logged as JSON, saved now and then."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch

STATE = "state.pt"
LOG = "log.jsonl"


class Stage(Protocol):
    """What can be run: see `stages`."""

    def step(self, rng: torch.Generator) -> dict[str, float]:
        """One update; what to log."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def run_stage(
    stage: Stage,
    folder: str | Path,
    *,
    updates: int,
    seed: int,
    seconds: float | None = None,
    log_every: int = 50,
    save_seconds: float = 300.0,
    on_save: Callable[[int], None] = lambda update: None,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Make updates until there were `updates` in all, or for some seconds.

    The state is in FOLDER/state.pt, written whole or not at all; a run that finds one goes on from
    it as if it had not stopped. FOLDER/log.jsonl gets a line of mean figures every `log_every`
    updates. SIGTERM and an interrupt save before they end the run.

    Args:
        on_save: called with the number of updates after each save.

    Returns:
        How many updates there were in all.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rng = torch.Generator().manual_seed(seed)
    update, spent = 0, 0.0
    if (folder / STATE).exists():
        saved = torch.load(folder / STATE, map_location="cpu", weights_only=True)
        stage.load_state_dict(saved["stage"])
        rng.set_state(saved["random"])
        update, spent = saved["update"], saved["seconds"]
    start = last_save = clock()
    totals: dict[str, float] = {}
    since = 0

    def save() -> None:
        state = {
            "stage": stage.state_dict(),
            "random": rng.get_state(),
            "update": update,
            "seconds": spent + clock() - start,
        }
        torch.save(state, folder / f"{STATE}.partial")
        (folder / f"{STATE}.partial").replace(folder / STATE)
        on_save(update)

    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        while update < updates and (seconds is None or clock() - start < seconds):
            for name, value in stage.step(rng).items():
                totals[name] = totals.get(name, 0.0) + value
            update, since = update + 1, since + 1
            if since == log_every or update == updates:
                means = {name: value / since for name, value in totals.items()}
                line = {"update": update, "seconds": round(spent + clock() - start, 1), **means}
                with (folder / LOG).open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
                totals, since = {}, 0
            if clock() - last_save > save_seconds:
                save()
                last_save = clock()
    finally:
        signal.signal(signal.SIGTERM, before)
        save()
    return update


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt
