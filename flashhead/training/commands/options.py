"""What several commands share: arguments, settings, running and resuming a stage."""

from __future__ import annotations

import argparse
import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from ...errors import FlashHeadError
from ...models.generator import Generator
from ..networks.activation_memory import checkpoint_blocks, offload_blocks
from ..networks.lora import add_lora
from ..optimisation.loop import LoopSettings, Stage, train
from ..settings import SettingsT, read_settings

CONFIGS = Path(__file__).parent.parent / "configs"


def command_parser(name: str, description: str) -> argparse.ArgumentParser:
    """A command's parser, with the arguments that all of them have."""
    parser = argparse.ArgumentParser(
        prog=f"python -m flashhead.training {name}", description=description
    )
    parser.add_argument("--threads", type=int, help="of the processor")
    return parser


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parsed arguments; the number of threads is set."""
    parsed = parser.parse_args(arguments)
    if parsed.threads:
        torch.set_num_threads(parsed.threads)
    return parsed


def stage_parser(name: str, description: str) -> argparse.ArgumentParser:
    """The parser of a command that trains."""
    parser = command_parser(name, description)
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
    return parser


def generator_parser(name: str, description: str, start: str) -> argparse.ArgumentParser:
    """The parser of a command that trains a generator; `start` says what --generator is."""
    parser = stage_parser(name, description)
    parser.add_argument("--encoded", type=Path, required=True, help="folder of encoded clips")
    parser.add_argument("--checkpoint", type=Path, required=True, help="has VAE, audio encoder")
    parser.add_argument("--generator", type=Path, help=start)
    parser.add_argument("--output", type=Path, required=True, help="root (or LoRA file) to write")
    parser.add_argument("--variant", choices=("lite", "pro"), help="if the checkpoint has both")
    parser.add_argument("--lora", type=int, metavar="RANK", help="train low-rank matrices only")
    parser.add_argument("--recompute", action="store_true", help="activations; saves memory")
    parser.add_argument(
        "--offload", action="store_true", help="keep frozen weights off the device; with --lora"
    )
    return parser


def stage_settings(cls: type[SettingsT], arguments: argparse.Namespace, file: str) -> SettingsT:
    """The settings that the arguments ask for; `file` is the default one's name.

    Raises:
        FlashHeadError: a --set without '=', or what `read_settings` raises.
    """
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
    asked: list[bool] = []
    end = time.monotonic() + 60 * minutes if minutes else float("inf")
    before = {
        number: signal.signal(number, lambda *_: asked.append(True))
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
    """Train a stage in the arguments' work folder; each line of the log goes to stdout too."""
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


def adaptation(arguments: argparse.Namespace, seed: int) -> Callable[[Generator], Generator]:
    """The change that --lora, --recompute and --offload make to a generator, in place.

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
