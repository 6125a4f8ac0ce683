"""Stage 1, as a stage that the training loop drives."""

from __future__ import annotations

from typing import Any

import torch

from ...errors import FlashHeadError
from ...models.generator import Generator
from ..data.chunk_batch import ChunkBatch
from ..data.encoded_dataset import EncodedDataset
from ..networks.initialisation import new_readout
from ..optimisation.updates import Losses, Updater, UpdateSettings, device_of
from ..settings import Settings
from .losses import flow_losses
from .matching import FlowDraws, predict_flow
from .mouth_head import MouthHead, mouth_losses


class FlowSettings(Settings):
    """Stage 1; the defaults are the paper's where it gives one (DESIGN §1.8; its batch is 256).

    shift: of the noise levels, see `shift_sigma`. cold_start: share of the chunks that begin with a
    single first frame instead of motion frames; 0 is the ablation. audio_dropout: share of the
    chunks that get silence. face_weight, temporal_weight: of these losses. mouth_weight: of the
    auxiliary mouth head, 0 for none; the clips must know their mouths for it.
    """

    batch: int = 8
    shift: float = 5.0
    cold_start: float = 0.1
    audio_dropout: float = 0.1
    face_weight: float = 1.0
    temporal_weight: float = 0.5
    mouth_weight: float = 0.0
    update: UpdateSettings = UpdateSettings()


class FlowStage:
    """Flow matching of a generator on encoded clips.

    Args:
        generator: trained in place.
        dataset: the encoded clips.
        settings: of batches, losses and updates.
        updates: of the whole run; see `Updater`.

    Raises:
        FlashHeadError: a mouth head for clips whose mouths are not known.
    """

    def __init__(
        self,
        generator: Generator,
        dataset: EncodedDataset,
        settings: FlowSettings,
        updates: int = 0,
    ):
        self.generator, self.dataset, self.settings = generator, dataset, settings
        self.head: MouthHead | None = None
        modules: list[torch.nn.Module] = [generator]
        if settings.mouth_weight:
            if not dataset.knows_mouth:
                raise FlashHeadError(
                    "The clips do not know their mouths, which the mouth head is trained on; set "
                    "stage.mouth_weight to 0."
                )
            self.head = self._new_head().to(device_of(generator))
            modules.append(self.head)
        self.updater = Updater(settings.update, *modules, updates=updates)

    def _new_head(self) -> MouthHead:
        config = self.generator.config
        height, width = self.dataset.clips[0].reference.shape[-2:]
        return new_readout(
            lambda: MouthHead(config.out_dim, config.vae_stride[0], (height, width)),
            torch.Generator().manual_seed(0),
        )

    def losses(self, batch: ChunkBatch, draws: FlowDraws) -> Losses:
        """Losses of a batch with given random draws, with gradients."""
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
            batch = self.dataset.draw_chunks(settings.batch, rng).to(device_of(self.generator))
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
