"""Stage 2: `python -m flashhead.training.train_distillation --work W --generator G ...`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..data.clip_library import ClipLibrary
from ..distillation.rollout import MotionPath
from ..distillation.stage import DistillationStage, StudentSettings
from ..networks.export import export_generator
from ..networks.lora import save_lora
from ..networks.sizes import open_surroundings, open_trainable
from .options import (
    adaptation,
    add_adaptation,
    run_main,
    run_stage,
    stage_parser,
    stage_settings,
)


@dataclass(frozen=True)
class DistillationRun:
    """configs/stage2.json. motion, color_match: see `MotionPath`."""

    seed: int
    updates: int
    motion: str = "pixels"
    color_match: float = 1.0
    stage: StudentSettings = field(default_factory=StudentSettings)


def main(argv: Sequence[str] | None = None) -> None:
    parser = stage_parser("distillation", "Stage 2: oracle-guided bidirectional distillation.")
    parser.add_argument("--encoded", type=Path, required=True, help="folder of encoded clips")
    parser.add_argument("--checkpoint", type=Path, required=True, help="has VAE, audio encoder")
    parser.add_argument("--generator", type=Path, required=True, help="stage 1's, to start from")
    parser.add_argument("--output", type=Path, required=True, help="root (or LoRA file) to write")
    parser.add_argument("--variant", choices=("lite", "pro"), help="if the checkpoint has both")
    add_adaptation(parser)
    arguments = parser.parse_args(argv)
    run = stage_settings(DistillationRun, arguments, "stage2.json")
    around = open_surroundings(arguments.checkpoint, arguments.device, variant=arguments.variant)
    generator = open_trainable(arguments.generator, arguments.device)
    path = MotionPath(generator.config.geometry, around.vae, run.color_match, run.motion)
    stage = DistillationStage(
        generator,
        ClipLibrary.load(arguments.encoded),
        path,
        run.stage.planned(run.updates),
        adaptation(arguments, run.seed),
    )
    run_stage(stage, arguments, updates=run.updates, seed=run.seed)
    stage.student_updater.use_averaged()
    if arguments.lora:
        save_lora(stage.student, arguments.output)
    else:
        export_generator(stage.student, arguments.output, around.variant)


if __name__ == "__main__":
    raise SystemExit(run_main(main))
