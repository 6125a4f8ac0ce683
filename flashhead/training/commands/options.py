"""What the commands of all stages share: arguments, settings, running and resuming."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch

from ...errors import FlashHeadError
from ...models.generator import Generator
from ..networks.activation_memory import checkpoint_blocks, offload_blocks
from ..networks.lora import add_lora
from ..optimisation.loop import LoopSettings, Stage, train
from .settings_files import read_settings

CONFIGS = Path(__file__).parent.parent / "configs"
Settings = TypeVar("Settings")


def stage_parser(name: str, description: str) -> argparse.ArgumentParser:
    """Arguments that every stage has; `name` is that of its settings file."""
    parser = argparse.ArgumentParser(
        prog=f"python -m flashhead.training.train_{name}", description=description
    )
    parser.add_argument("--work", type=Path, required=True, help="state and log; resumed from")
    parser.add_argument("--config", type=Path, help="settings; default: the pocket model's")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="replace a setting, such as stage.update.learning_rate=1e-4",
    )
    parser.add_argument("--updates", type=int, help="how many in all; default: the settings'")
    parser.add_argument("--minutes", type=float, help="stop after so long, to be resumed")
    parser.add_argument("--report", type=int, default=50, help="updates between lines of the log")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="of the processor")
    return parser


def stage_settings(cls: type[Settings], arguments: argparse.Namespace, file: str) -> Settings:
    """The settings that the arguments ask for; `file` is the default one's name."""
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    changes = {}
    for text in arguments.set:
        name, equals, value = text.partition("=")
        if not equals:
            raise FlashHeadError(f"'--set {text}' has no '='; expected NAME=VALUE.")
        changes[name] = value
    if arguments.updates is not None:
        changes["updates"] = str(arguments.updates)
    return read_settings(cls, arguments.config or CONFIGS / file, changes)


@contextmanager
def stop_signal(minutes: float | None) -> Iterator[Callable[[], bool]]:
    """Whether a run should stop: after some minutes, an interrupt or a SIGTERM."""
    asked = []
    end = time.monotonic() + 60 * minutes if minutes else float("inf")
    before = {
        number: signal.signal(number, lambda *_: asked.append(1))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield lambda: bool(asked) or time.monotonic() > end
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_stage(
    stage: Stage,
    arguments: argparse.Namespace,
    *,
    updates: int,
    seed: int,
    measure: Callable[[], dict[str, float]] | None = None,
) -> None:
    """Drive a stage in the arguments' folder; each line of the log goes to stdout too."""
    settings = LoopSettings(
        steps=updates,
        report_every=arguments.report,
        save_every=4 * arguments.report,
        measure_every=10 * arguments.report,
        seed=seed,
    )
    with stop_signal(arguments.minutes) as should_stop:
        train(
            stage,
            arguments.work,
            settings,
            measure=measure,
            on_report=lambda line: print(json.dumps(line), flush=True),
            should_stop=should_stop,
        )


def add_adaptation(parser: argparse.ArgumentParser) -> None:
    """Arguments for training that would not fit otherwise."""
    parser.add_argument("--lora", type=int, metavar="RANK", help="train low-rank matrices only")
    parser.add_argument("--recompute", action="store_true", help="activations; saves memory")
    parser.add_argument(
        "--offload", action="store_true", help="keep frozen weights off the device; with --lora"
    )


def adaptation(arguments: argparse.Namespace, seed: int) -> Callable[[Generator], Generator]:
    """What `add_adaptation`'s arguments make of a generator, in place.

    Raises:
        FlashHeadError: --offload without --lora, when no weight is frozen.
    """
    if arguments.offload and not arguments.lora:
        raise FlashHeadError("--offload moves frozen weights only; it needs --lora RANK.")

    def adapt(generator: Generator) -> Generator:
        if arguments.lora:
            add_lora(generator, arguments.lora, torch.Generator().manual_seed(seed))
        if arguments.offload:
            return offload_blocks(generator)
        return checkpoint_blocks(generator) if arguments.recompute else generator

    return adapt


def run_main(main: Callable[[Sequence[str] | None], None]) -> int:
    """Run a command; bad input is one line on stderr and exit status 1."""
    try:
        main(None)
    except FlashHeadError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
