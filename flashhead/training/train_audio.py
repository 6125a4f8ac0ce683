"""Audio pre-training: `python -m flashhead.training.train_audio --work W --clips C --output R`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .clip_cache import ClipCache
from .export import export_audio_encoder
from .initialisation import new_audio_encoder
from .networks import AudioSizes
from .stage_options import run_main, run_stage, stage_parser, stage_settings
from .stages import AudioSettings, AudioStage, planned


@dataclass(frozen=True)
class AudioRun:
    """configs/audio.json."""

    seed: int
    updates: int
    encoder: AudioSizes = field(default_factory=AudioSizes)
    stage: AudioSettings = field(default_factory=AudioSettings)


def read_speech(cache: ClipCache) -> list[tuple[Tensor, Tensor]]:
    """Waveform (N,) and mouth (F, 2) of each clip; no picture is read."""
    speech, openness, width = (cache.arrays[name] for name in ("waveform", "openness", "width"))
    return [
        (
            torch.from_numpy(np.array(speech[n])),
            torch.from_numpy(np.stack([openness[n], width[n]], axis=1)),
        )
        for n in range(len(cache))
    ]


def main(argv: Sequence[str] | None = None) -> None:
    parser = stage_parser("audio", "Pre-train the audio encoder on speech whose mouth is known.")
    parser.add_argument("--clips", type=Path, required=True, help="data set of drawn clips")
    parser.add_argument("--output", type=Path, required=True, help="checkpoint root to write into")
    arguments = parser.parse_args(argv)
    run = stage_settings(AudioRun, arguments, "audio.json")
    clips = read_speech(ClipCache(arguments.clips))
    rng = torch.Generator().manual_seed(run.seed)
    encoder = new_audio_encoder(run.encoder.config(), rng).to(arguments.device)
    stage = AudioStage(encoder, clips, planned(run.stage, run.updates))
    run_stage(stage, arguments, updates=run.updates, seed=run.seed)
    stage.updater.use_averaged()
    export_audio_encoder(encoder, arguments.output)


if __name__ == "__main__":
    raise SystemExit(run_main(main))
