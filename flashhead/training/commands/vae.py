"""`python -m flashhead.training vae`: training of the VAE."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from ...models.ltx_vae import LTXVAE
from ..data.clip_dataset import ClipDataset
from ..networks.export import export_vae
from ..optimisation.loop import STATE
from ..settings import Settings
from ..vae.linear_start import linear_start
from ..vae.losses import region_weight
from ..vae.network import VAESizes, new_vae
from ..vae.report import vae_report
from ..vae.stage import VAESettings, VAEStage, fit_statistics
from ..vae.video_batch import draw_videos
from .options import parse, run_stage, stage_parser, stage_settings

STATISTICS_CLIPS = 64


class StartSettings(Settings):
    """A linear start. clips: that it is fitted to, 0 for random weights instead. The weights: of
    mouth and eyes beside 1 for other pixels."""

    clips: int = 64
    mouth_weight: float = 60.0
    eyes_weight: float = 15.0


class VAERun(Settings):
    """configs/vae.json."""

    seed: int
    updates: int
    start: StartSettings = StartSettings()
    sizes: VAESizes = VAESizes()
    stage: VAESettings = VAESettings()


def start_linear(
    vae: LTXVAE, clips: ClipDataset, start: StartSettings, frames: int, rng: torch.Generator
) -> None:
    """`linear_start` on random parts of clips."""
    batch = draw_videos(clips, start.clips, frames, rng, torch.device("cpu"))
    weight = region_weight(
        batch.mouth,
        batch.eyes,
        batch.face,
        mouth_weight=start.mouth_weight,
        eyes_weight=start.eyes_weight,
    )
    linear_start(vae, batch.video, weight)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = stage_parser("vae", "Train a VAE of the LTX family on drawn clips.")
    parser.add_argument("--clips", type=Path, required=True, help="data set of drawn clips")
    parser.add_argument("--held-out", type=Path, help="data set that is only measured")
    parser.add_argument("--output", type=Path, required=True, help="checkpoint root to write into")
    arguments = parse(parser, argv)
    run = stage_settings(VAERun, arguments, "vae.json")
    known = ("openness", "width", "mouth", "face", "eyes")
    clips = ClipDataset(arguments.clips, needed=known)
    unseen = ClipDataset(arguments.held_out, needed=known) if arguments.held_out else None
    rng = torch.Generator().manual_seed(run.seed)
    vae = new_vae(run.sizes.config(), rng, run.stage.log_variance)
    if run.start.clips and not (arguments.work / STATE).is_file():
        start_linear(vae, clips, run.start, run.stage.frames, rng)
    stage = VAEStage(vae.to(arguments.device), clips, run.stage, run.updates)
    measure: Callable[[], dict[str, float]] | None = None
    if unseen is not None:
        held_out = unseen

        def measure() -> dict[str, float]:
            return vae_report(stage.averaged_vae(), held_out)

    run_stage(stage, arguments, updates=run.updates, seed=run.seed, measure=measure)
    trained = stage.averaged_vae()
    rng = torch.Generator().manual_seed(run.seed)
    fit_statistics(trained, clips, min(STATISTICS_CLIPS, len(clips)), clips.frames, rng)
    export_vae(trained, arguments.output)
