"""`python -m flashhead.training flow`: stage 1."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..data.encoded_dataset import EncodedDataset
from ..flow.stage import FlowSettings, FlowStage
from ..networks.export import export_generator
from ..networks.initialisation import new_generator
from ..networks.loading import load_frozen_networks, load_trainable_generator
from ..networks.lora import save_lora
from ..networks.sizes import GeneratorSizes
from ..settings import Settings
from .options import adaptation, generator_parser, parse, run_stage, stage_settings


class FlowRun(Settings):
    """configs/stage1.json. generator: of a new one, made where none is given to start from."""

    seed: int
    updates: int
    generator: GeneratorSizes = GeneratorSizes()
    stage: FlowSettings = FlowSettings()


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = generator_parser(
        "flow",
        "Stage 1: flow matching on encoded clips.",
        "start from this one instead of a new one",
    )
    arguments = parse(parser, argv)
    run = stage_settings(FlowRun, arguments, "stage1.json")
    adapt = adaptation(arguments, run.seed)
    networks = load_frozen_networks(arguments.checkpoint, variant=arguments.variant)
    if arguments.generator:
        generator = load_trainable_generator(arguments.generator, arguments.device)
    else:
        rng = torch.Generator().manual_seed(run.seed)
        config = run.generator.config(networks.vae, networks.audio_encoder)
        generator = new_generator(config, rng).to(arguments.device)
    dataset = EncodedDataset.load(arguments.encoded)
    stage = FlowStage(adapt(generator), dataset, run.stage, run.updates)
    run_stage(stage, arguments, updates=run.updates, seed=run.seed)
    stage.updater.use_averaged()
    if arguments.lora:
        save_lora(generator, arguments.output)
    else:
        export_generator(generator, arguments.output, networks.variant)
