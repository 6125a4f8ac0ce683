"""Stage 2, as a stage that the training loop drives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ...models.generator import Generator
from ..data.encoded_dataset import EncodedDataset
from ..networks.initialisation import frozen, trainable
from ..optimisation.updates import Updater, UpdateSettings, device_of, mixed_precision
from ..settings import Settings
from .losses import (
    DistillationSettings,
    StudentStart,
    fake_losses,
    start_student,
    student_losses,
)
from .rollout import NextMotion


class StudentSettings(Settings):
    """Stage 2; learning rates and the 1:5 ratio are the paper's (DESIGN §1.8).

    batch: clips an update. fake_updates: updates of the fake score for each of the student. reuse:
    whether all these share one rollout of the chunks before the last, which saves time and which
    the paper does not do. student, fake: how these networks learn.
    """

    batch: int = 4
    fake_updates: int = 5
    reuse: bool = False
    distillation: DistillationSettings = DistillationSettings()
    student: UpdateSettings = UpdateSettings(learning_rate=2e-6, betas=(0.0, 0.999))
    fake: UpdateSettings = UpdateSettings(learning_rate=4e-7, betas=(0.0, 0.999), average=0.0)


class DistillationStage:
    """Student, frozen real score and fake score, which all begin as stage 1's generator.

    Args:
        generator: of stage 1; it is copied.
        dataset: the encoded clips.
        next_motion: how the chunks of a rollout are joined.
        settings: of rollouts, losses and updates.
        updates: of the student in the whole run; see `Updater`.
        adapt: applied to student and fake score before they train, such as `add_lora` or
            `checkpoint_blocks`.
    """

    def __init__(
        self,
        generator: Generator,
        dataset: EncodedDataset,
        next_motion: NextMotion,
        settings: StudentSettings,
        updates: int = 0,
        adapt: Callable[[Generator], Generator] = lambda network: network,
    ):
        device = device_of(generator)
        self.dataset, self.next_motion, self.settings = dataset, next_motion, settings
        self.student = adapt(trainable(generator, device))
        self.real = frozen(generator, device)
        self.fake = adapt(trainable(generator, device))
        self.student_updater = Updater(settings.student, self.student, updates=updates)
        self.fake_updater = Updater(
            settings.fake, self.fake, updates=updates * settings.fake_updates
        )

    def start(self, rng: torch.Generator) -> StudentStart:
        """Roll the student out over random chunks, up to its last one."""
        chunks, colors = self.dataset.draw_runs(
            self.settings.batch, self.settings.distillation.chunks, rng
        )
        device = device_of(self.student)
        chunks = [chunk.to(device) for chunk in chunks]
        with mixed_precision(device, self.settings.student.precision):
            return start_student(
                self.student,
                chunks,
                self.next_motion,
                colors.to(device),
                self.settings.distillation,
                rng,
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
