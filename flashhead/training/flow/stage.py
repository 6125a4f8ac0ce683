"""Stage 1 as a stage that the training loop drives."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ...models.generator import Generator
from ..data.chunk_batch import ChunkBatch
from ..data.clip_library import ClipLibrary
from ..networks.initialisation import new_readout
from ..optimisation.updates import Losses, Updater, UpdateSettings, device_of
from .losses import flow_losses
from .matching import FlowDraws, predict_flow
from .mouth_head import MouthHead, mouth_losses


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

    def planned(self, updates: int) -> FlowSettings:
        """With a learning rate that ends with the run's last update."""
        return replace(self, update=replace(self.update, updates=updates))


class FlowStage:
    """Stage 1: flow matching of a generator on encoded clips."""

    def __init__(self, generator: Generator, library: ClipLibrary, settings: FlowSettings):
        self.generator, self.library, self.settings = generator, library, settings
        self.head: MouthHead | None = None
        modules: list[torch.nn.Module] = [generator]
        if settings.mouth_weight:
            self.head = self._new_head().to(device_of(generator))
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
            batch = self.library.draw_chunks(settings.batch, rng).to(device_of(self.generator))
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
