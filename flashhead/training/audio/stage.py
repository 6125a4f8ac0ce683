"""Pre-training of the audio encoder, as a stage that the training loop drives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...geometry import CHUNK_FRAMES
from ...models.wav2vec2 import AudioEncoder
from ..data.encoded_clips import cached_samples
from ..networks.initialisation import new_readout
from ..optimisation.updates import Losses, Updater, UpdateSettings, device_of
from ..settings import Settings
from ..signals import correlation
from .readout import MouthReadout, draw_speech, read_mouth, readout_losses


class AudioSettings(Settings):
    """batch: clips an update. noise: see `draw_speech`. The weights: see `readout_losses`."""

    batch: int = 8
    noise: float = 0.02
    tail_weight: float = 1.0
    temporal_weight: float = 1.0
    update: UpdateSettings = UpdateSettings(learning_rate=1e-3)


class AudioStage:
    """Trains an audio encoder to predict openness and width of the mouth.

    Args:
        encoder: trained in place.
        clips: (speech (N,) at 16 kHz, mouth (F, 2)) each.
        settings: of batches, losses and updates.
        updates: of the whole run; see `Updater`.
    """

    def __init__(
        self,
        encoder: AudioEncoder,
        clips: Sequence[tuple[Tensor, Tensor]],
        settings: AudioSettings,
        updates: int = 0,
    ):
        self.encoder, self.clips, self.settings = encoder, clips, settings
        config = encoder.config
        self.readout = new_readout(
            lambda: MouthReadout(config.num_hidden_layers, config.hidden_size),
            torch.Generator().manual_seed(0),
        ).to(device_of(encoder))
        self.updater = Updater(settings.update, encoder, self.readout, updates=updates)

    def step(self, rng: torch.Generator) -> dict[str, float]:
        """One update; losses by name."""

        def losses() -> Losses:
            picks = torch.randint(len(self.clips), (self.settings.batch,), generator=rng)
            clips = [self.clips[pick] for pick in picks.tolist()]
            batch = draw_speech(clips, rng, noise=self.settings.noise).to(device_of(self.encoder))
            return readout_losses(
                read_mouth(self.encoder, self.readout, batch.waveform).float(),
                batch.mouth,
                tail_weight=self.settings.tail_weight,
                temporal_weight=self.settings.temporal_weight,
            )

        return self.updater.update(losses)

    @torch.no_grad()
    def measure(self, clips: Sequence[tuple[Tensor, Tensor]]) -> dict[str, float]:
        """Correlation of openness and width with the truth on other clips, predicted as in a
        stream: chunk by chunk, each from the end of the audio cache."""
        predicted, truth = [], []
        for speech, mouth in clips:
            ends = list(range(CHUNK_FRAMES, len(mouth) + 1, CHUNK_FRAMES))
            caches = torch.stack([cached_samples(speech, end) for end in ends])
            found = read_mouth(self.encoder, self.readout, caches.to(device_of(self.encoder)))
            predicted.append(found[:, -CHUNK_FRAMES:].flatten(0, 1).cpu())
            truth.append(mouth[: ends[-1]])
        columns = zip(torch.cat(truth).T, torch.cat(predicted).T, strict=True)
        return {
            name: correlation(true, found)
            for name, (true, found) in zip(("openness", "width"), columns, strict=True)
        }

    def state_dict(self) -> dict[str, Any]:
        return self.updater.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updater.load_state_dict(state)
