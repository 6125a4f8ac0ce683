"""The three stages that follow the VAE's, as objects that a training loop can drive.

A stage makes one update at a time from a random generator on the CPU, says how it went, and can be
stopped and resumed by its `state_dict`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..audio_encoder import AudioEncoder
from ..color import ColorTarget
from ..generator import Generator
from .audio_pretraining import MouthReadout, draw_speech, read_mouth, readout_losses
from .chunk_batch import ChunkBatch
from .clip_library import ClipLibrary
from .distillation import (
    DistillationSettings,
    StudentStart,
    fake_losses,
    start_student,
    student_losses,
)
from .flow_losses import flow_losses
from .flow_matching import FlowDraws, predict_flow
from .initialisation import frozen, new_readout, trainable
from .mouth_head import MouthHead, mouth_losses
from .rollout import MotionPath
from .updates import Losses, Updater, UpdateSettings, mixed_precision

AnySettings = TypeVar("AnySettings", "AudioSettings", "FlowSettings", "StudentSettings")


def planned(settings: AnySettings, updates: int) -> AnySettings:
    """The settings with learning rates that end with the run's last update."""
    if isinstance(settings, StudentSettings):
        fake = replace(settings.fake, updates=updates * settings.fake_updates)
        return replace(settings, student=replace(settings.student, updates=updates), fake=fake)
    return replace(settings, update=replace(settings.update, updates=updates))


def _device(network: torch.nn.Module) -> torch.device:
    return next(network.parameters()).device


@dataclass(frozen=True)
class AudioSettings:
    """batch: clips. noise: see `draw_speech`. The weights: see `readout_losses`."""

    batch: int = 8
    noise: float = 0.02
    tail_weight: float = 1.0
    temporal_weight: float = 1.0
    update: UpdateSettings = field(default_factory=lambda: UpdateSettings(learning_rate=1e-3))


class AudioStage:
    """Trains an audio encoder to say how the mouth is.

    clips: (speech (N,) at 16 kHz, mouth (F, 2)) each.
    """

    def __init__(
        self,
        encoder: AudioEncoder,
        clips: Sequence[tuple[Tensor, Tensor]],
        settings: AudioSettings,
    ):
        self.encoder, self.clips, self.settings = encoder, clips, settings
        config = encoder.config
        self.readout = new_readout(
            lambda: MouthReadout(config.num_hidden_layers, config.hidden_size),
            torch.Generator().manual_seed(0),
        ).to(_device(encoder))
        self.updater = Updater(settings.update, encoder, self.readout)

    def step(self, rng: torch.Generator) -> dict[str, float]:
        """One update; losses by name."""

        def losses() -> Losses:
            picks = torch.randint(len(self.clips), (self.settings.batch,), generator=rng)
            clips = [self.clips[pick] for pick in picks.tolist()]
            batch = draw_speech(clips, rng, noise=self.settings.noise).to(_device(self.encoder))
            return readout_losses(
                read_mouth(self.encoder, self.readout, batch.waveform).float(),
                batch.mouth,
                tail_weight=self.settings.tail_weight,
                temporal_weight=self.settings.temporal_weight,
            )

        return self.updater.update(losses)

    def state_dict(self) -> dict[str, Any]:
        return self.updater.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updater.load_state_dict(state)


@dataclass(frozen=True)
class FlowSettings:
    """Stage 1; the defaults are the paper's where it says (DESIGN §1.8; its batch is 256).

    cold_start: how often a chunk gets its single first frame; 0 is the ablation. mouth_weight: of
    the auxiliary mouth head, 0 for none.
    """

    batch: int = 8
    shift: float = 5.0
    cold_start: float = 0.1
    audio_dropout: float = 0.1
    face_weight: float = 1.0
    temporal_weight: float = 0.5
    mouth_weight: float = 0.0
    update: UpdateSettings = field(default_factory=UpdateSettings)


