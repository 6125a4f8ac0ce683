"""Audio pre-training: `python -m flashhead.training.train_audio --work W --output ROOT`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from ..audio.stage import AudioSettings, AudioStage
from ..networks.export import export_audio_encoder
from ..networks.initialisation import new_audio_encoder
from ..networks.sizes import AudioSizes
from ..speech.speech_set import SpeechSetSettings, make_speech_set
from .options import run_main, run_stage, stage_parser, stage_settings


@dataclass(frozen=True)
class AudioRun:
    """configs/audio.json. held_out: tracks of other voices and sentences that are only measured."""

    seed: int
    updates: int
    held_out: int = 24
    speech: SpeechSetSettings = field(default_factory=SpeechSetSettings)
    encoder: AudioSizes = field(default_factory=AudioSizes)
    stage: AudioSettings = field(default_factory=AudioSettings)


def main(argv: Sequence[str] | None = None) -> None:
    parser = stage_parser("audio", "Pre-train the audio encoder on speech whose mouth is known.")
    parser.add_argument("--output", type=Path, required=True, help="checkpoint root to write into")
    arguments = parser.parse_args(argv)
    run = stage_settings(AudioRun, arguments, "audio.json")
    speech = make_speech_set(run.speech, arguments.work / "speech.safetensors")
    other = replace(run.speech, tracks=run.held_out, held_out=True)
    held_out = make_speech_set(other, arguments.work / "held-out.safetensors")
    rng = torch.Generator().manual_seed(run.seed)
    encoder = new_audio_encoder(run.encoder.config(), rng).to(arguments.device)
    stage = AudioStage(encoder, speech, run.stage.planned(run.updates))
    run_stage(
        stage,
        arguments,
        updates=run.updates,
        seed=run.seed,
        measure=lambda: stage.measure(held_out),
    )
    stage.updater.use_averaged()
    export_audio_encoder(encoder, arguments.output)


if __name__ == "__main__":
    raise SystemExit(run_main(main))
