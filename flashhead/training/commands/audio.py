"""`python -m flashhead.training audio`: pre-training of the audio encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from ..audio.stage import AudioSettings, AudioStage
from ..networks.export import export_audio_encoder
from ..networks.initialisation import new_audio_encoder
from ..networks.sizes import AudioSizes
from ..settings import Settings
from ..speech.speech_set import SpeechSetSettings, make_speech_set
from .options import parse, run_stage, stage_parser, stage_settings


class AudioRun(Settings):
    """configs/audio.json. held_out: tracks of other voices and sentences that are only measured."""

    seed: int
    updates: int
    held_out: int = 24
    speech: SpeechSetSettings = SpeechSetSettings()
    encoder: AudioSizes = AudioSizes()
    stage: AudioSettings = AudioSettings()


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = stage_parser("audio", "Pre-train the audio encoder on speech whose mouth is known.")
    parser.add_argument("--output", type=Path, required=True, help="checkpoint root to write into")
    arguments = parse(parser, argv)
    run = stage_settings(AudioRun, arguments, "audio.json")
    speech = make_speech_set(run.speech, arguments.work / "speech.safetensors")
    other = run.speech.model_copy(update={"tracks": run.held_out, "held_out": True})
    held_out = make_speech_set(other, arguments.work / "held-out.safetensors")
    rng = torch.Generator().manual_seed(run.seed)
    encoder = new_audio_encoder(run.encoder.config(), rng).to(arguments.device)
    stage = AudioStage(encoder, speech, run.stage, run.updates)
    run_stage(
        stage,
        arguments,
        updates=run.updates,
        seed=run.seed,
        measure=lambda: stage.measure(held_out),
    )
    stage.updater.use_averaged()
    export_audio_encoder(encoder, arguments.output)