class FlowStage:
    """Stage 1: flow matching of a generator on encoded clips."""

    def __init__(self, generator: Generator, library: ClipLibrary, settings: FlowSettings):
        self.generator, self.library, self.settings = generator, library, settings
        self.head: MouthHead | None = None
        modules: list[torch.nn.Module] = [generator]
        if settings.mouth_weight:
            self.head = self._new_head().to(_device(generator))
            modules.append(self.head)
        self.updater = Updater(settings.update, *modules)

    def _new_head(self) -> MouthHead:
        config = self.generator.config
        size = tuple(self.library.clips[0].reference.shape[-2:])
        return new_readout(
            lambda: MouthHead(config.out_dim, config.vae_stride[0], size),
            torch.Generator().manual_seed(0),
        )

    def losses(self, batch: ChunkBatch, draws: FlowDraws) -> Losses:
        """Of given draws, with gradients."""
        settings = self.settings
        prediction = predict_flow(self.generator, batch, draws)
        parts = flow_losses(
            prediction,
            batch.face,
            face_weight=settings.face_weight,
            temporal_weight=settings.temporal_weight,
        )
        if self.head is not None:
            mouth = mouth_losses(
                self.head, batch.latents, prediction.clean, batch.mouth, prediction.new
            )
            total = parts["loss"] + settings.mouth_weight * mouth["mouth"] + mouth["mouth_head"]
            parts = {**parts, **mouth, "loss": total}
        return parts

    def step(self, rng: torch.Generator) -> dict[str, float]:
        """One update; losses by name."""
        settings = self.settings

        def losses() -> Losses:
            batch = self.library.draw_chunks(settings.batch, rng).to(_device(self.generator))
            draws = FlowDraws.draw(
                batch.latents.shape,
                rng,
                shift=settings.shift,
                cold_start=settings.cold_start,
                audio_dropout=settings.audio_dropout,
            )
            return self.losses(batch, draws)

        return self.updater.update(losses)

    def state_dict(self) -> dict[str, Any]:
        return self.updater.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updater.load_state_dict(state)


@dataclass(frozen=True)
class StudentSettings:
    """Stage 2; learning rates and the 1:5 ratio are the paper's (DESIGN §1.8).

    fake_updates: of the fake score for each of the student. reuse: whether those updates share one
    rollout of the chunks before the last; a saving that the paper does not make.
    """

    batch: int = 4
    fake_updates: int = 5
    reuse: bool = False
    distillation: DistillationSettings = field(default_factory=DistillationSettings)
    student: UpdateSettings = field(
        default_factory=lambda: UpdateSettings(learning_rate=2e-6, betas=(0.0, 0.999))
    )
    fake: UpdateSettings = field(
        default_factory=lambda: UpdateSettings(learning_rate=4e-7, betas=(0.0, 0.999), average=0.0)
    )


class DistillationStage:
    """Stage 2: student, frozen real score and fake score, all begun as stage 1's generator.

    `adapt` changes student and fake score before they train, such as `add_lora` or
    `checkpoint_blocks`.
    """

    def __init__(
        self,
        generator: Generator,
        library: ClipLibrary,
        path: MotionPath,
        settings: StudentSettings,
        adapt: Callable[[Generator], Generator] = lambda network: network,
    ):
        device = _device(generator)
        self.library, self.path, self.settings = library, path, settings
        self.student = adapt(trainable(generator, device))
        self.real = frozen(generator, device)
        self.fake = adapt(trainable(generator, device))
        self.student_updater = Updater(settings.student, self.student)
        self.fake_updater = Updater(settings.fake, self.fake)

    def start(self, rng: torch.Generator) -> StudentStart:
        """Roll the student out over random chunks, up to its last one."""
        chunks, colors = self.library.draw_runs(
            self.settings.batch, self.settings.distillation.chunks, rng
        )
        device = _device(self.student)
        chunks = [chunk.to(device) for chunk in chunks]
        colors = ColorTarget(colors.mean.to(device), colors.std.to(device))
        with mixed_precision(device, self.settings.student.precision):
            return start_student(
                self.student, chunks, self.path, colors, self.settings.distillation, rng
            )

    def step(self, rng: torch.Generator) -> dict[str, float]:
        """One update of the student, after those of the fake score; losses by name."""
        settings = self.settings.distillation
        shared = self.start(rng) if self.settings.reuse else None
        figures: dict[str, float] = {}
        for _ in range(self.settings.fake_updates):
            fake = self.fake_updater.update(
                lambda: fake_losses(
                    self.student, self.fake, shared or self.start(rng), settings, rng
                )
            )
            figures["fake"] = figures.get("fake", 0) + fake["fake"] / self.settings.fake_updates
        student = self.student_updater.update(
            lambda: student_losses(
                self.student, self.real, self.fake, shared or self.start(rng), settings, rng
            )
        )
        return {**student, **figures}

    def state_dict(self) -> dict[str, Any]:
        return {
            "student": self.student_updater.state_dict(),
            "fake": self.fake_updater.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.student_updater.load_state_dict(state["student"])
        self.fake_updater.load_state_dict(state["fake"])
