"""Stage 1: `python -m flashhead.training.train_flow --work W --encoded E --checkpoint ROOT ...`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..data.clip_library import ClipLibrary
from ..flow.stage import FlowSettings, FlowStage
from ..networks.export import export_generator
from ..networks.initialisation import new_generator
from ..networks.lora import save_lora
from ..networks.sizes import GeneratorSizes, open_surroundings, open_trainable
from .options import (
    adaptation,
    add_adaptation,
    run_main,
    run_stage,
    stage_parser,
    stage_settings,
)


@dataclass(frozen=True)
class FlowRun:
    """configs/stage1.json."""

    seed: int
    updates: int
    generator: GeneratorSizes = field(default_factory=GeneratorSizes)
    stage: FlowSettings = field(default_factory=FlowSettings)


def main(argv: Sequence[str] | None = None) -> None:
    parser = stage_parser("flow", "Stage 1: flow matching on encoded clips.")
    parser.add_argument("--encoded", type=Path, required=True, help="folder of encoded clips")
    parser.add_argument("--checkpoint", type=Path, required=True, help="has VAE, audio encoder")
    parser.add_argument("--generator", type=Path, help="start from this one instead of a new one")
    parser.add_argument("--output", type=Path, required=True, help="root (or LoRA file) to write")
    parser.add_argument("--variant", choices=("lite", "pro"), help="if the checkpoint has both")
    add_adaptation(parser)
    arguments = parser.parse_args(argv)
    run = stage_settings(FlowRun, arguments, "stage1.json")
    around = open_surroundings(arguments.checkpoint, variant=arguments.variant)
    if arguments.generator:
        generator = open_trainable(arguments.generator, arguments.device)
    else:
        rng = torch.Generator().manual_seed(run.seed)
        config = run.generator.config(around.vae, around.audio_encoder)
        generator = new_generator(config, rng).to(arguments.device)
    adaptation(arguments, run.seed)(generator)
    stage = FlowStage(
        generator, ClipLibrary.load(arguments.encoded), run.stage.planned(run.updates)
    )
    run_stage(stage, arguments, updates=run.updates, seed=run.seed)
    stage.updater.use_averaged()
    if arguments.lora:
        save_lora(generator, arguments.output)
    else:
        export_generator(generator, arguments.output, around.variant)


if __name__ == "__main__":
    raise SystemExit(run_main(main))
