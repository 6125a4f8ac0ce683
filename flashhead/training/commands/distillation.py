"""`python -m flashhead.training distillation`: stage 2."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

from ...errors import FlashHeadError
from ..data.encoded_dataset import EncodedDataset
from ..distillation.rollout import NextMotion, latent_motion, pixel_motion
from ..distillation.stage import DistillationStage, StudentSettings
from ..networks.export import export_generator
from ..networks.loading import load_frozen_networks, load_trainable_generator
from ..networks.lora import save_lora
from ..settings import Settings
from .options import adaptation, generator_parser, parse, run_stage, stage_settings


class DistillationRun(Settings):
    """configs/stage2.json.

    motion: how a rollout's chunks are joined, by `pixel_motion` as inference does or by
    `latent_motion`. color_match: strength of colour matching in the former, in [0, 1].
    """

    seed: int
    updates: int
    motion: Literal["pixels", "latents"] = "pixels"
    color_match: float = 1.0
    stage: StudentSettings = StudentSettings()


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = generator_parser(
        "distillation",
        "Stage 2: oracle-guided bidirectional distillation.",
        "stage 1's, to start from (required)",
    )
    arguments = parse(parser, argv)
    if arguments.generator is None:
        raise FlashHeadError("--generator is missing; expected the generator of stage 1.")
    run = stage_settings(DistillationRun, arguments, "stage2.json")
    adapt = adaptation(arguments, run.seed)
    networks = load_frozen_networks(
        arguments.checkpoint, arguments.device, variant=arguments.variant
    )
    generator = load_trainable_generator(arguments.generator, arguments.device)
    next_motion: NextMotion = latent_motion
    if run.motion == "pixels":
        next_motion = partial(
            pixel_motion, networks.vae, generator.config.geometry, color_match=run.color_match
        )
    dataset = EncodedDataset.load(arguments.encoded)
    stage = DistillationStage(generator, dataset, next_motion, run.stage, run.updates, adapt)
    run_stage(stage, arguments, updates=run.updates, seed=run.seed)
    stage.student_updater.use_averaged()
    if arguments.lora:
        save_lora(stage.student, arguments.output)
    else:
        export_generator(stage.student, arguments.output, networks.variant)
