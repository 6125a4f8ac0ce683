"""The VAE: `python -m flashhead.training.train_vae --work W --clips C --output ROOT`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ...models.ltx_vae import LTXVAE
from ..data.clip_cache import ClipCache
from ..networks.export import export_vae
from ..optimisation.loop import STATE
from ..vae.linear_start import linear_start
from ..vae.losses import region_weight
from ..vae.network import VAESizes, new_vae
from ..vae.report import vae_report
from ..vae.stage import VAESettings, VAEStage, fit_statistics
from ..vae.video_batch import draw_videos
from .options import run_main, run_stage, stage_parser, stage_settings

STATISTICS_CLIPS = 64


@dataclass(frozen=True)
class StartSettings:
    """A linear start: from so many clips, with so much weight on mouth and eyes; 0 clips: none."""

    clips: int = 64
    mouth_weight: float = 60.0
    eyes_weight: float = 15.0


@dataclass(frozen=True)
class VAERun:
    """configs/vae.json."""

    seed: int
    updates: int
    start: StartSettings = field(default_factory=StartSettings)
    sizes: VAESizes = field(default_factory=VAESizes)
    stage: VAESettings = field(default_factory=VAESettings)


def start_linear(
    vae: LTXVAE, clips: ClipCache, start: StartSettings, frames: int, rng: torch.Generator
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
    parser = stage_parser("vae", "Train a VAE of the LTX family on clips.")
    parser.add_argument("--clips", type=Path, required=True, help="data set of clips")
    parser.add_argument("--held-out", type=Path, help="data set that is only measured")
    parser.add_argument("--output", type=Path, required=True, help="checkpoint root to write into")
    arguments = parser.parse_args(argv)
    run = stage_settings(VAERun, arguments, "vae.json")
    clips = ClipCache(arguments.clips)
    rng = torch.Generator().manual_seed(run.seed)
    vae = new_vae(run.sizes.config(), rng, run.stage.log_variance)
    if run.start.clips and not (arguments.work / STATE).is_file():
        start_linear(vae, clips, run.start, run.stage.frames, rng)
    stage = VAEStage(vae.to(arguments.device), clips, run.stage, run.updates)
    measure: Callable[[], dict[str, float]] | None = None
    if arguments.held_out:
        unseen = ClipCache(arguments.held_out)

        def measure() -> dict[str, float]:
            return vae_report(stage.averaged_vae(), unseen)

    run_stage(stage, arguments, updates=run.updates, seed=run.seed, measure=measure)
    trained = stage.averaged_vae()
    rng = torch.Generator().manual_seed(run.seed)
    fit_statistics(trained, clips, min(STATISTICS_CLIPS, len(clips)), clips.frames, rng)
    export_vae(trained, arguments.output)


if __name__ == "__main__":
    raise SystemExit(run_main(main))
